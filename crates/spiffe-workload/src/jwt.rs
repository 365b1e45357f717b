//! JWT-SVIDs (JWT-SVID §§2 to 5; RFC 7519), read and verified. The key of the bundle decides the algorithm, which is
//! ES256 and no other; nothing that a token says of its own key is looked at (S-38).
//!
//! ```text
//!  text ──Unverified::parse──▶ Unverified ──verify (key, signature, subject, audience, time)──▶ JwtSvid
//! ```

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value, json};

use crate::id::{SpiffeId, TrustDomain};

/// Longer than any of ours.
const LONGEST: usize = 8 * 1024;
/// More keys than a bundle has, by far.
const MOST_KEYS: usize = 64;

/// Why a token is nobody's JWT-SVID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtFault {
    /// Not a signed JWT.
    #[error("it is not a signed JWT in the compact form, with `sub`, `aud` and `exp`, each once")]
    Malformed,
    /// Another algorithm than that of the keys here.
    #[error("its algorithm is not ES256")]
    Algorithm,
    /// Of no key of the bundle.
    #[error("its `kid` is that of no key of the bundle")]
    Key,
    /// Not signed by that key.
    #[error("its signature is not of the key that it names")]
    Signature,
    /// No SPIFFE ID.
    #[error("its subject is not a SPIFFE ID")]
    Subject,
    /// The ID of another trust domain.
    #[error("its subject is of another trust domain")]
    TrustDomain,
    /// For somebody else.
    #[error("it is for another audience")]
    Audience,
    /// Too late.
    #[error("it has expired")]
    Expired,
    /// Too early.
    #[error("it is not valid yet")]
    NotYet,
}

/// The keys that verify a trust domain's JWT-SVIDs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JwtKeys(Vec<JwtKey>);

/// One of them: P-256, for ES256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtKey {
    /// Its name in the bundle.
    pub id: String,
    /// The uncompressed point.
    pub point: [u8; 65],
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// What else a key says of itself (RFC 7517 §4) is not looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl JwtKeys {
    /// Takes keys. Of two with one name the second is never used.
    pub fn new(keys: impl IntoIterator<Item = JwtKey>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Reads a JWK set. Keys of other kinds and purposes are left out, as bundles may have them (Trust Domain and
    /// Bundle §4.2); one of ours that cannot be read makes the set malformed.
    pub fn from_jwks(jwks: &Value) -> Result<Self, JwtFault> {
        let set = JwkSet::deserialize(jwks).map_err(|_| JwtFault::Malformed)?;
        if set.keys.len() > MOST_KEYS {
            return Err(JwtFault::Malformed);
        }
        let ours = |key: &Jwk| {
            key.kty == "EC"
                && key.crv.as_deref() == Some("P-256")
                && matches!(key.purpose.as_deref(), None | Some("jwt-svid" | "sig"))
        };
        set.keys.into_iter().filter(ours).map(JwtKey::from_jwk).collect::<Result<_, _>>().map(Self)
    }

    /// As a JWK set.
    pub fn to_jwks(&self) -> Value {
        json!({ "keys": self.0.iter().map(JwtKey::to_jwk).collect::<Vec<_>>() })
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &JwtKey> {
        self.0.iter()
    }
}

impl JwtKey {
    fn from_jwk(jwk: Jwk) -> Result<Self, JwtFault> {
        let coordinate = |text: Option<String>| {
            let bytes = URL_SAFE_NO_PAD.decode(text?).ok()?;
            <[u8; 32]>::try_from(bytes).ok()
        };
        let (Some(id), Some(x), Some(y)) = (jwk.kid, coordinate(jwk.x), coordinate(jwk.y)) else {
            return Err(JwtFault::Malformed);
        };
        let mut point = [4; 65];
        point[1..33].copy_from_slice(&x);
        point[33..].copy_from_slice(&y);
        Ok(Self { id, point })
    }

    fn to_jwk(&self) -> Value {
        let [x, y] = [&self.point[1..33], &self.point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "use": "jwt-svid", "alg": "ES256", "x": x, "y": y })
    }
}

/// The JOSE header. What else stands in it (`jku`, `jwk`, `x5c`) is not looked at; `crit` says that it must be, so that
/// is refused (RFC 7515 §4.1.11).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(all) => all.iter().any(|one| one == audience),
        }
    }
}

/// A token that was parsed and not verified.
pub struct Unverified<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    header: Header,
    subject: String,
    audience: Audience,
    expires: f64,
    not_before: Option<f64>,
    claims: Map<String, Value>,
}

/// A JWT-SVID that was verified. There is no other way to have one.
#[derive(Debug, Clone)]
pub struct JwtSvid {
    id: SpiffeId,
    claims: Map<String, Value>,
}

