//! Whose signatures count, as people say it.

use std::{collections::BTreeMap, path::PathBuf};

use appraisal::UnixTime;
use clap::Args;
use keep_protocol::package::{Proof, Sigstore};
use reference_statements::{PublicKey, Signer, Signers, TrustRoot};
use serde_bytes::ByteBuf;

use crate::failure::{Input, Outcome};

/// Whose signatures count.
#[derive(Args)]
pub struct Known {
    /// A public key whose signatures count, PEM
    #[arg(long = "signer", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// An identity whose Sigstore signatures count, as its certificate has it
    #[arg(long, value_name = "IDENTITY", requires_all = ["issuer", "trusted_root"])]
    identity: Option<String>,
    /// Who vouched for the identity: the OpenID provider's URL
    #[arg(long, value_name = "URL", requires = "identity")]
    issuer: Option<String>,
    /// The Sigstore instance's trusted_root.json
    #[arg(long, value_name = "FILE", requires = "identity")]
    trusted_root: Option<PathBuf>,
}

impl Known {
    /// Whether anybody's signature is asked for.
    pub(super) fn asked(&self) -> bool {
        !self.keys.is_empty() || self.identity.is_some()
    }

    /// By names that say where they are from.
    pub(super) fn signers(&self) -> Outcome<Signers> {
        let mut signers: Vec<(String, Signer)> =
            self.keys()?.into_iter().map(|(name, key)| (name, Signer::Key { key, log: None })).collect();
        if let Some((sigstore, root)) = self.sigstore()? {
            let Sigstore { identity, issuer, .. } = sigstore;
            signers.push((identity.clone(), Signer::Sigstore { identity, issuer, root }));
        }
        Ok(signers.into_iter().collect())
    }

    /// The same for a Keep, which is to verify in our place; by name, each once.
    pub(super) fn for_keep(&self) -> Outcome<Vec<keep_protocol::package::Signer>> {
        let key = |(name, key): (String, PublicKey)| (name, Proof::Key(ByteBuf::from(key.spki())));
        let mut signers: BTreeMap<String, Proof> = self.keys()?.into_iter().map(key).collect();
        if let Some((sigstore, _)) = self.sigstore()? {
            signers.insert(sigstore.identity.clone(), Proof::Sigstore(Box::new(sigstore)));
        }
        Ok(signers.into_iter().map(|(name, proof)| keep_protocol::package::Signer { name, proof }).collect())
    }

    fn keys(&self) -> Outcome<Vec<(String, PublicKey)>> {
        let mut keys = Vec::new();
        for file in &self.keys {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file).malformed(format!("{name} cannot be read"))?;
            keys.push((
                name.clone(),
                PublicKey::from_pem(&text).malformed(format!("{name} is no public key"))?,
            ));
        }
        Ok(keys)
    }

    /// The identity, and the trust root, which can be used.
    fn sigstore(&self) -> Outcome<Option<(Sigstore, TrustRoot)>> {
        let (Some(identity), Some(issuer), Some(file)) = (&self.identity, &self.issuer, &self.trusted_root)
        else {
            return Ok(None);
        };
        let name = file.display().to_string();
        let json = std::fs::read_to_string(file).malformed(format!("{name} cannot be read"))?;
        // Whoever gives the file says with it that it is good now.
        let root = TrustRoot::from_json(&json, UnixTime(i64::MAX));
        let root = root.malformed(format!("{name} cannot be used"))?;
        let sigstore = Sigstore { root: json, issuer: issuer.clone(), identity: identity.clone() };
        Ok(Some((sigstore, root)))
    }
}
