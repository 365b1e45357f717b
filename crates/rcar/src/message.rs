//! The first two messages, Request and Challenge, and what is answered when something is refused.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::json::{self, read};
use crate::{HashAlgorithm, Invalid, Tee, Version};

/// The cookie that holds a session.
pub const SESSION_COOKIE: &str = "kbs-session-id";
/// No request is longer.
pub const MAX_REQUEST: usize = 16 * 1024;
/// No longer nonce is taken. Ours have 44 characters.
pub(crate) const MAX_NONCE: usize = 512;

/// What a client says first: `POST /kbs/v0/auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The version it speaks.
    pub version: Version,
    /// What it runs in.
    pub tee: Tee,
    /// The hash algorithms it names; empty where it names none.
    pub hash_algorithms: Vec<HashAlgorithm>,
}

impl Request {
    /// What our own client says.
    pub fn new(tee: Tee) -> Self {
        Self { version: Version::NEWEST, tee, hash_algorithms: HashAlgorithm::ALL.to_vec() }
    }

    /// Reads the body of a request. Members that the protocol does not have are ignored, as its version is asked for
    /// first; hash algorithms that nobody here knows as well.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Wire {
            version: String,
            tee: String,
            #[serde(rename = "extra-params")]
            extra_params: Box<RawValue>,
        }
        let wire: Wire = read("the request", body, MAX_REQUEST)?;
        // The version first: what else is wrong may be so because of it.
        let version = wire.version.parse()?;
        let tee = wire.tee.parse()?;
        let extra = json::value("extra-params", wire.extra_params.get().as_bytes(), MAX_REQUEST)?;
        Ok(Self { version, tee, hash_algorithms: hash_algorithms(&extra)? })
    }

    /// The body of the request.
    pub fn to_json(&self) -> Value {
        let names: Vec<_> = self.hash_algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        json!({
            "version": self.version.as_str(),
            "tee": self.tee.as_str(),
            "extra-params": { "supported-hash-algorithms": names },
        })
    }
}

fn hash_algorithms(extra: &Value) -> Result<Vec<HashAlgorithm>, Invalid> {
    let expected = Invalid::Member {
        member: "extra-params.supported-hash-algorithms",
        expected: "a list of names such as sha384",
    };
    match extra.get("supported-hash-algorithms") {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) => {
            let names: Option<Vec<_>> = names.iter().map(Value::as_str).collect();
            Ok(names.ok_or(expected)?.into_iter().filter_map(HashAlgorithm::of_name).collect())
        }
        Some(_) => Err(expected),
    }
}

/// What the broker answers: a nonce that Evidence must cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    nonce: String,
    hash_algorithm: HashAlgorithm,
}

impl Challenge {
    /// Of a nonce that was never given out before.
    pub fn new(nonce: &[u8; 32]) -> Self {
        Self { nonce: STANDARD.encode(nonce), hash_algorithm: HashAlgorithm::default() }
    }

    /// Reads the body of a challenge.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Wire {
            nonce: String,
            #[serde(rename = "extra-params")]
            extra_params: Box<RawValue>,
        }
        let wire: Wire = read("the challenge", body, MAX_REQUEST)?;
        if wire.nonce.is_empty() || wire.nonce.len() > MAX_NONCE {
            return Err(Invalid::Member { member: "nonce", expected: "text of 1 to 512 bytes" });
        }
        let extra = json::value("extra-params", wire.extra_params.get().as_bytes(), MAX_REQUEST)?;
        let selected = extra.get("selected-hash-algorithm");
        let hash_algorithm = match selected {
            None => HashAlgorithm::default(),
            Some(name) => name
                .as_str()
                .map(str::to_ascii_lowercase)
                .and_then(|name| HashAlgorithm::of_name(&name))
                .ok_or(Invalid::Member {
                    member: "extra-params.selected-hash-algorithm",
                    expected: "sha256, sha384 or sha512",
                })?,
        };
        Ok(Self { nonce: wire.nonce, hash_algorithm })
    }

    /// The body of the challenge.
    pub fn to_json(&self) -> Value {
        json!({ "nonce": self.nonce, "extra-params": "" })
    }

    /// The nonce, as text: that is how it is compared and hashed.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// With what the client is to hash.
    pub fn hash_algorithm(&self) -> HashAlgorithm {
        self.hash_algorithm
    }
}

/// Of which kind an error is: the last segment of `type` in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// Evidence was not accepted, or the handshake was not as the protocol has it.
    AttestationError,
    /// The session's nonce was used before.
    NonceUsed,
    /// The body is not JSON of the protocol.
    SerdeError,
    /// The protocol's version is not spoken here.
    UnsupportedVersion,
    /// A path that names nothing.
    InvalidRequestPath,
    /// No such plug-in.
    PluginNotFound,
    /// A plug-in could not answer.
    PluginInternalError,
    /// The policy does not grant it, or it does not exist: which of both is not said.
    PolicyDeny,
    /// The answer cannot be encrypted to the key.
    JweError,
    /// Neither cookie nor token.
    TokenNotFound,
    /// The token is not accepted.
    TokenVerifierError,
    /// The body, or a header, is too long.
    PayloadTooLarge,
    /// Too many requests.
    TooManyRequests,
    /// Where the secret is kept could not be reached.
    StorageBackendError,
    /// No manifest with a broker is in force.
    BrokerNotConfigured,
    /// The broker cannot answer now.
    Unavailable,
    /// Not a method of this path.
    MethodNotAllowed,
    /// What was to be unwrapped does not open.
    UnwrapFailed,
}

