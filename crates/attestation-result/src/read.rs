//! Tokens as a relying party gets them: which form they have, and what they claim, in one shape for both.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value;
use coset::{CborSerializable, CoseSign1, TaggedCborSerializable};
use serde_json::{Map, Value as Json};

use crate::token::{MAX_TOKEN, is_profile};
use crate::vector::NAMES;
use crate::{InvalidToken, Tier};

/// How deep claims may be nested.
const MAX_DEPTH: usize = 16;

/// A token, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// JWT.
    Jwt(String),
    /// CWT.
    Cwt(Vec<u8>),
}

impl Token {
    /// Tells the forms apart: a JWT is text of three parts, everything else is taken for a CWT.
    ///
    /// # Errors
    /// [`InvalidToken::Malformed`] for what is too long.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidToken> {
        if bytes.len() > MAX_TOKEN {
            return Err(InvalidToken::Malformed(format!("{} bytes", bytes.len())));
        }
        let text = str::from_utf8(bytes).map(str::trim_ascii).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !text.is_empty() && text.bytes().all(plain) {
            return Ok(Self::Jwt(text.to_owned()));
        }
        Ok(Self::Cwt(bytes.to_vec()))
    }

    /// What it claims, whoever signed it: to be looked at, and nothing to be relied on.
    ///
    /// # Errors
    /// [`InvalidToken::Malformed`] when it is no EAR token of this profile.
    pub fn unverified_claims(&self) -> Result<Json, InvalidToken> {
        let claims = match self {
            Self::Jwt(text) => {
                let parts: Vec<_> = text.split('.').collect();
                let [_, payload, _] = parts.as_slice() else { return Err(malformed("not three parts")) };
                let payload = URL_SAFE_NO_PAD.decode(payload).map_err(malformed)?;
                serde_json::from_slice(&payload).map_err(malformed)?
            }
            Self::Cwt(bytes) => {
                let signed = CoseSign1::from_tagged_slice(bytes).or_else(|_| CoseSign1::from_slice(bytes));
                claims_of_cbor(&signed.map_err(malformed)?.payload.unwrap_or_default())?
            }
        };
        if is_profile(&claims) { Ok(claims) } else { Err(malformed("another profile")) }
    }
}

fn malformed(fault: impl ToString) -> InvalidToken {
    InvalidToken::Malformed(fault.to_string())
}

/// The claims of a CWT's payload under their names in JSON.
pub(crate) fn claims_of_cbor(payload: &[u8]) -> Result<Json, InvalidToken> {
    let mut rest = payload;
    let value: Value =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH).map_err(malformed)?;
    if !rest.is_empty() {
        return Err(malformed("bytes after the claims"));
    }
    object(&value, |key, value| {
        Some(match key.as_integer().and_then(|key| i64::try_from(key).ok()) {
            Some(4) => ("exp".into(), plain(value)?),
            Some(6) => ("iat".into(), plain(value)?),
            Some(10) => ("eat_nonce".into(), plain(value)?),
            Some(265) => ("eat_profile".into(), plain(value)?),
            Some(266) => {
                let submodule = |value: &Value| object(value, submodule_claim).ok();
                let named = |key: &Value, value: &Value| Some((key.as_text()?.to_owned(), submodule(value)?));
                ("submods".into(), object(value, named).ok()?)
            }
            Some(1000) => ("ear_status".into(), status(value)?),
            Some(1004) => ("ear_verifier_id".into(), object(value, verifier_id).ok()?),
            _ => return None,
        })
    })
}

fn submodule_claim(key: &Value, value: &Value) -> Option<(String, Json)> {
    let name = match i64::try_from(key.as_integer()?).ok()? {
        1000 => return Some(("ear_status".into(), status(value)?)),
        1001 => {
            let aspect = |key: &Value, value: &Value| {
                let number = usize::try_from(i128::from(key.as_integer()?)).ok()?;
                Some(((*NAMES.get(number)?).to_owned(), plain(value)?))
            };
            return Some(("ear_trustworthiness_vector".into(), object(value, aspect).ok()?));
        }
        1003 => "ear_appraisal_policy_ids",
        1005 => "ear_attester_claims",
        1006 => "ear_verifier_claims",
        _ => return None,
    };
    Some((name.to_owned(), plain(value)?))
}

fn verifier_id(key: &Value, value: &Value) -> Option<(String, Json)> {
    let name = match i64::try_from(key.as_integer()?).ok()? {
        0 => "developer",
        1 => "build",
        _ => return None,
    };
    Some((name.to_owned(), plain(value)?))
}

fn status(value: &Value) -> Option<Json> {
    let number = i64::try_from(value.as_integer()?).ok()?;
    let tiers = [Tier::None, Tier::Affirming, Tier::Warning, Tier::Contraindicated];
    let tier = tiers.into_iter().find(|tier| i64::from(tier.number()) == number)?;
    serde_json::to_value(tier).ok()
}

/// A map as an object; a claim that is not known, or twice there, is a fault.
fn object(
    value: &Value,
    claim: impl Fn(&Value, &Value) -> Option<(String, Json)>,
) -> Result<Json, InvalidToken> {
    let entries = value.as_map().ok_or_else(|| malformed("no map"))?;
    let mut members = Map::new();
    for (key, value) in entries {
        let (name, value) = claim(key, value).ok_or_else(|| malformed(format!("claim {key:?}")))?;
        if members.insert(name, value).is_some() {
            return Err(malformed("a claim twice"));
        }
    }
    Ok(Json::Object(members))
}

/// CBOR as JSON; bytes as base64url.
fn plain(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => Json::from(*flag),
        Value::Integer(number) => {
            let number = i128::from(*number);
            i64::try_from(number).map(Json::from).or_else(|_| u64::try_from(number).map(Json::from)).ok()?
        }
        Value::Float(number) => serde_json::Number::from_f64(*number).map(Json::Number)?,
        Value::Text(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) => Json::from(URL_SAFE_NO_PAD.encode(bytes)),
        Value::Array(items) => Json::Array(items.iter().map(plain).collect::<Option<_>>()?),
        Value::Map(_) => object(value, |key, value| Some((key.as_text()?.to_owned(), plain(value)?))).ok()?,
        _ => return None,
    })
}
