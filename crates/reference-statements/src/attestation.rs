//! Sigstore bundles of an in-toto statement about one artefact: who signed them, whatever they say. By an identity or a
//! key whose signatures are in a log they are verified as all bundles are; by a key alone, its signature of the envelope
//! is what counts, and nothing else of the bundle is looked at.

use appraisal::UnixTime;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dsse::Envelope;
use crate::refused::Refused;
use crate::signer::{Signer, Signers};
use crate::sigstore::Bundled;
use crate::statement::{Certified, LogEntry, MAX_LENGTH};

/// Sigstore bundles, version 0.3.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PART: &str = "Sigstore bundle";

/// A statement that one of the signers signed. [`Attested::verify`] is its only origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    signer: String,
    statement: Vec<u8>,
    log: Option<LogEntry>,
    certified: Option<Certified>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    media_type: String,
    #[serde(borrow)]
    dsse_envelope: Option<&'a RawValue>,
}

impl Attested {
    /// Verifies a bundle about the artefact with this SHA-256. What the statement says of it is for the caller to read.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(
        bundle: &[u8],
        artefact: &[u8; 32],
        signers: &Signers,
        now: UnixTime,
    ) -> Result<Self, Refused> {
        if bundle.len() > MAX_LENGTH {
            return Err(Refused::TooLong { limit: MAX_LENGTH, seen: bundle.len() });
        }
        let wire: Wire<'_> =
            serde_json::from_slice(bundle).map_err(|error| Refused::malformed(PART, error))?;
        if !wire.media_type.starts_with("application/vnd.dev.sigstore.bundle") {
            return Err(Refused::malformed(PART, format_args!("its type is {:?}", wire.media_type)));
        }
        let Some(envelope) = wire.dsse_envelope else {
            return Err(Refused::malformed(PART, "it signs bytes, and no statement about them"));
        };
        let envelope = || Envelope::parse(envelope.get().as_bytes());
        let by_key = match envelope()?.verify(signers) {
            Ok((mut names, statement)) => {
                let signer = names.swap_remove(0);
                return Ok(Self { signer, statement, log: None, certified: None });
            }
            Err(refused) => refused,
        };
        let logged = |(_, signer): (&str, &Signer)| {
            matches!(signer, Signer::Sigstore { .. } | Signer::Key { log: Some(_), .. })
        };
        if !signers.iter().any(logged) {
            return Err(by_key);
        }
        let proven = Bundled::parse(bundle)?.about(artefact, signers, now)?;
        let (signer, log, certified) = (proven.signer, Some(proven.log), proven.certified);
        Ok(Self { signer, statement: envelope()?.payload(), log, certified })
    }

    /// Who signed it, by the caller's name: the first of them, where several did.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// The exact bytes that were signed: an in-toto statement, not yet read.
    pub fn statement(&self) -> &[u8] {
        &self.statement
    }

    /// Where the signature is in a log, where it must be.
    pub fn log(&self) -> Option<&LogEntry> {
        self.log.as_ref()
    }

    /// What a CA certified of the signer.
    pub fn certified(&self) -> Option<&Certified> {
        self.certified.as_ref()
    }
}
