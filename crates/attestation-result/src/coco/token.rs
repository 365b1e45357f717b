//! The claims as a signed JWT (RFC 7519, ES256), and its one reader.
//!
//! Nothing that a token says of itself is believed: the key comes from who reads it, by the key id that follows from
//! the key; the algorithm is the key's; of the header's members only those are read that we write, and any other
//! is refused (S-38; RFC 8725).
//!
//! ```text
//!  text ──Unverified::parse──▶ Unverified ──verify (key, issuer, audience, times, binding)──▶ Verified
//! ```

use appraisal::UnixTime;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evidence::Platform;
use jsonwebtoken::{Algorithm, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::{PROFILE, strict};
use crate::{SigningKey, Tier, TokenError, VerifyingKey};

/// Tokens that are longer are refused unread. With eight GPUs one has 14 KiB.
pub const MAX_TOKEN: usize = 64 * 1024;
/// How long a token may be good for, seconds (S-13).
pub const MAX_LIFETIME: i64 = 24 * 60 * 60;
/// How far the clocks of who issues and who reads may differ, seconds. Nothing is added to the end.
const LEEWAY: i64 = 60;
/// Leaf and intermediate, and one to spare.
const MAX_CHAIN: usize = 3;
/// Where Trustee's relying parties look for the guest's key.
pub const TEE_PUBKEY: &str = "/submods/cpu0/ear.veraison.annotated-evidence/runtime_data_claims/tee-pubkey";
/// Claims that say who issued a token, for whom and for how long, rather than about whom.
const REGISTERED: [&str; 8] = ["iss", "aud", "sub", "jti", "iat", "nbf", "exp", "cnf"];

/// What Trustee's profile has no place for.
const GUEST: &str = "bailey.guest";

/// Who issues a token, for whom, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Who issues it: a URL or URN of the mesh.
    pub issuer: String,
    /// For whom; not empty.
    pub audiences: Vec<String>,
    /// The session that it is about.
    pub subject: String,
    /// The token's own id.
    pub id: String,
    /// When it is issued, and from when on it is good.
    pub issued: UnixTime,
    /// When it must no longer be believed; at most [`MAX_LIFETIME`] later.
    pub expires: UnixTime,
    /// The guest, in short.
    pub about: About,
}

/// A guest, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The TEE by its name in CoCo's protocol, such as `snp`.
    pub tee: String,
    /// Where it runs; nowhere that Evidence is known of, for CoCo's sample.
    pub platform: Option<Platform>,
    /// The digest of init-data that its Evidence proves, such as `sha384:…`.
    pub init_data: Option<String>,
    /// Whether that is an emulated TEE, whatever the verifier runs on.
    pub emulated: bool,
    /// When its Evidence was appraised.
    pub attested: UnixTime,
}

