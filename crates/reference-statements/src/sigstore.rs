//! Sigstore bundles (v0.1 to v0.3), verified without network by a trust root that the caller gives: certificate, its
//! signed certificate timestamp, identity, the log's inclusion proof and checkpoint, the time of signing.
//!
//! The cryptography is the Sigstore project's own (`sigstore-verify`). It reads the system's clock for one check beside
//! ours: a time of signing in the future is refused. What is asked here in addition: an entry in a log, always, and that
//! the log's key counted at the time of signing, also where entries have no time of their own (Rekor 2).
//!
//! A bundle over a message has the message beside it, as one JSON:
//! `{"mediaType": "application/vnd.bailey.signed-values+json", "payload": "<base64 of the values>", "bundle": {…}}`.

use appraisal::UnixTime;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use sigstore_verify::types::{Artifact, Bundle, DerPublicKey, Sha256Hash, SignatureContent};
use sigstore_verify::{PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult};

use crate::dsse::PAYLOAD_TYPE;
use crate::intoto;
use crate::refused::Refused;
use crate::signer::{Signer, Signers, TrustRoot};
use crate::statement::{Certified, LogEntry, Says};
use crate::values::Values;

/// A bundle over values, and the values.
pub const SIGNED_VALUES_TYPE: &str = "application/vnd.bailey.signed-values+json";
const PART: &str = "Sigstore bundle";

/// A bundle with what it signs; not verified.
pub(crate) struct Bundled {
    bundle: Bundle,
    /// What a message signature is over.
    payload: Option<Vec<u8>>,
}

/// What a bundle proves.
pub(crate) struct Proven {
    pub(crate) signer: String,
    pub(crate) says: Says,
    pub(crate) log: LogEntry,
    pub(crate) signed_at: Option<UnixTime>,
    pub(crate) certified: Option<Certified>,
    /// Signer and end of the trust root.
    pub(crate) root: (String, UnixTime),
}

/// Who signed a statement that is in a log.
pub(crate) struct Logged {
    pub(crate) signer: String,
    pub(crate) log: LogEntry,
    pub(crate) certified: Option<Certified>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignedValues<'a> {
    #[serde(rename = "mediaType")]
    _media_type: String,
    payload: String,
    #[serde(borrow)]
    bundle: &'a RawValue,
}

