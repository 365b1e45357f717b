//! Users who are known by tokens: of which OpenID provider, for which audience, with which subject or claim, and the
//! keys that the provider signs with. The keys stand in the manifest, so that no network decides who is let in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::document as wire;
use crate::fault::{Code, Collector, shown, suggestion};
use crate::path::Path;

/// More keys than any provider has at a time.
const MOST_KEYS: usize = 16;
const LONGEST_TEXT: usize = 512;
/// Claims that a token is checked by anyway, or that say nothing of who it is about.
const RESERVED: [&str; 7] = ["iss", "aud", "exp", "nbf", "iat", "jti", "sub"];

/// Whose tokens make somebody this user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenIdentity {
    /// `iss`, exactly; an `https` URL.
    pub issuer: String,
    /// `aud`, exactly, and the only one.
    pub audience: String,
    /// Whom the token must be about.
    pub holder: TokenHolder,
    /// Keys of the issuer, each with an identifier of its own; at least one.
    pub keys: Vec<TokenKey>,
}

/// Whom a token is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenHolder {
    /// `sub`, exactly.
    Subject(String),
    /// Another claim, which must be text and exactly this.
    Claim {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// A public key that an issuer signs tokens with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenKey {
    /// `kid`.
    pub id: String,
    /// The key; it alone decides the algorithm.
    pub kind: TokenKeyKind,
}

/// A key of a kind that tokens may be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKeyKind {
    /// ECDSA on P-256 with SHA-256: the point, uncompressed (65 bytes).
    Es256(Vec<u8>),
    /// RSA PKCS #1 v1.5 with SHA-256, big-endian; 2048 to 8192 bits.
    Rs256 {
        /// The modulus.
        modulus: Vec<u8>,
        /// The exponent.
        exponent: Vec<u8>,
    },
    /// Ed25519: the point.
    EdDsa([u8; 32]),
}

impl TokenKeyKind {
    /// The algorithm that a token's header must name (RFC 7518 §3.1, RFC 8037 §3.1).
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256 { .. } => "RS256",
            Self::EdDsa(_) => "EdDSA",
        }
    }
}

