//! Users by tokens of OpenID providers (OpenID Connect Core 1.0 §2; RFC 7519): signed JWTs in the compact form, checked
//! against the keys in the manifest as RFC 8725 advises. Nothing that a token says of itself is believed: the key in the
//! manifest decides the algorithm, and the token's header must only not contradict it.
//!
//! ```text
//!  text ──Unverified::parse──▶ Unverified ──verify (signature, issuer, audience, times)──▶ Token ──holder──▶ user
//! ```

use appraisal::UnixTime;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use manifest::{Manifest, Proof, TokenHolder, TokenIdentity, TokenKey, TokenKeyKind, User};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Refusal;

/// Longer than any provider's.
const LONGEST: usize = 8 * 1024;
/// How far clocks may be apart.
const SKEW: i64 = 5 * 60;
/// How long a token may be good for.
const LIFETIME: i64 = 60 * 60;

/// Why a token is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not a signed JWT.
    #[error("it is not a signed JWT in the compact form, with the claims iss, aud, exp and iat")]
    Malformed,
    /// Of an issuer that no user has.
    #[error("its issuer is that of no user of the manifest")]
    Issuer,
    /// For somebody else.
    #[error("it is not for the audience that the manifest names, and for nobody else")]
    Audience,
    /// Signed by a key that the manifest does not have.
    #[error("its `kid` is that of no key that the manifest has of its issuer")]
    Key,
    /// Another algorithm than the key's.
    #[error("it names another algorithm than that of its key in the manifest")]
    Algorithm,
    /// Not signed by that key.
    #[error("its signature is not of the key that it names")]
    Signature,
    /// Too late.
    #[error("it has expired")]
    Expired,
    /// Too early.
    #[error("it is not valid yet")]
    NotYet,
    /// Good for too long.
    #[error("it is valid for longer than an hour, or for no time")]
    Lifetime,
    /// More than one user.
    #[error("it is that of several users of the manifest")]
    Ambiguous,
}

impl TokenFault {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "TOKEN_MALFORMED",
            Self::Issuer => "TOKEN_ISSUER_UNKNOWN",
            Self::Audience => "TOKEN_AUDIENCE_MISMATCH",
            Self::Key => "TOKEN_KEY_UNKNOWN",
            Self::Algorithm => "TOKEN_ALGORITHM_MISMATCH",
            Self::Signature => "TOKEN_SIGNATURE_INVALID",
            Self::Expired => "TOKEN_EXPIRED",
            Self::NotYet => "TOKEN_NOT_YET_VALID",
            Self::Lifetime => "TOKEN_LIFETIME_TOO_LONG",
            Self::Ambiguous => "TOKEN_AMBIGUOUS",
        }
    }
}

/// The JOSE header. What else stands in it (`jku`, `jwk`, `x5c`: keys of the token's own choice) is not looked at;
/// `crit` says that it must be, so that is refused (RFC 7515 §4.1.11).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
    crit: Option<Value>,
}

#[derive(Clone, Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// A token for several could be shown here by any of the others.
    fn is_only(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(all) => matches!(&all[..], [one] if one == audience),
        }
    }
}

/// A token that was parsed and not verified.
pub struct Unverified<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    header: Header,
    claims: Claims,
}