/// Signs claims, which [`super::Claims::to_json`] or [`Verified::claims`] made. The header has the key's id, and its
/// certificate `chain` (DER, its own first, the root left out).
///
/// # Errors
/// [`TokenError::Claims`] when the claims name no key of the guest, [`TokenError::Lifetime`] for a token that would be
/// good for no time or for longer than a day, [`TokenError::TooLong`] for one that nobody would read.
pub fn sign(
    claims: &Json,
    issue: &Issue,
    key: &SigningKey,
    chain: &[impl AsRef<[u8]>],
) -> Result<String, TokenError> {
    let lifetime = issue.expires.0.saturating_sub(issue.issued.0);
    if !(1..=MAX_LIFETIME).contains(&lifetime) {
        return Err(TokenError::Lifetime);
    }
    let tee_pubkey = claims.pointer(TEE_PUBKEY).ok_or(TokenError::Claims)?.clone();
    let mut claims = claims.as_object().ok_or(TokenError::Claims)?.clone();
    let audience = match issue.audiences.as_slice() {
        [one] => Json::from(one.as_str()),
        several => Json::from(several),
    };
    let registered = [
        Json::from(issue.issuer.as_str()),
        audience,
        Json::from(issue.subject.as_str()),
        Json::from(issue.id.as_str()),
        Json::from(issue.issued.0),
        Json::from(issue.issued.0),
        Json::from(issue.expires.0),
        json!({ "jwk": tee_pubkey }),
    ];
    claims.insert(GUEST.to_owned(), json!(issue.about));
    claims.extend(REGISTERED.into_iter().map(str::to_owned).zip(registered));
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(key.id().to_owned());
    header.x5c = Some(chain.iter().map(|certificate| STANDARD.encode(certificate)).collect());
    let token = key.jws(&header, &Json::Object(claims))?;
    if token.len() > MAX_TOKEN { Err(TokenError::TooLong) } else { Ok(token) }
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It is longer than any of ours.
    #[error("it has {length} bytes, and none of ours has more than {MAX_TOKEN}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is not three parts of base64url, or what is in them is not what our tokens have.
    #[error("it is no attestation token of this profile: {0}")]
    Malformed(String),
    /// Its header has a member that ours have not: another key, a place to fetch one, an extension.
    #[error("its header is not as ours are: {0}")]
    Header(String),
    /// It names another algorithm than that of all our keys.
    #[error("it is signed by {0:?}, and our tokens are by ES256")]
    Algorithm(String),
    /// Its key id is that of no key that is known here.
    #[error("its key is not known here")]
    Key,
    /// Its certificates do not end in the root that is trusted here, or are not those of a token signer.
    #[error("its certificates do not prove its key: {0}")]
    Chain(String),
    /// Not signed by that key.
    #[error("its signature is not of the key that it names")]
    Signature,
    /// Issued by somebody else.
    #[error("it was issued by {seen:?}, and {expected:?} is trusted here")]
    Issuer {
        /// Who is trusted.
        expected: String,
        /// Who the token says.
        seen: String,
    },
    /// Meant for somebody else.
    #[error("it is meant for {}, and not for {expected:?}", seen.join(", "))]
    Audience {
        /// Who reads it.
        expected: String,
        /// For whom it is.
        seen: Vec<String>,
    },
    /// Too early.
    #[error("it is good from {begins} on, and it is {now}")]
    NotYet {
        /// When it begins.
        begins: UnixTime,
        /// When it was read.
        now: UnixTime,
    },
    /// Too late.
    #[error("it was good until {ended}, and it is {now}")]
    Expired {
        /// When it ended.
        ended: UnixTime,
        /// When it was read.
        now: UnixTime,
    },
    /// Good for longer than any token may be.
    #[error("it is good for {seconds} seconds, and none may be for no time or for more than {MAX_LIFETIME}")]
    Lifetime {
        /// For how long, seconds.
        seconds: i64,
    },
    /// Not bound to the key that the Evidence covers.
    #[error("it is not bound to the key that the guest's Evidence covers")]
    Unbound,
    /// What it is about is not trusted by who issued it.
    #[error("who issued it does not trust what it is about")]
    Contraindicated,
    /// About an emulated TEE, which who reads it did not accept.
    #[error("it is about an emulated TEE")]
    Emulated,
}

impl Untrusted {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "ATTESTATION_TOKEN_TOO_LONG",
            Self::Malformed(_) => "ATTESTATION_TOKEN_MALFORMED",
            Self::Header(_) => "ATTESTATION_TOKEN_HEADER",
            Self::Algorithm(_) => "ATTESTATION_TOKEN_ALGORITHM",
            Self::Key => "ATTESTATION_TOKEN_KEY_UNKNOWN",
            Self::Chain(_) => "ATTESTATION_TOKEN_CHAIN",
            Self::Signature => "ATTESTATION_TOKEN_SIGNATURE",
            Self::Issuer { .. } => "ATTESTATION_TOKEN_ISSUER",
            Self::Audience { .. } => "ATTESTATION_TOKEN_AUDIENCE",
            Self::NotYet { .. } => "ATTESTATION_TOKEN_NOT_YET_VALID",
            Self::Expired { .. } => "ATTESTATION_TOKEN_EXPIRED",
            Self::Lifetime { .. } => "ATTESTATION_TOKEN_LIFETIME",
            Self::Unbound => "ATTESTATION_TOKEN_UNBOUND",
            Self::Contraindicated => "ATTESTATION_TOKEN_CONTRAINDICATED",
            Self::Emulated => "ATTESTATION_TOKEN_EMULATED",
        }
    }
}

