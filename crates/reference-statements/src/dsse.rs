//! DSSE envelopes (secure-systems-lab/dsse, v1.0): the signature is over the payload's type and bytes together.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::key::Encoding;
use crate::refused::Refused;
use crate::signer::{Signer, Signers};

/// What our envelopes carry.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const PART: &str = "DSSE envelope";
/// More signatures than this are not verified.
const MOST_SIGNATURES: usize = 16;

/// An envelope, not verified.
pub(crate) struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

/// `keyid` is a hint that nobody signed: it is not looked at.
#[derive(Deserialize)]
struct Signature {
    sig: String,
}

impl Envelope {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| Refused::malformed(PART, error))?;
        if wire.payload_type != PAYLOAD_TYPE {
            let reason = format!("its payload is {:?}, not {PAYLOAD_TYPE:?}", wire.payload_type);
            return Err(Refused::malformed(PART, reason));
        }
        if wire.signatures.is_empty() {
            return Err(Refused::Unsigned);
        }
        if wire.signatures.len() > MOST_SIGNATURES {
            return Err(Refused::malformed(PART, format_args!("more than {MOST_SIGNATURES} signatures")));
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|error| Refused::malformed(PART, error));
        Ok(Self {
            payload: decode(&wire.payload)?,
            signatures: wire.signatures.iter().map(|it| decode(&it.sig)).collect::<Result<_, _>>()?,
        })
    }

    /// What was signed, by whomever.
    pub(crate) fn payload(self) -> Vec<u8> {
        self.payload
    }

    /// Who of `signers` signed it, and what they signed. Keys whose signatures must be in a log sign no envelope that
    /// comes without the proof of that.
    pub(crate) fn verify(self, signers: &Signers) -> Result<(Vec<String>, Vec<u8>), Refused> {
        let message = pae(&self.payload);
        let (mut signed, mut not_in_log) = (Vec::new(), None);
        for (name, signer) in signers.iter() {
            let Signer::Key { key, log } = signer else { continue };
            if self.signatures.iter().any(|signature| key.signed(Encoding::Der, &message, signature)) {
                match log {
                    None => signed.push(name.to_owned()),
                    Some(_) => not_in_log = Some(name.to_owned()),
                }
            }
        }
        match (signed.is_empty(), not_in_log) {
            (false, _) => Ok((signed, self.payload)),
            (true, Some(signer)) => Err(Refused::NotInLog { signer }),
            (true, None) => Err(Refused::UnknownSigner { known: signers.len(), reasons: Vec::new() }),
        }
    }
}

/// The bytes that are signed: pre-authentication encoding of type and payload.
pub(crate) fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
