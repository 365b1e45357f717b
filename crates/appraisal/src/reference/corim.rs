//! Reference values from files: our JSON, or a CoRIM (draft-ietf-rats-corim), told apart by content. Our JSON is the
//! caller's own word; a CoRIM is somebody else's, so it must be signed by a key that the caller names, and hold now.

use evidence::corim::{Corim, Document, Signed, Validity};

use super::{InvalidReference, ReferenceFile, ReferenceValue, profiles};
use crate::cca::key::{self, Key};
use crate::{Crypto, TrustAnchor, UnixTime};

/// Whose CoRIMs are read.
#[derive(Clone, Copy, Debug)]
pub struct CorimPolicy<'a> {
    /// Those who may sign: keys on P-256, P-384 or P-521, or certificates of such keys.
    pub signers: &'a [TrustAnchor],
    /// What to do with a CoRIM that nobody signed.
    pub unsigned: Unsigned,
}

/// What to do with a CoRIM that nobody signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// Refuse it.
    Refused,
    /// Take it as the caller's own word, as our JSON is.
    Accepted,
}

/// What a file of reference values says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReferences {
    /// Any of these is acceptable.
    pub reference_values: Vec<ReferenceValue>,
    /// What the file says beside, and what is not compared: the platform's own state, which policies are for, and
    /// what is of one report alone.
    pub left_out: Vec<LeftOut>,
}

/// A value of a CoRIM that is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The reference value that it belongs to.
    pub label: String,
    /// Which element of the environment, in its profile's words.
    pub element: String,
}

/// Why a file gives no reference values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferencesRefused {
    /// It is no JSON of reference values.
    #[error("the JSON is not one of reference values: {0}")]
    Json(String),
    /// It is no CoRIM.
    #[error("the CoRIM cannot be read")]
    Malformed(#[from] evidence::Malformed),
    /// It is a CoRIM that nobody signed, and the caller did not say that this is acceptable.
    #[error("the CoRIM is not signed")]
    Unsigned,
    /// The signature is of none of the keys that the caller named.
    #[error("the CoRIM is signed by none of the {known} keys that were given")]
    UnknownSigner {
        /// How many keys there are.
        known: usize,
    },
    /// It does not hold yet.
    #[error("the CoRIM holds from {not_before}, and it is {now}")]
    NotYetValid {
        /// From when.
        not_before: UnixTime,
        /// The time given.
        now: UnixTime,
    },
    /// It does not hold any more.
    #[error("the CoRIM held until {not_after}, and it is {now}")]
    Expired {
        /// Until when.
        not_after: UnixTime,
        /// The time given.
        now: UnixTime,
    },
    /// Its profile is none that gives numbers a meaning that we know.
    #[error("profile {profile:?} is not known; known are {}", known.join(", "))]
    UnknownProfile {
        /// The profile; empty when there is none.
        profile: String,
        /// Those that are known.
        known: Vec<&'static str>,
    },
    /// A value that its profile does not allow, or that cannot be compared without widening what is accepted.
    #[error("{label}: {element}: {reason}")]
    Value {
        /// The reference value.
        label: String,
        /// Which element of the environment.
        element: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value that could never be matched, or that anything would match.
    #[error(transparent)]
    Invalid(#[from] InvalidReference),
    /// It expects nothing of any Evidence.
    #[error("the CoRIM has no reference values")]
    Empty,
}

impl ReadReferences {
    /// Reads a file: JSON begins with a brace, a CoRIM never does.
    ///
    /// # Errors
    /// [`ReferencesRefused`]; nothing of a file is used when a part of it is refused.
    pub fn from_file_bytes(
        bytes: &[u8],
        policy: CorimPolicy<'_>,
        now: UnixTime,
        crypto: &dyn Crypto,
    ) -> Result<Self, ReferencesRefused> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            let file: ReferenceFile =
                serde_json::from_slice(bytes).map_err(|error| ReferencesRefused::Json(error.to_string()))?;
            return Ok(Self { reference_values: file.reference_values, left_out: Vec::new() });
        }
        match Document::parse(bytes)? {
            Document::Signed(signed) => convert(verified(&signed, policy, now, crypto)?, now),
            Document::Unsigned(_) if policy.unsigned == Unsigned::Refused => Err(ReferencesRefused::Unsigned),
            Document::Unsigned(corim) => convert(&corim, now),
        }
    }
}

/// The manifest, when a named key signed it and the signature holds now.
fn verified<'a>(
    signed: &'a Signed,
    policy: CorimPolicy<'_>,
    now: UnixTime,
    crypto: &dyn Crypto,
) -> Result<&'a Corim, ReferencesRefused> {
    let signs = |anchor: &TrustAnchor| {
        Key::of_anchor(anchor.key())
            .is_some_and(|key| key::verify(signed.message(), key.curve, &key.point, crypto).is_ok())
    };
    if !policy.signers.iter().any(signs) {
        return Err(ReferencesRefused::UnknownSigner { known: policy.signers.len() });
    }
    holds(signed.signature_validity(), now)?;
    Ok(signed.unverified())
}

fn convert(corim: &Corim, now: UnixTime) -> Result<ReadReferences, ReferencesRefused> {
    holds(corim.validity, now)?;
    let mut read = ReadReferences { reference_values: Vec::new(), left_out: Vec::new() };
    for (index, triple) in corim.reference_triples.iter().enumerate() {
        let label = match corim.reference_triples.len() {
            1 => corim.id.clone(),
            _ => format!("{}#{index}", corim.id),
        };
        let value = profiles::value(corim.profile.as_deref(), label, triple, &mut read.left_out)?;
        read.reference_values.push(value);
    }
    match read.reference_values.is_empty() {
        true => Err(ReferencesRefused::Empty),
        false => Ok(read),
    }
}

fn holds(validity: Validity, now: UnixTime) -> Result<(), ReferencesRefused> {
    match (validity.not_before.map(UnixTime), validity.not_after.map(UnixTime)) {
        (Some(not_before), _) if now < not_before => Err(ReferencesRefused::NotYetValid { not_before, now }),
        (_, Some(not_after)) if now > not_after => Err(ReferencesRefused::Expired { not_after, now }),
        _ => Ok(()),
    }
}