/// What our headers have, and nothing else: `jwk`, `jku`, `x5u`, `crit`, `b64`, `zip` are no members of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHeader {
    alg: String,
    typ: String,
    kid: String,
    #[serde(default)]
    x5c: Vec<String>,
}

#[derive(Deserialize)]
struct WireClaims {
    eat_profile: String,
    iss: String,
    aud: WireAudience,
    sub: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    cnf: WireConfirmation,
    bailey: Mesh,
    #[serde(rename = "bailey.guest")]
    guest: About,
    submods: std::collections::BTreeMap<String, WireSubmodule>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireAudience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireConfirmation {
    jwk: Map<String, Json>,
}

#[derive(Deserialize)]
struct WireSubmodule {
    #[serde(rename = "ear.status")]
    status: Tier,
}

/// What a token says of the mesh that issued it, and of the guest in that mesh's words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// The mesh: SHA-256 of its root certificate, hexadecimal.
    pub mesh: String,
    /// The epoch whose manifest was in force.
    pub epoch: u64,
    /// That manifest's digest, hexadecimal.
    pub manifest: String,
    /// The packages of the manifest that the guest is.
    pub packages: Vec<String>,
    /// Whether anything of it comes from an emulated TEE.
    pub emulated: bool,
}

/// A token that was parsed and not verified: of what it claims nothing can be had.
pub struct Unverified<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    kid: String,
    chain: Vec<Vec<u8>>,
    claims: Map<String, Json>,
    wire: WireClaims,
}

/// What a reader expects of a token.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Who issued it.
    pub issuer: &'a str,
    /// For whom it is, among others.
    pub audience: &'a str,
    /// When it is read.
    pub now: UnixTime,
}

/// A token that was verified: signature, issuer, audience, times, and that it is bound to the key that the guest's
/// Evidence covers. Only [`Unverified::verify`] makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    issue: Issue,
    key: Map<String, Json>,
    mesh: Mesh,
    status: Tier,
    claims: Json,
}

fn malformed(fault: impl ToString) -> Untrusted {
    Untrusted::Malformed(shortened(&fault.to_string()))
}

/// What strangers write is repeated in part only, and never as lines of its own.
fn shortened(text: &str) -> String {
    text.chars().take(120).map(|it| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it }).collect()
}

fn decode(text: &str) -> Result<Vec<u8>, Untrusted> {
    URL_SAFE_NO_PAD.decode(text).map_err(malformed)
}

