//! The manifest's signers as those who verify know them.

use std::collections::BTreeMap;

use appraisal::{TrustAnchor, UnixTime};
use manifest::{Manifest, ReferenceSigner, SignerName, TrustedRoot};
use reference_statements::{InvalidTrustRoot, PublicKey, Signer, Signers, TrustRoot};

use crate::core::Refusal;

/// All of them.
///
/// # Errors
/// [`Refusal::ReferenceSigner`] for one whose key or trust root nothing could be verified with.
pub fn signers(manifest: &Manifest) -> Result<Signers, Refusal> {
    known(manifest.reference_signers())
}

/// As [`signers`], those of workloads: the Keep verifies by them, and a manifest by whose signers nothing could be
/// verified is refused here.
///
/// # Errors
/// [`Refusal::ReferenceSigner`].
pub fn workload_signers(manifest: &Manifest) -> Result<Signers, Refusal> {
    known(manifest.workload_signers())
}

fn known(signers: &BTreeMap<SignerName, ReferenceSigner>) -> Result<Signers, Refusal> {
    let one = |(name, signer): (&SignerName, &ReferenceSigner)| {
        let signer = self::signer(name.as_str(), signer);
        let signer =
            signer.map_err(|reason| Refusal::ReferenceSigner { signer: name.to_string(), reason })?;
        Ok((name.to_string(), signer))
    };
    signers.iter().map(one).collect()
}

fn signer(name: &str, signer: &ReferenceSigner) -> Result<Signer, String> {
    Ok(match signer {
        ReferenceSigner::Key { key, log } => Signer::Key {
            key: PublicKey::from_spki(key).map_err(|error| error.to_string())?,
            log: log.as_ref().map(root).transpose().map_err(|error| error.to_string())?,
        },
        ReferenceSigner::Sigstore { identity, issuer, root: trusted } => Signer::Sigstore {
            identity: identity.clone(),
            issuer: issuer.clone(),
            root: root(trusted).map_err(|error| error.to_string())?,
        },
        ReferenceSigner::Corim(keys) => {
            let anchors = keys.iter().map(|key| TrustAnchor::from_file_bytes(name, key.as_bytes()));
            let anchors: Result<Vec<_>, _> = anchors.collect();
            Signer::Corim(anchors.map_err(|error| error.to_string())?.concat())
        }
    })
}

fn root(root: &TrustedRoot) -> Result<TrustRoot, InvalidTrustRoot> {
    TrustRoot::from_json(&root.json, UnixTime(root.expires))
}