impl Bundled {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            media_type: String,
        }
        let malformed = |error: &dyn std::fmt::Display| Refused::malformed(PART, error);
        let text = str::from_utf8(bytes).map_err(|error| malformed(&error))?;
        let kind: Kind = serde_json::from_str(text).map_err(|error| malformed(&error))?;
        let bundle = |json: &str| Bundle::from_json(json).map_err(|error| malformed(&error));
        if kind.media_type != SIGNED_VALUES_TYPE {
            return Ok(Self { bundle: bundle(text)?, payload: None });
        }
        let wire: SignedValues<'_> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
        let payload = STANDARD.decode(&wire.payload).map_err(|error| malformed(&error))?;
        Ok(Self { bundle: bundle(wire.bundle.get())?, payload: Some(payload) })
    }

    /// The signer of whom this is, the first by name where several would do: one signature is one word.
    pub(crate) fn verify(self, signers: &Signers) -> Result<Proven, Refused> {
        let said = self.said()?;
        let (name, root, log, result) = self.signed(&said.artefact, signers)?;
        Ok(self.proven(name, root, log, &result, said.says))
    }

    /// As [`Bundled::verify`], for a statement of any predicate, which is for the caller to read.
    pub(crate) fn about(
        self,
        artefact: &[u8; 32],
        signers: &Signers,
        now: UnixTime,
    ) -> Result<Logged, Refused> {
        let artefact = Content::Digest(Sha256Hash::new(*artefact));
        let (name, root, log, result) = self.signed(&artefact, signers)?;
        if now > root.expires {
            return Err(Refused::TrustRootExpired { signer: name.to_owned(), expires: root.expires, now });
        }
        let times = result.verified_timestamps().iter().map(|time| UnixTime(time.as_second()));
        if let Some(signed) = times.max().filter(|signed| *signed > now) {
            return Err(Refused::SignedInFuture { signed, now });
        }
        Ok(Logged { signer: name.to_owned(), log, certified: certified(&result) })
    }

    fn signed<'s>(
        &self,
        artefact: &Content,
        signers: &'s Signers,
    ) -> Result<(&'s str, &'s TrustRoot, LogEntry, VerificationResult), Refused> {
        let (mut reasons, mut not_in_log) = (Vec::new(), None);
        for (name, signer) in signers.iter() {
            let root = match signer {
                Signer::Sigstore { root, .. } | Signer::Key { log: Some(root), .. } => root,
                Signer::Key { log: None, .. } | Signer::Corim(_) => continue,
            };
            let Some(log) = self.log_entry() else {
                not_in_log = Some(name.to_owned());
                continue;
            };
            match self.by(signer, root, artefact) {
                Err(reason) => reasons.push(format!("{name}: {reason}")),
                Ok(result) => return Ok((name, root, log, result)),
            }
        }
        match not_in_log {
            Some(signer) => Err(Refused::NotInLog { signer }),
            None => Err(Refused::UnknownSigner { known: signers.len(), reasons }),
        }
    }

    /// What is signed: the payload, and the digest that the verifier is to compare.
    fn said(&self) -> Result<Said, Refused> {
        match (&self.bundle.content, &self.payload) {
            (SignatureContent::DsseEnvelope(envelope), None) => {
                if envelope.payload_type != PAYLOAD_TYPE {
                    return Err(Refused::malformed(PART, "its envelope carries no in-toto statement"));
                }
                let says = intoto::read(envelope.payload.as_bytes())?;
                let subject = match &says {
                    Says::Values(values) => values.subjects.first(),
                    Says::Provenance(provenance) => provenance.subjects.first(),
                };
                let subject =
                    subject.ok_or_else(|| Refused::malformed(PART, "its statement has no subject"))?;
                Ok(Said { artefact: Content::Digest(Sha256Hash::new(subject.0)), says })
            }
            (SignatureContent::MessageSignature(_), Some(payload)) => {
                let says = Says::Values(Values::from_json(payload)?);
                Ok(Said { artefact: Content::Bytes(payload.clone()), says })
            }
            (SignatureContent::MessageSignature(_), None) => {
                Err(Refused::malformed(PART, "it signs a message that is not here: give the message with it"))
            }
            _ => Err(Refused::malformed(PART, "it signs something else than what comes with it")),
        }
    }

    /// Each entry is verified; the first is told of. One without an inclusion proof is none.
    fn log_entry(&self) -> Option<LogEntry> {
        let entries = &self.bundle.verification_material.tlog_entries;
        if entries.iter().any(|entry| entry.inclusion_proof.is_none()) {
            return None;
        }
        let first = entries.first()?;
        let index = serde_json::to_value(first.log_index).ok()?;
        let index = index.as_u64().or_else(|| index.as_str().and_then(|text| text.parse().ok()))?;
        Some(LogEntry { log: hex::encode(first.log_id.key_id.as_bytes()), index })
    }

    fn by(
        &self,
        signer: &Signer,
        root: &TrustRoot,
        artefact: &Content,
    ) -> Result<VerificationResult, String> {
        let artefact: Artifact<'_> = match artefact {
            Content::Digest(digest) => Artifact::from(digest),
            Content::Bytes(bytes) => Artifact::from(bytes.as_slice()),
        };
        let verified = match signer {
            Signer::Sigstore { identity, issuer, .. } => {
                let policy = VerificationPolicy::new(identity.as_str(), issuer);
                root.verifier.verify(artefact, &self.bundle, &policy)
            }
            Signer::Key { key, .. } => {
                let key = DerPublicKey::new(key.spki().to_vec());
                root.verifier.verify(artefact, &self.bundle, &PublicKeyVerificationPolicy::new(key))
            }
            Signer::Corim(_) => return Err("it signs CoRIMs".into()),
        };
        let result = verified.map_err(|error| error.to_string())?;
        for entry in &self.bundle.verification_material.tlog_entries {
            let log = entry.log_id.key_id.as_bytes();
            let mut times = result.verified_timestamps().iter().map(|time| UnixTime(time.as_second()));
            if !times.all(|time| root.is_log_at(log, time)) {
                return Err("the key of its log did not count when it was signed".into());
            }
        }
        Ok(result)
    }

    fn proven(
        &self,
        name: &str,
        root: &TrustRoot,
        log: LogEntry,
        result: &VerificationResult,
        says: Says,
    ) -> Proven {
        let times = result.verified_timestamps().iter().map(|time| UnixTime(time.as_second()));
        let certified = certified(result);
        Proven {
            signer: name.to_owned(),
            says,
            log,
            signed_at: times.max(),
            certified,
            root: (name.to_owned(), root.expires),
        }
    }
}

fn certified(result: &VerificationResult) -> Option<Certified> {
    result.certificate().zip(result.identity()).map(|(certificate, identity)| Certified {
        identity: identity.as_str().to_owned(),
        issuer: result.issuer().unwrap_or_default().to_owned(),
        source: certificate.ci_claims.source_repository_uri.clone(),
        revision: certificate.ci_claims.source_repository_digest.clone(),
    })
}

struct Said {
    artefact: Content,
    says: Says,
}

enum Content {
    Digest(Sha256Hash),
    Bytes(Vec<u8>),
}
