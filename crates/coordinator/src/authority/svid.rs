//! SVIDs have a CA of their own, below the root and beside the one of Marbles: MarbleRun's Marbles let in whoever has a
//! certificate of theirs, and a guest is no Marble. What an SVID says comes from the appraisal, nothing of it from the
//! request but the key (S-07).

use attested_tls::marble::IDENTITY_OID;
use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey},
    digest, hkdf,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, SanType, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde_bytes::ByteArray;
use serde_json::{Value, json};
use spiffe_workload::{id::SpiffeId, jwt::JwtKey};
use time::Duration;
use x509_parser::{
    asn1_rs::{OctetString, ToDer},
    certification_request::X509CertificationRequest,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256},
    prelude::FromDer,
};
use zeroize::Zeroizing;

use appraisal::UnixTime;

use super::{Authority, AuthorityError, ca_params, leaf_params, marked};

/// Object identifier of the extension that marks an X.509-SVID of ours: an arc below 2.25, which needs no registration
/// (ITU-T X.667). It is another one than [`IDENTITY_OID`], which alone makes a Marble.
pub const SVID_OID: [u64; 3] = [2, 25, 4_718_502_966_713_215_384];

const _: () = assert!(SVID_OID[2] != IDENTITY_OID[2]);

/// How long an X.509-SVID lasts; it is renewed at half of that.
const X509_LIFETIME: i64 = 60 * 60;
/// How long a JWT-SVID lasts.
const JWT_LIFETIME: i64 = 5 * 60;
/// A request with a P-256 key has some hundreds of bytes.
const LONGEST_CSR: usize = 4096;
/// P-256, key agreement and signature alike; the label keeps them apart.
const JWT_LABEL: &[u8] = b"bailey/svid/jwt/es256/1";

/// What the extension of an X.509-SVID says, in CBOR within an OCTET STRING.
#[derive(Debug, Clone, Serialize)]
pub struct SvidRole {
    /// `guest` or `marble`.
    pub holder: &'static str,
    /// The generation of manifest and CA.
    pub epoch: u64,
    /// SHA-256 of the manifest.
    pub manifest: ByteArray<32>,
    /// Whether an emulated platform is anywhere beneath it.
    pub emulated: bool,
}

/// Why a request is none for an SVID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrFault {
    /// Not a request.
    #[error("it is not a certificate request (PKCS #10, DER) of at most 4096 bytes")]
    Malformed,
    /// Another kind of key.
    #[error("its key is not a P-256 key, or it is not signed with ECDSA and SHA-256")]
    Key,
    /// Not signed by its own key.
    #[error("its signature is not of the key in it")]
    Signature,
}

/// The key of a request, as SubjectPublicKeyInfo, if the request proves it. Names, extensions and attributes of the
/// request are not looked at.
pub fn requested_key(csr: &[u8]) -> Result<Vec<u8>, CsrFault> {
    if csr.len() > LONGEST_CSR {
        return Err(CsrFault::Malformed);
    }
    let (rest, request) = X509CertificationRequest::from_der(csr).map_err(|_| CsrFault::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrFault::Malformed);
    }
    let info = &request.certification_request_info;
    let algorithm = &info.subject_pki.algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let key = &info.subject_pki.subject_public_key.data;
    if algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY
        || curve != Some(OID_EC_P256)
        || request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
        || (key.len(), key.first()) != (65, Some(&4))
    {
        return Err(CsrFault::Key);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| CsrFault::Signature)?;
    Ok(info.subject_pki.raw.to_vec())
}

impl Authority {
    /// The CA of SVIDs of one epoch, signed by this root.
    pub fn svid_authority(&self, epoch: u64, emulated: bool, now: UnixTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = ca_params(&marked(&format!("Bailey SVID CA, epoch {epoch}"), emulated), now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer()?)?.der().clone();
        Ok(Self { key: Some(Zeroizing::new(key.serialize_der())), certificate })
    }

    /// An X.509-SVID for a key, good for an hour and at most until `until` (X509-SVID §§3 to 5).
    pub fn certify_svid(
        &self,
        public_key: &[u8],
        id: &SpiffeId,
        role: &SvidRole,
        (now, until): (UnixTime, UnixTime),
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let lifetime = until.0.saturating_sub(now.0).min(X509_LIFETIME);
        if lifetime <= 0 {
            return Err(AuthorityError::Time);
        }
        let name = marked("Bailey SVID", role.emulated);
        let mut params: CertificateParams = leaf_params(&name, &[], now, Duration::seconds(lifetime))?;
        let id = id.to_string().try_into().map_err(|_| AuthorityError::Name)?;
        params.subject_alt_names = vec![SanType::URI(id)];
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let mut cbor = Vec::new();
        ciborium::into_writer(role, &mut cbor).map_err(|_| AuthorityError::Name)?;
        let content = OctetString::new(&cbor).to_der_vec().map_err(|_| AuthorityError::Name)?;
        params.custom_extensions.push(CustomExtension::from_oid_content(&SVID_OID, content));
        let key = SubjectPublicKeyInfo::from_der(public_key)?;
        Ok(params.signed_by(&key, &self.issuer()?)?.der().clone())
    }

    /// A JWT-SVID, good for five minutes and at most until `until` (JWT-SVID §3).
    pub fn sign_jwt_svid(
        &self,
        id: &SpiffeId,
        audiences: &[String],
        (now, until): (UnixTime, UnixTime),
    ) -> Result<String, AuthorityError> {
        let expires = until.0.min(now.0.saturating_add(JWT_LIFETIME));
        if expires <= now.0 {
            return Err(AuthorityError::Time);
        }
        let (key, public) = self.jwt_key()?;
        let header = json!({ "alg": "ES256", "kid": public.id, "typ": "JWT" });
        let claims = json!({ "sub": id.to_string(), "aud": audiences, "iat": now.0, "exp": expires });
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| AuthorityError::Randomness)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// By what JWT-SVIDs of this CA are verified.
    pub fn jwt_svid_key(&self) -> Result<JwtKey, AuthorityError> {
        self.jwt_key().map(|(_, public)| public)
    }

    /// The key of JWT-SVIDs follows from that of the CA of SVIDs, by HKDF under a label: whoever has the one may issue
    /// SVIDs as it is, and there is no more to keep, to replicate and to lose. It is no other key of this code.
    fn jwt_key(&self) -> Result<(EcdsaKeyPair, JwtKey), AuthorityError> {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, JWT_LABEL).extract(self.key()?);
        let failed = |_| AuthorityError::Randomness;
        // One in 2^32 strings is no scalar of the curve's group: then the next one is taken.
        let pair = (0..=u8::MAX).find_map(|turn| {
            let mut scalar = Zeroizing::new([0; 32]);
            secret.expand(&[&[turn]], hkdf::HKDF_SHA256).ok()?.fill(scalar.as_mut_slice()).ok()?;
            let point = PrivateKey::from_private_key(&ECDH_P256, scalar.as_slice())
                .ok()?
                .compute_public_key()
                .ok()?;
            Some((scalar, point))
        });
        let (scalar, point) = pair.ok_or(AuthorityError::Randomness)?;
        let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_private_key_and_public_key(signing, scalar.as_slice(), point.as_ref());
        let key = key.map_err(|_| AuthorityError::Randomness)?;
        let point: [u8; 65] = key.public_key().as_ref().try_into().map_err(failed)?;
        let id = digest::digest(&digest::SHA256, &point);
        let id = URL_SAFE_NO_PAD.encode(id.as_ref().get(..16).ok_or(AuthorityError::Randomness)?);
        Ok((key, JwtKey { id, point }))
    }
}
