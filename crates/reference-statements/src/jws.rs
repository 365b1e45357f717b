//! Values as a JWS (RFC 7515): compact, or flattened JSON. Keys that sign other tokens too sign no values by accident:
//! the type in the protected header must say what this is.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::key::{Encoding, Kind};
use crate::refused::Refused;
use crate::signer::{Signer, Signers};

/// `typ` of the protected header.
pub(crate) const TYPE: &str = "bailey-reference-values+jws";
const PART: &str = "JWS";

/// A message, not verified.
pub(crate) struct Message {
    kind: Kind,
    /// Header and payload as they are signed.
    signed: String,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    protected: String,
    payload: String,
    signature: String,
}

/// `kid` is a hint, and not looked at. Any other field could change what the signature means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    #[serde(default, rename = "kid")]
    _kid: Option<String>,
}

impl Message {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let text = str::from_utf8(bytes).map_err(|error| Refused::malformed(PART, error))?.trim();
        let [protected, payload, signature] = if text.starts_with('{') {
            let wire: Flattened =
                serde_json::from_str(text).map_err(|error| Refused::malformed(PART, error))?;
            [wire.protected, wire.payload, wire.signature]
        } else {
            let parts: Vec<_> = text.split('.').map(str::to_owned).collect();
            parts.try_into().map_err(|_| Refused::malformed(PART, "it has not three parts"))?
        };
        let decode =
            |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|error| Refused::malformed(PART, error));
        let header: Header = serde_json::from_slice(&decode(&protected)?)
            .map_err(|error| Refused::malformed("header of the JWS", error))?;
        if header.typ != TYPE {
            return Err(Refused::malformed(PART, format_args!("its type is {:?}, not {TYPE:?}", header.typ)));
        }
        let kind = match header.alg.as_str() {
            "ES256" => Kind::P256,
            "ES384" => Kind::P384,
            "EdDSA" | "Ed25519" => Kind::Ed25519,
            "none" => return Err(Refused::Unsigned),
            other => {
                return Err(Refused::malformed(
                    PART,
                    format_args!("{other:?} is none of ES256, ES384, EdDSA"),
                ));
            }
        };
        Ok(Self {
            kind,
            payload: decode(&payload)?,
            signature: decode(&signature)?,
            signed: format!("{protected}.{payload}"),
        })
    }

    /// Who of `signers` signed it, and what they signed.
    pub(crate) fn verify(self, signers: &Signers) -> Result<(Vec<String>, Vec<u8>), Refused> {
        let (mut by, mut not_in_log) = (Vec::new(), None);
        for (name, signer) in signers.iter() {
            let Signer::Key { key, log } = signer else { continue };
            if key.kind() == self.kind && key.signed(Encoding::Fixed, self.signed.as_bytes(), &self.signature)
            {
                match log {
                    None => by.push(name.to_owned()),
                    Some(_) => not_in_log = Some(name.to_owned()),
                }
            }
        }
        match (by.is_empty(), not_in_log) {
            (false, _) => Ok((by, self.payload)),
            (true, Some(signer)) => Err(Refused::NotInLog { signer }),
            (true, None) => Err(Refused::UnknownSigner { known: signers.len(), reasons: Vec::new() }),
        }
    }
}