impl JwtSvid {
    /// Whose it is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// All that it says.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

impl<'t> Unverified<'t> {
    /// Reads header, claims and signature.
    pub fn parse(text: &'t str) -> Result<Self, JwtFault> {
        if text.len() > LONGEST {
            return Err(JwtFault::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwtFault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtFault::Malformed)?;
        let Distinct(header) = read(header)?;
        let header: Header =
            serde_json::from_value(Value::Object(header)).map_err(|_| JwtFault::Malformed)?;
        // JWT-SVID §2.3: if set, it must be one of these.
        let typed = header.typ.as_deref().is_none_or(|typ| matches!(typ, "JWT" | "JOSE"));
        if header.crit.is_some() || !typed {
            return Err(JwtFault::Malformed);
        }
        let Distinct(claims) = read(claims)?;
        let text = |name| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let audience = claims.get("aud").ok_or(JwtFault::Malformed)?;
        let not_before =
            claims.get("nbf").map(|time| time.as_f64().ok_or(JwtFault::Malformed)).transpose()?;
        Ok(Self {
            signed,
            signature: decode(signature)?,
            header,
            subject: text("sub").ok_or(JwtFault::Malformed)?,
            audience: Audience::deserialize(audience).map_err(|_| JwtFault::Malformed)?,
            expires: claims.get("exp").and_then(Value::as_f64).ok_or(JwtFault::Malformed)?,
            not_before,
            claims,
        })
    }

    /// Verifies it by the keys of `domain`, for one audience, at a time in seconds since 1970.
    pub fn verify(
        self,
        keys: &JwtKeys,
        domain: &TrustDomain,
        audience: &str,
        now: i64,
    ) -> Result<JwtSvid, JwtFault> {
        if self.header.alg != "ES256" {
            return Err(JwtFault::Algorithm);
        }
        let key = keys.iter().find(|key| key.id == self.header.kid).ok_or(JwtFault::Key)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point)
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| JwtFault::Signature)?;
        let id: SpiffeId = self.subject.parse().map_err(|_| JwtFault::Subject)?;
        if id.trust_domain() != domain {
            return Err(JwtFault::TrustDomain);
        }
        if !self.audience.contains(audience) {
            return Err(JwtFault::Audience);
        }
        // Seconds of this century are exact in this type (RFC 7519 §2 allows fractions).
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
        let now = now as f64;
        if self.expires <= now {
            return Err(JwtFault::Expired);
        }
        if self.not_before.is_some_and(|begins| begins > now) {
            return Err(JwtFault::NotYet);
        }
        Ok(JwtSvid { id, claims: self.claims })
    }
}

fn decode(text: &str) -> Result<Vec<u8>, JwtFault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtFault::Malformed)
}

fn read(text: &str) -> Result<Distinct, JwtFault> {
    serde_json::from_slice(&decode(text)?).map_err(|_| JwtFault::Malformed)
}

/// A JSON object in which no name stands twice: two readers would differ about what it says.
struct Distinct(Map<String, Value>);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Distinct;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Distinct, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Distinct(map))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    use super::*;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn keys(&self) -> JwtKeys {
            let point = self.0.public_key().as_ref().try_into().unwrap();
            JwtKeys::new([JwtKey { id: "k".into(), point }])
        }

        fn sign(&self, header: &str, claims: &str) -> String {
            let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#;
    const CLAIMS: &str = r#"{"sub":"spiffe://td/guest/kata","aud":["a","b"],"exp":100,"iat":1}"#;

    fn verify(signer: &Signer, token: &str) -> Result<JwtSvid, JwtFault> {
        Unverified::parse(token)?.verify(&signer.keys(), &"td".parse().unwrap(), "b", 99)
    }

    #[test]
    fn a_jwt_svid_is_verified() {
        let signer = Signer::new();
        let svid = verify(&signer, &signer.sign(HEADER, CLAIMS)).unwrap();
        assert_eq!(svid.id().to_string(), "spiffe://td/guest/kata");
        assert_eq!(svid.claims()["iat"], 1);
        assert_eq!(JwtKeys::from_jwks(&signer.keys().to_jwks()).unwrap(), signer.keys());
    }

    #[test]
    fn s38_what_a_token_says_of_its_key_is_not_believed() {
        let (signer, other) = (Signer::new(), Signer::new());
        let own = other.keys().to_jwks()["keys"][0].clone();
        let embedded = json!({ "alg": "ES256", "kid": "k", "jwk": own, "jku": "https://example.org" });
        for (header, fault) in [
            (HEADER.to_owned(), JwtFault::Signature),
            (embedded.to_string(), JwtFault::Signature),
            (HEADER.replace("\"k\"", "\"../k\""), JwtFault::Key),
            (HEADER.replace("ES256", "none"), JwtFault::Algorithm),
            (HEADER.replace("ES256", "HS256"), JwtFault::Algorithm),
            (HEADER.replace("JWT", "kb+jwt"), JwtFault::Malformed),
            (HEADER.replace("}", ",\"crit\":[\"b64\"]}"), JwtFault::Malformed),
            (HEADER.replace("}", ",\"alg\":\"none\"}"), JwtFault::Malformed),
            (HEADER.replace("\"kid\":\"k\",", ""), JwtFault::Malformed),
        ] {
            assert_eq!(verify(&signer, &other.sign(&header, CLAIMS)).unwrap_err(), fault, "{header}");
        }
        let token = signer.sign(HEADER, CLAIMS);
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert_eq!(verify(&signer, &unsigned).unwrap_err(), JwtFault::Signature);
    }

    #[test]
    fn what_is_not_for_us_now_is_refused() {
        let signer = Signer::new();
        for (from, to, fault) in [
            ("spiffe://td/", "spiffe://other/", JwtFault::TrustDomain),
            ("spiffe://td/guest", "https://td/guest", JwtFault::Subject),
            (r#"["a","b"]"#, r#""a""#, JwtFault::Audience),
            (r#""aud":["a","b"],"#, "", JwtFault::Malformed),
            (r#""exp":100,"#, "", JwtFault::Malformed),
            ("100", "99", JwtFault::Expired),
            (r#""iat":1"#, r#""nbf":100"#, JwtFault::NotYet),
            (r#""iat":1"#, r#""sub":"spiffe://td/guest/other""#, JwtFault::Malformed),
        ] {
            let claims = CLAIMS.replace(from, to);
            assert_ne!(claims, CLAIMS);
            assert_eq!(verify(&signer, &signer.sign(HEADER, &claims)).unwrap_err(), fault, "{claims}");
        }
        let long = signer.sign(HEADER, &CLAIMS.replace("kata", &"a".repeat(LONGEST)));
        assert_eq!(verify(&signer, &long).unwrap_err(), JwtFault::Malformed);
    }
}
