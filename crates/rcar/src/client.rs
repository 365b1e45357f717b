//! The guest's side of the protocol, version 0.4.0, as a state machine without I/O: each step consumes the state before
//! it, so that none can be skipped or done again.
//!
//! ```text
//! Exchange ──auth──▶ Challenged ──attest──▶ Attesting ──token──▶ Session ──▶ resources
//!                                                                   ▲
//!                            a token and a key from elsewhere ──────┘  (passport)
//! ```
//!
//! The caller sends each [`HttpRequest`] and gives back the [`HttpAnswer`].

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    Challenge, ErrorBody, InitData, Invalid, Jwe, PrivateKey, Request, ResourceUri, RuntimeData,
    SESSION_COOKIE, Tee, attestation, json, transcript,
};

/// Under which all paths are.
pub const PREFIX: &str = "/kbs/v0";
/// A token with the Evidence of eight GPUs has some 170 KiB.
const MAX_TOKEN: usize = 1024 * 1024;
const MAX_COOKIE: usize = 4096;

/// A request to be sent as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// The body, JSON.
    pub body: Option<String>,
    /// The value of the header `Cookie`.
    pub cookie: Option<String>,
    /// The value of the header `Authorization`.
    pub authorization: Option<String>,
}

impl fmt::Debug for HttpRequest {
    /// Without cookie and token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub struct HttpAnswer<'a> {
    /// The status.
    pub status: u16,
    /// The values of all headers `Set-Cookie`.
    pub set_cookie: &'a [&'a str],
    /// The body.
    pub body: &'a [u8],
}

/// Why an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The broker refused.
    #[error("the broker answers {status}{}", .error.as_ref().map_or(String::new(), |error| format!(" {}: {}", error.kind, error.detail)))]
    Refused {
        /// The status.
        status: u16,
        /// The reason it gave, if it gave one.
        error: Option<ErrorBody>,
    },
    /// The broker's answer is not of the protocol.
    #[error("the broker's answer is not of the protocol")]
    Invalid(#[from] Invalid),
    /// The broker opened no session.
    #[error("the broker set no cookie {SESSION_COOKIE}")]
    NoSession,
}

impl ExchangeError {
    /// Whether a new handshake may help: session or token ended. What policy denies it denies again.
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }
}

fn accepted<'a>(answer: &HttpAnswer<'a>) -> Result<&'a [u8], ExchangeError> {
    match answer.status {
        200 => Ok(answer.body),
        status => Err(ExchangeError::Refused { status, error: ErrorBody::parse(answer.body).ok() }),
    }
}

/// A handshake that begins.
#[derive(Debug)]
pub struct Exchange {
    tee: Tee,
    key: PrivateKey,
    init_data: Option<InitData>,
}

impl Exchange {
    /// Of a guest in a TEE, with a key made in it, and the init-data it was started with.
    pub fn new(tee: Tee, key: PrivateKey, init_data: Option<InitData>) -> Self {
        Self { tee, key, init_data }
    }

    /// The first request.
    pub fn request(&self) -> HttpRequest {
        post("auth", Request::new(self.tee).to_json(), None)
    }

    /// Takes the challenge.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub fn challenged(self, answer: &HttpAnswer<'_>) -> Result<Challenged, ExchangeError> {
        let challenge = Challenge::parse(accepted(answer)?)?;
        let cookie = session(answer.set_cookie).ok_or(ExchangeError::NoSession)?;
        let runtime =
            RuntimeData { nonce: challenge.nonce().to_owned(), tee_pubkey: self.key.public().clone() };
        Ok(Challenged { exchange: self, challenge, runtime, cookie })
    }
}

/// A handshake in which Evidence is to be made.
#[derive(Debug)]
pub struct Challenged {
    exchange: Exchange,
    challenge: Challenge,
    runtime: RuntimeData,
    cookie: String,
}

impl Challenged {
    /// What the Evidence of each device must cover. [`crate::fitted`] makes it fit the platform's field.
    pub fn device_digest(&self) -> Vec<u8> {
        transcript::simple_digest(&self.runtime, self.challenge.hash_algorithm())
    }

    /// What the Evidence of the guest's own TEE must cover; `additional` is the JSON text of the devices' Evidence by
    /// kind, empty where there are none.
    pub fn digest(&self, additional: &str) -> Vec<u8> {
        transcript::composite_digest(&self.runtime, additional, self.challenge.hash_algorithm())
    }