impl ErrorType {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AttestationError => "AttestationError",
            Self::NonceUsed => "NonceUsed",
            Self::SerdeError => "SerdeError",
            Self::UnsupportedVersion => "UnsupportedVersion",
            Self::InvalidRequestPath => "InvalidRequestPath",
            Self::PluginNotFound => "PluginNotFound",
            Self::PluginInternalError => "PluginInternalError",
            Self::PolicyDeny => "PolicyDeny",
            Self::JweError => "JweError",
            Self::TokenNotFound => "TokenNotFound",
            Self::TokenVerifierError => "TokenVerifierError",
            Self::PayloadTooLarge => "PayloadTooLarge",
            Self::TooManyRequests => "TooManyRequests",
            Self::StorageBackendError => "StorageBackendError",
            Self::BrokerNotConfigured => "BrokerNotConfigured",
            Self::Unavailable => "Unavailable",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::UnwrapFailed => "UnwrapFailed",
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The prefix of every `type`, as CoCo's clients know it.
const ERROR_PREFIX: &str = "https://github.com/confidential-containers/kbs/errors/";

/// The body of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// The last segment of the type. Text, because other brokers have kinds of their own.
    pub kind: String,
    /// One line for people.
    pub detail: String,
}

impl ErrorBody {
    /// What our broker answers.
    pub fn new(kind: ErrorType, detail: impl Into<String>) -> Self {
        Self { kind: kind.as_str().to_owned(), detail: detail.into() }
    }

    /// Reads the body of an error. It comes from a broker that may be hostile: what people see is cut and has no
    /// control characters.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            detail: String,
        }
        let wire: Wire = read("the error", body, MAX_REQUEST)?;
        let kind = wire.kind.rsplit('/').next().unwrap_or_default();
        Ok(Self { kind: printable(kind, 64), detail: printable(&wire.detail, 400) })
    }

    /// The body.
    pub fn to_json(&self) -> Value {
        json!({ "type": format!("{ERROR_PREFIX}{}", self.kind), "detail": self.detail })
    }
}

fn printable(text: &str, limit: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_todays_client() {
        let body = br#"{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sha256","sha384","sha512","sm3"]}}"#;
        let request = Request::parse(body).expect("a request");
        assert_eq!(request, Request::new(Tee::Snp));
        assert_eq!(Request::parse(request.to_json().to_string().as_bytes()), Ok(request));
    }

    #[test]
    fn a_request_of_an_old_client() {
        let request = Request::parse(br#"{"version":"0.1.0","tee":"aztdxvtpm","extra-params":""}"#);
        let expected = Request { version: Version::V0_1_0, tee: Tee::AzTdxVtpm, hash_algorithms: Vec::new() };
        assert_eq!(request, Ok(expected));
    }

    #[test]
    fn requests_that_are_refused() {
        for body in [
            r#"{"version":"0.4.0","tee":"snp"}"#,
            r#"{"version":"0.4.0","extra-params":""}"#,
            r#"{"tee":"snp","extra-params":""}"#,
            r#"{"version":"0.9.0","tee":"snp","extra-params":""}"#,
            r#"{"version":4,"tee":"snp","extra-params":""}"#,
            r#"{"version":"0.4.0","tee":"snp","tee":"sample","extra-params":""}"#,
            r#"{"version":"0.4.0","tee":"snp","extra-params":{"a":1,"a":2}}"#,
            r#"{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":"sha384"}}"#,
            r#"{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":[384]}}"#,
            r#"["0.4.0","snp",""]x"#,
            "",
        ] {
            assert!(Request::parse(body.as_bytes()).is_err(), "{body}");
        }
        let long =
            format!(r#"{{"version":"0.4.0","tee":"snp","extra-params":"{}"}}"#, "a".repeat(MAX_REQUEST));
        assert!(Request::parse(long.as_bytes()).expect_err("long").is_too_long());
    }

    #[test]
    fn a_challenge_is_read_as_written() {
        let challenge = Challenge::new(&[7; 32]);
        assert_eq!(challenge.nonce().len(), 44);
        assert_eq!(Challenge::parse(challenge.to_json().to_string().as_bytes()), Ok(challenge));
        let other = br#"{"nonce":"n","extra-params":{"selected-hash-algorithm":"SHA512"}}"#;
        assert_eq!(Challenge::parse(other).expect("a challenge").hash_algorithm(), HashAlgorithm::Sha512);
        for wrong in [
            r#"{"nonce":"","extra-params":""}"#,
            r#"{"nonce":"n","extra-params":{"selected-hash-algorithm":"md5"}}"#,
            r#"{"nonce":"n","extra-params":{"selected-hash-algorithm":5}}"#,
            r#"{"nonce":"n"}"#,
        ] {
            assert!(Challenge::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_have_the_type_that_clients_know_and_hostile_ones_are_tamed() {
        let error = ErrorBody::new(ErrorType::PolicyDeny, "not granted");
        let json = error.to_json();
        assert_eq!(json["type"], "https://github.com/confidential-containers/kbs/errors/PolicyDeny");
        assert_eq!(ErrorBody::parse(json.to_string().as_bytes()), Ok(error));
        let hostile = json!({ "type": "x/\u{1b}[2J", "detail": "a\nb".repeat(1000) });
        let error = ErrorBody::parse(hostile.to_string().as_bytes()).expect("an error");
        assert_eq!(error.kind, "[2J");
        assert!(error.detail.len() == 400 && error.detail.starts_with("abab"));
    }
}