pub(crate) fn resolve(wire: &wire::Oidc, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<TokenIdentity> {
    let issuer = text(&wire.issuer, &at.field("Issuer"), faults);
    if issuer.is_some() && !wire.issuer.starts_with("https://") {
        let message = "an issuer is a URL that begins with https://";
        faults.add(&at.field("Issuer"), Code::InvalidValue, message);
        return None;
    }
    let audience = text(&wire.audience, &at.field("Audience"), faults);
    let holder = holder(wire, at, faults);
    let keys = keys(&wire.jwks.keys, &at.field("Jwks").field("keys"), faults);
    Some(TokenIdentity { issuer: issuer?, audience: audience?, holder: holder?, keys: keys? })
}

fn text(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<String> {
    if text.is_empty() {
        faults.add(at, Code::Missing, "this must be given, exactly as it stands in tokens");
        return None;
    }
    if text.len() > LONGEST_TEXT || text.chars().any(char::is_control) {
        let message = format!("this has at most {LONGEST_TEXT} bytes and no control characters");
        faults.add(at, Code::InvalidValue, message);
        return None;
    }
    Some(text.to_owned())
}

fn holder(wire: &wire::Oidc, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<TokenHolder> {
    match (&wire.subject, &wire.claim) {
        (Some(subject), None) => text(subject, &at.field("Subject"), faults).map(TokenHolder::Subject),
        (None, Some(claim)) => {
            let here = at.field("Claim");
            let name = text(&claim.name, &here.field("Name"), faults);
            let value = text(&claim.value, &here.field("Value"), faults);
            if RESERVED.contains(&claim.name.as_str()) {
                let message = format!("the claim `{}` says nothing more of who the user is", claim.name);
                faults.hint(&here.field("Name"), Code::InvalidValue, message, "for `sub`, give `Subject`");
                return None;
            }
            Some(TokenHolder::Claim { name: name?, value: value? })
        }
        (Some(_), Some(_)) => {
            faults.add(at, Code::Conflict, "a user is known by `Subject` or by `Claim`, and not by both");
            None
        }
        (None, None) => {
            let message = "whoever has a token of this issuer would be this user";
            faults.hint(at, Code::Missing, message, "give `Subject` or `Claim`");
            None
        }
    }
}

fn keys(wires: &[wire::Jwk], at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Vec<TokenKey>> {
    if wires.is_empty() || wires.len() > MOST_KEYS {
        let message = format!("there are 1 to {MOST_KEYS} keys that the issuer signs with");
        faults.hint(at, Code::Missing, message, "copy them from the issuer's JWK set");
        return None;
    }
    let mut keys: Vec<TokenKey> = Vec::new();
    let mut whole = true;
    for (i, wire) in wires.iter().enumerate() {
        let here = at.index(i);
        let Some(key) = key(wire, &here, faults) else {
            whole = false;
            continue;
        };
        if keys.iter().any(|other| other.id == key.id) {
            faults.add(&here.field("kid"), Code::DuplicateValue, "another key has this identifier");
            whole = false;
        }
        keys.push(key);
    }
    whole.then_some(keys)
}

fn key(wire: &wire::Jwk, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<TokenKey> {
    let id = text(&wire.kid, &at.field("kid"), faults);
    if wire.usage.as_ref().is_some_and(|usage| usage != "sig") {
        faults.add(&at.field("use"), Code::InvalidValue, "this key is not for signatures");
        return None;
    }
    let kind = match wire.kty.as_str() {
        "EC" => elliptic(wire, at, faults),
        "RSA" => rsa(wire, at, faults),
        "OKP" => edwards(wire, at, faults),
        other => {
            let message = format!("`{}` is not a type of key that tokens are signed with", shown(other));
            faults.add_with(&at.field("kty"), Code::InvalidValue, message, || {
                suggestion(other, &["EC", "RSA", "OKP"])
            });
            None
        }
    }?;
    if wire.alg.as_ref().is_some_and(|alg| alg != kind.algorithm()) {
        let message = format!("with this key tokens are signed by {}, and by nothing else", kind.algorithm());
        faults.add(&at.field("alg"), Code::InvalidValue, message);
        return None;
    }
    Some(TokenKey { id: id?, kind })
}

fn elliptic(wire: &wire::Jwk, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<TokenKeyKind> {
    curve(wire, "P-256", at, faults)?;
    unused(&[("n", &wire.n), ("e", &wire.e)], at, faults)?;
    let (x, y) = (fixed(&wire.x, &at.field("x"), faults), fixed(&wire.y, &at.field("y"), faults));
    Some(TokenKeyKind::Es256([&[4][..], &x?, &y?].concat()))
}

fn edwards(wire: &wire::Jwk, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<TokenKeyKind> {
    curve(wire, "Ed25519", at, faults)?;
    unused(&[("n", &wire.n), ("e", &wire.e), ("y", &wire.y)], at, faults)?;
    fixed(&wire.x, &at.field("x"), faults).map(TokenKeyKind::EdDsa)
}

fn rsa(wire: &wire::Jwk, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<TokenKeyKind> {
    unused(&[("crv", &wire.crv), ("x", &wire.x), ("y", &wire.y)], at, faults)?;
    let modulus = bytes(&wire.n, &at.field("n"), faults);
    let exponent = bytes(&wire.e, &at.field("e"), faults);
    let (modulus, exponent) = (modulus?, exponent?);
    if !(256..=1024).contains(&modulus.len()) || modulus[0] < 0x80 {
        let message = "an RSA key has 2048 to 8192 bits, a multiple of 8, without zeros before them";
        faults.add(&at.field("n"), Code::InvalidValue, message);
        return None;
    }
    if exponent != [1, 0, 1] {
        faults.add(&at.field("e"), Code::InvalidValue, "the exponent is 65537 (`AQAB`)");
        return None;
    }
    Some(TokenKeyKind::Rs256 { modulus, exponent })
}

fn curve(wire: &wire::Jwk, known: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<()> {
    if wire.crv.as_deref() == Some(known) {
        return Some(());
    }
    faults.add(&at.field("crv"), Code::InvalidValue, format!("the curve of such a key is {known}"));
    None
}

fn unused(fields: &[(&str, &Option<String>)], at: &Path<'_>, faults: &mut Collector<'_>) -> Option<()> {
    let given = fields.iter().find(|(_, value)| value.is_some());
    let Some((field, _)) = given else { return Some(()) };
    faults.add(&at.field(field), Code::NotApplicable, "a key of this type has no such part");
    None
}

fn fixed(text: &Option<String>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<[u8; 32]> {
    let bytes = bytes(text, at, faults)?;
    if let Ok(bytes) = bytes.try_into() {
        return Some(bytes);
    }
    faults.add(at, Code::InvalidValue, "this has 32 bytes");
    None
}

fn bytes(text: &Option<String>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Vec<u8>> {
    let bytes = text.as_deref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
        return Some(bytes);
    }
    faults.add(at, Code::InvalidValue, "this must be given in base64url without padding");
    None
}
