//! A source of SVIDs in this process, with a CA of its own.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer as CertificateIssuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;
use spiffe_workload::{
    SourceError, SvidSource, clock,
    jwt::{JwtKey, JwtKeys},
    wire::{BundleWire, JwtAnswer, JwtWire, X509Answer, X509Wire},
};
use time::{Duration, OffsetDateTime};

pub const DOMAIN: &str = "td";

#[derive(Clone)]
pub struct Issuer(pub Arc<Inner>);

pub struct Inner {
    key: KeyPair,
    root: rcgen::Certificate,
    params: CertificateParams,
    jwt: EcdsaKeyPair,
    /// Of the certificates in turn, the last one for all that follow; seconds.
    lifetimes: Vec<i64>,
    pub paths: Mutex<Vec<String>>,
    pub asked: AtomicUsize,
    pub refuses: AtomicBool,
    /// What is wrong with certificates.
    pub wrong: Mutex<&'static str>,
}

impl Issuer {
    pub fn new(lifetimes: &[i64]) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap();
        Self(Arc::new(Inner {
            key,
            root,
            params,
            jwt: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            lifetimes: lifetimes.to_vec(),
            paths: Mutex::new(vec!["/guest/kata".into()]),
            asked: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            wrong: Mutex::new(""),
        }))
    }

    pub fn root(&self) -> Vec<u8> {
        self.0.root.der().to_vec()
    }

    pub fn token(&self, id: &str, audiences: &[String], expires: i64) -> String {
        let header = json!({ "alg": "ES256", "kid": "k", "typ": "JWT" });
        let claims = json!({ "sub": id, "aud": audiences, "exp": expires });
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = self.0.jwt.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn ids(&self) -> Vec<String> {
        self.0.paths.lock().unwrap().iter().map(|path| format!("spiffe://{DOMAIN}{path}")).collect()
    }

    fn admitted(&self) -> Result<usize, SourceError> {
        let asked = self.0.asked.fetch_add(1, Ordering::SeqCst);
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(SourceError::Refused { code: "EVICTED".into() });
        }
        Ok(asked)
    }

    fn bundle_wire(&self) -> BundleWire {
        let point = self.0.jwt.public_key().as_ref().try_into().unwrap();
        BundleWire {
            trust_domain: DOMAIN.into(),
            x509: vec![BASE64.encode(self.root())],
            jwks: JwtKeys::new([JwtKey { id: "k".into(), point }]).to_jwks(),
        }
    }
}

impl SvidSource for Issuer {
    async fn x509(&self, csr: &[u8]) -> Result<X509Answer, SourceError> {
        let asked = self.admitted()?;
        let wrong = *self.0.wrong.lock().unwrap();
        let request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let issuer = CertificateIssuer::from_params(&self.0.params, &self.0.key);
        let last = self.0.lifetimes.last().unwrap();
        let lifetime = *self.0.lifetimes.get(asked).unwrap_or(last);
        let svid = |id: String| {
            let now = OffsetDateTime::from_unix_timestamp((clock::system())()).unwrap();
            let mut params = CertificateParams::default();
            (params.not_before, params.not_after) =
                (now - Duration::MINUTE, now + Duration::seconds(lifetime));
            params.is_ca =
                if wrong == "ca" { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            let named = if wrong == "id" { format!("{id}x") } else { id.clone() };
            params.subject_alt_names.push(SanType::URI(named.try_into().unwrap()));
            if wrong == "uris" {
                params.subject_alt_names.push(SanType::URI("https://example.org".try_into().unwrap()));
            }
            let other = KeyPair::generate().unwrap();
            let certificate = if wrong == "key" {
                params.signed_by(&other, &issuer)
            } else {
                params.signed_by(&request.public_key, &issuer)
            };
            X509Wire { id, chain: vec![BASE64.encode(certificate.unwrap().der())] }
        };
        Ok(X509Answer { svids: self.ids().into_iter().map(svid).collect(), bundle: self.bundle_wire() })
    }

    async fn jwt(&self, audiences: &[String]) -> Result<JwtAnswer, SourceError> {
        self.admitted()?;
        let expires = (clock::system())() + 300;
        let svid = |id: String| JwtWire { token: self.token(&id, audiences, expires), id };
        Ok(JwtAnswer { svids: self.ids().into_iter().map(svid).collect() })
    }

    async fn bundle(&self) -> Result<BundleWire, SourceError> {
        self.admitted()?;
        Ok(self.bundle_wire())
    }
}