    /// Answers the challenge, with the same text about devices that was covered.
    pub fn attest(self, primary: &Value, additional: &str) -> Attesting {
        let init_data = self.exchange.init_data.as_ref();
        let body = attestation::to_json(init_data, &self.runtime, primary, additional);
        let request = post("attest", body, Some(self.cookie.clone()));
        Attesting { key: self.exchange.key, cookie: self.cookie, request }
    }
}

/// A handshake that waits for the broker's appraisal.
#[derive(Debug)]
pub struct Attesting {
    key: PrivateKey,
    cookie: String,
    request: HttpRequest,
}

impl Attesting {
    /// The request with the Evidence.
    pub fn request(&self) -> &HttpRequest {
        &self.request
    }

    /// Takes the answer: a token.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub fn answered(self, answer: &HttpAnswer<'_>) -> Result<Session, ExchangeError> {
        #[derive(Deserialize)]
        struct Wire {
            token: String,
        }
        let wire: Wire = json::read("the token", accepted(answer)?, MAX_TOKEN)?;
        let cookie = session(answer.set_cookie).unwrap_or(self.cookie);
        Session::new(wire.token, self.key, Some(cookie))
    }
}

/// A guest that was attested: it may fetch resources.
pub struct Session {
    key: PrivateKey,
    token: String,
    cookie: Option<String>,
}

impl Session {
    /// Of a token that came from elsewhere, a verifier for instance, and the key it confirms.
    ///
    /// # Errors
    /// [`ExchangeError::Invalid`] when it has not the form of a token.
    pub fn passport(token: String, key: PrivateKey) -> Result<Self, ExchangeError> {
        Self::new(token, key, None)
    }

    fn new(token: String, key: PrivateKey, cookie: Option<String>) -> Result<Self, ExchangeError> {
        let plain = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        // Goes into a header: three parts of base64url, and nothing that ends one.
        if token.len() > MAX_TOKEN || token.split('.').count() != 3 || !token.split('.').all(plain) {
            return Err(Invalid::Member { member: "token", expected: "a JWT" }.into());
        }
        Ok(Self { key, token, cookie })
    }

    /// The attestation result. Nothing here has verified it: that is for relying parties.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The key that resources are encrypted to.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The request for a resource: with the cookie where the broker gave one, else with the token.
    pub fn request(&self, resource: &ResourceUri) -> HttpRequest {
        let authorization = self.cookie.is_none().then(|| format!("Bearer {}", self.token));
        HttpRequest {
            method: "GET",
            target: resource.request_target(),
            body: None,
            cookie: self.cookie.clone(),
            authorization,
        }
    }

    /// A request for something else that is given to attested guests, encrypted as a resource is; `path` is below
    /// [`PREFIX`].
    pub fn asking(&self, path: &str, body: String) -> HttpRequest {
        let authorization = self.cookie.is_none().then(|| format!("Bearer {}", self.token));
        HttpRequest {
            method: "POST",
            target: format!("{PREFIX}/{path}"),
            body: Some(body),
            cookie: self.cookie.clone(),
            authorization,
        }
    }

    /// Takes the resource and decrypts it.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub fn resource(&self, answer: &HttpAnswer<'_>) -> Result<Zeroizing<Vec<u8>>, ExchangeError> {
        Ok(self.key.decrypt(&Jwe::parse(accepted(answer)?)?)?)
    }
}

impl fmt::Debug for Session {
    /// Without the token, which may be used by whoever reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session of {:?}", self.key)
    }
}

fn post(path: &str, body: Value, cookie: Option<String>) -> HttpRequest {
    HttpRequest {
        method: "POST",
        target: format!("{PREFIX}/{path}"),
        body: Some(body.to_string()),
        cookie,
        authorization: None,
    }
}

/// The session's cookie, as it is sent back.
fn session(set_cookie: &[&str]) -> Option<String> {
    let cookie = set_cookie.iter().find_map(|header| {
        let pair = header.split(';').next()?.trim();
        let (name, value) = pair.split_once('=')?;
        (name == SESSION_COOKIE).then_some(value)
    })?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\";,\\".contains(&byte);
    (!cookie.is_empty() && cookie.len() <= MAX_COOKIE && cookie.bytes().all(plain))
        .then(|| format!("{SESSION_COOKIE}={cookie}"))
}