/// A token whose signature, issuer, audience and times were verified. There is no other way to have one.
#[derive(Clone)]
pub struct Token {
    audience: String,
    key: TokenKey,
    claims: Claims,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl<'t> Unverified<'t> {
    /// Reads header, claims and signature.
    pub fn parse(text: &'t str) -> Result<Self, TokenFault> {
        if text.len() > LONGEST {
            return Err(TokenFault::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
        let signature = decode(signature)?;
        let header: Header = read(header)?;
        let typed = |typ: &str| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt");
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(typed) || signature.is_empty() {
            return Err(TokenFault::Malformed);
        }
        Ok(Self { signed, signature, header, claims: read(claims)? })
    }

    /// Verifies it by the keys that the manifest has of its issuer. Which user it is, [`user`] tells.
    pub fn verify(self, manifest: &Manifest, now: UnixTime) -> Result<Token, TokenFault> {
        let of_issuer: Vec<_> =
            identities(manifest).filter(|(_, identity)| identity.issuer == self.claims.iss).collect();
        if of_issuer.is_empty() {
            return Err(TokenFault::Issuer);
        }
        let mut audiences = of_issuer.iter().map(|(_, identity)| &identity.audience);
        let audience = audiences.find(|audience| self.claims.aud.is_only(audience));
        let audience = audience.ok_or(TokenFault::Audience)?.clone();
        let keys = of_issuer.iter().filter(|(_, identity)| identity.audience == audience);
        let mut named: Vec<&TokenKey> =
            keys.flat_map(|(_, identity)| &identity.keys).filter(|key| key.id == self.header.kid).collect();
        named.dedup();
        if named.is_empty() {
            return Err(TokenFault::Key);
        }
        // The key says which algorithm, never the header (RFC 8725 §3.1).
        named.retain(|key| key.kind.algorithm() == self.header.alg);
        if named.is_empty() {
            return Err(TokenFault::Algorithm);
        }
        let signed = |key: &&&TokenKey| verifies(&key.kind, self.signed.as_bytes(), &self.signature);
        let key = (*named.iter().find(signed).ok_or(TokenFault::Signature)?).clone();
        self.claims.timely(now)?;
        Ok(Token { audience, key, claims: self.claims })
    }
}

impl Claims {
    fn timely(&self, now: UnixTime) -> Result<(), TokenFault> {
        let lifetime = self.exp.checked_sub(self.iat).ok_or(TokenFault::Malformed)?;
        if !(1..=LIFETIME).contains(&lifetime) {
            return Err(TokenFault::Lifetime);
        }
        let begins = self.nbf.unwrap_or(self.iat).max(self.iat);
        if begins > now.0.saturating_add(SKEW) {
            return Err(TokenFault::NotYet);
        }
        if self.exp <= now.0.saturating_sub(SKEW) {
            return Err(TokenFault::Expired);
        }
        Ok(())
    }

    fn are_of(&self, holder: &TokenHolder) -> bool {
        let (name, expected) = match holder {
            TokenHolder::Subject(subject) => ("sub", subject),
            TokenHolder::Claim { name, value } => (name.as_str(), value),
        };
        self.others.get(name).and_then(Value::as_str).is_some_and(|seen| seen == expected)
    }
}

/// The one user that the token is about: in the manifest in force, which may be newer than the one that it was
/// verified by, and must still have its key.
pub(super) fn user<'m>(manifest: &'m Manifest, token: &Token) -> Result<&'m User, Refusal> {
    let mut users = identities(manifest).filter(|(_, identity)| {
        identity.issuer == token.claims.iss
            && identity.audience == token.audience
            && identity.keys.contains(&token.key)
            && token.claims.are_of(&identity.holder)
    });
    let (user, _) = users.next().ok_or(Refusal::UnknownUser)?;
    match users.next() {
        None => Ok(user),
        Some(_) => Err(Refusal::Token(TokenFault::Ambiguous)),
    }
}

fn identities(manifest: &Manifest) -> impl Iterator<Item = (&User, &TokenIdentity)> {
    manifest.users().values().filter_map(|user| match &user.proof {
        Proof::Token(identity) => Some((user, identity.as_ref())),
        Proof::Certificate(_) => None,
    })
}

fn verifies(key: &TokenKeyKind, message: &[u8], signature: &[u8]) -> bool {
    match key {
        TokenKeyKind::Es256(point) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
        }
        TokenKeyKind::EdDsa(point) => {
            UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
        }
        TokenKeyKind::Rs256 { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .is_ok(),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenFault::Malformed)
}

fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, TokenFault> {
    serde_json::from_slice(&decode(text)?).map_err(|_| TokenFault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515 A.3 and RFC 8037 A.4: not ours.
    #[test]
    fn signatures_of_the_rfcs() {
        let point = |x: &str, y: &str| [&[4][..], &decode(x).unwrap(), &decode(y).unwrap()].concat();
        let p256 = TokenKeyKind::Es256(point(
            "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        ));
        let joe = "eyJhbGciOiJFUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
            DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let ed25519 = decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let ed25519 = TokenKeyKind::EdDsa(ed25519.try_into().unwrap());
        let example = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
            hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        for (key, token) in [(p256, joe), (ed25519, example)] {
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let mut signature = decode(signature).unwrap();
            assert!(verifies(&key, signed.as_bytes(), &signature));
            signature[9] ^= 1;
            assert!(!verifies(&key, signed.as_bytes(), &signature));
        }
    }
}