impl<'t> Unverified<'t> {
    /// Reads header, claims and signature.
    ///
    /// # Errors
    /// [`Untrusted`] says what is not as ours are.
    pub fn parse(text: &'t str) -> Result<Self, Untrusted> {
        if text.len() > MAX_TOKEN {
            return Err(Untrusted::TooLong { length: text.len() });
        }
        let (signed, signature) = text.rsplit_once('.').ok_or_else(|| malformed("it has not three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| malformed("it has not three parts"))?;
        let header = strict::parse(&decode(header)?).map_err(malformed)?;
        let header: WireHeader = serde_json::from_value(header)
            .map_err(|error| Untrusted::Header(shortened(&error.to_string())))?;
        if header.alg != "ES256" {
            return Err(Untrusted::Algorithm(shortened(&header.alg)));
        }
        if header.typ != "JWT" {
            return Err(Untrusted::Header("typ is not JWT".into()));
        }
        if !is_key_id(&header.kid) {
            return Err(Untrusted::Key);
        }
        if header.x5c.len() > MAX_CHAIN {
            return Err(Untrusted::Header("x5c has too many certificates".into()));
        }
        let chain =
            header.x5c.iter().map(|it| STANDARD.decode(it).map_err(malformed)).collect::<Result<_, _>>()?;
        let claims = strict::parse(&decode(claims)?).map_err(malformed)?;
        let wire = WireClaims::deserialize(&claims).map_err(malformed)?;
        let Json::Object(claims) = claims else { return Err(malformed("its claims are no object")) };
        if wire.eat_profile != PROFILE {
            return Err(malformed("another profile"));
        }
        Ok(Self { signed, signature: decode(signature)?, kid: header.kid, chain, claims, wire })
    }

    /// The id of the key that it says signed it: to look the key up among those that are trusted anyway.
    pub fn key_id(&self) -> &str {
        &self.kid
    }

    /// The certificates that it brings, its key's own first: to be followed to a root that is trusted anyway.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Verifies it by a key that the reader trusts.
    ///
    /// # Errors
    /// [`Untrusted`] says why it is not to be believed.
    pub fn verify(self, key: &VerifyingKey, expected: &Expected<'_>) -> Result<Verified, Untrusted> {
        if self.kid != key.id() {
            return Err(Untrusted::Key);
        }
        // Another certificate would not matter here, but it would to a reader that believes it.
        if let Some(leaf) = self.chain.first()
            && super::verifier::key_of(leaf).as_ref() != Some(key)
        {
            return Err(Untrusted::Chain("the first is that of another key".into()));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point())
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| Untrusted::Signature)?;
        self.believe(expected)
    }

    fn believe(mut self, expected: &Expected<'_>) -> Result<Verified, Untrusted> {
        let wire = self.wire;
        if wire.iss != expected.issuer {
            let (expected, seen) = (expected.issuer.to_owned(), shortened(&wire.iss));
            return Err(Untrusted::Issuer { expected, seen });
        }
        let audiences = match wire.aud {
            WireAudience::One(one) => vec![one],
            WireAudience::Several(all) => all,
        };
        if !audiences.iter().any(|audience| audience == expected.audience) {
            return Err(Untrusted::Audience { expected: expected.audience.to_owned(), seen: audiences });
        }
        timely(wire.iat, wire.nbf, wire.exp, expected.now)?;
        let covered = self.claims.get("submods").and_then(|it| it.pointer(&TEE_PUBKEY["/submods".len()..]));
        if covered.and_then(Json::as_object) != Some(&wire.cnf.jwk) {
            return Err(Untrusted::Unbound);
        }
        let status = wire.submods.values().map(|submodule| submodule.status).max().unwrap_or(Tier::None);
        if status == Tier::Contraindicated {
            return Err(Untrusted::Contraindicated);
        }
        self.claims.retain(|name, _| name != GUEST && !REGISTERED.contains(&name.as_str()));
        let (issued, expires) = (UnixTime(wire.iat), UnixTime(wire.exp));
        let issue = Issue {
            issuer: wire.iss,
            audiences,
            subject: wire.sub,
            id: wire.jti,
            issued,
            expires,
            about: wire.guest,
        };
        Ok(Verified {
            issue,
            key: wire.cnf.jwk,
            mesh: wire.bailey,
            status,
            claims: Json::Object(self.claims),
        })
    }
}

fn timely(issued: i64, begins: i64, ends: i64, now: UnixTime) -> Result<(), Untrusted> {
    let seconds = ends.saturating_sub(issued);
    if !(1..=MAX_LIFETIME).contains(&seconds) {
        return Err(Untrusted::Lifetime { seconds });
    }
    let begins = begins.max(issued);
    if begins > now.0.saturating_add(LEEWAY) {
        return Err(Untrusted::NotYet { begins: UnixTime(begins), now });
    }
    if now.0 >= ends {
        return Err(Untrusted::Expired { ended: UnixTime(ends), now });
    }
    Ok(())
}

/// Key ids are half of a SHA-256 in lower-case hexadecimal: never a path, a query, or a name in another list.
fn is_key_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Verified {
    /// Who issued it, for whom, and until when.
    pub fn issue(&self) -> &Issue {
        &self.issue
    }

    /// The guest's public key, a JWK, which its Evidence covers. What the token lets out is encrypted to it.
    pub fn key(&self) -> &Map<String, Json> {
        &self.key
    }

    /// The mesh, and what it calls the guest.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The worst status of what it is about; never [`Tier::Contraindicated`].
    pub fn status(&self) -> Tier {
        self.status
    }

    /// The claims as [`super::Claims::to_json`] made them.
    pub fn claims(&self) -> &Json {
        &self.claims
    }
}
