//! Interoperable RA-TLS: certificates that carry Evidence about their own key, for peers that speak TLS and no
//! protocol of ours (Gramine, rats-tls). The TLS handshake proves that the peer holds the key of the certificate;
//! [`verify`], that a TEE does, which runs the expected code.
//!
//! It is weaker than [`crate::channel`]: Evidence is as old as the certificate, unless the verifier gave a nonce, and
//! it is about a key, not about a connection.
//!
//! ```text
//! certificate { key, extension 2.23.133.5.4.9: tag([evidence, claims]) }
//!        └── SHA-256(key) = claims["pubkey-hash"]     SHA-256(claims) ‖ zeros = report data of the Evidence
//! ```

use std::time::Duration;

use appraisal::{Appraised, Policy, ReferenceValue, ReferenceValues, Refused, UnixTime, Verifier, ra_tls};
use attester::{AttesterError, Tee};
use crypto_aws_lc::AwsLc;
use evidence::ra_tls::{Certificate, Claims, Dialect, TAGGED_EVIDENCE_OID, extension_value};
use evidence::{Endorsements, Malformed};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;

use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::key::SpkiDigest;

/// What the certificate of a peer is held against.
pub struct Expected<'a> {
    /// What vendors sign about the peer's platform.
    pub endorsements: &'a Endorsements,
    /// Code that is acceptable.
    pub measurements: &'a [ReferenceValue],
    /// Platforms that are acceptable.
    pub policy: &'a Policy,
    /// How fresh the Evidence is to be.
    pub freshness: Freshness<'a>,
    /// The time to verify at.
    pub now: UnixTime,
    /// What appraises, and remembers what vendors signed; [`crate::statement::verifier`] makes one.
    pub verifier: &'a Verifier,
}

/// What certificates may live without a nonce: a day (S-13).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How fresh the Evidence in a certificate is to be (S-13: certificates that live for years).
#[derive(Clone, Copy, Debug)]
pub enum Freshness<'a> {
    /// Made for this nonce. Whoever releases a secret wants this.
    Nonce(&'a [u8]),
    /// In a certificate that lives no longer than this, and now. Its dates are the word of the attested code.
    Lifetime(Duration),
}

/// Why a certificate could not be made, or was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum InteropError {
    /// It is no certificate with Evidence in it.
    #[error("the certificate carries no Evidence that can be read")]
    Malformed(#[from] Malformed),
    /// It is not one certificate in DER.
    #[error("not one certificate in DER, or two readers disagree about its key")]
    Certificate,
    /// The Evidence was made for another key.
    #[error("the Evidence in the certificate was made for another key: expected {expected}, seen {seen}")]
    KeyNotBound {
        /// SHA-256 of the certificate's key.
        expected: SpkiDigest,
        /// The hash in the claims, hexadecimal.
        seen: String,
    },
    /// The certificate was made for someone else, or before.
    #[error("the certificate was not made for this nonce")]
    NonceMismatch,
    /// The certificate's time has not come, or has passed.
    #[error("the certificate is for {not_before} to {not_after}, and it is {now}")]
    NotNow {
        /// The time of the verification.
        now: UnixTime,
        /// From when it holds.
        not_before: UnixTime,
        /// Until when it holds.
        not_after: UnixTime,
    },
    /// The certificate lives so long that its Evidence may be of any age.
    #[error("the certificate is for {} s without a nonce; {} s are allowed", .lifetime.as_secs(), .longest.as_secs())]
    LivesTooLong {
        /// From its first to its last second.
        lifetime: Duration,
        /// What is allowed.
        longest: Duration,
    },
    /// Appraised, and refused; the verdict says why.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// The TEE gave no Evidence.
    #[error("the TEE gave no Evidence")]
    Tee(#[from] AttesterError),
    /// The certificate could not be signed.
    #[error("the certificate could not be made")]
    Signing(#[from] rcgen::Error),
}

impl InteropError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Certificate => "CERTIFICATE_MALFORMED",
            Self::KeyNotBound { .. } => appraisal::Code::CertificateKeyNotBound.as_str(),
            Self::NonceMismatch => "NONCE_MISMATCH",
            Self::NotNow { .. } => "CERTIFICATE_NOT_VALID_NOW",
            Self::LivesTooLong { .. } => "CERTIFICATE_LIVES_TOO_LONG",
            Self::Refused(refused) => refused.codes().first().map_or("REFUSED", |code| code.as_str()),
            Self::Tee(_) => "TEE_UNAVAILABLE",
            Self::Signing(_) => "CERTIFICATE_NOT_MADE",
        }
    }
}

/// The extension, not critical: whoever does not know it sees a self-signed certificate.
///
/// # Errors
/// [`Malformed`] for Evidence that the dialect has no tag for.
pub fn extension(dialect: Dialect, evidence: &[u8], claims: &Claims) -> Result<CustomExtension, Malformed> {
    let value = extension_value(dialect, evidence, claims)?;
    Ok(CustomExtension::from_oid_content(&TAGGED_EVIDENCE_OID, value))
}

/// Makes a self-signed certificate for a key of this TEE, which lives from `now` for `lifetime`. Blocking, as asking
/// the TEE is.
///
/// # Errors
/// [`InteropError`] when the TEE gives no Evidence, or none that the dialect knows.
pub fn certify(
    tee: &dyn Tee,
    pair: &KeyPair,
    nonce: Option<&[u8]>,
    dialect: Dialect,
    (now, lifetime): (UnixTime, Duration),
) -> Result<CertificateDer<'static>, InteropError> {
    let claims = Claims::new(SpkiDigest::of_spki(&pair.subject_public_key_info()).0, nonce);
    let raw = tee.evidence(&ra_tls::report_data(&claims, &AwsLc))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "bailey ra-tls");
    let date =
        |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| InteropError::Certificate);
    params.not_before = date(now.0)?;
    params.not_after = date(now.0.saturating_add_unsigned(lifetime.as_secs()))?;
    params.custom_extensions.push(extension(dialect, &raw.evidence, &claims)?);
    Ok(params.self_signed(pair)?.der().clone())
}

/// Verifies the certificate that a peer presented, DER. That the peer holds its key is for the TLS handshake to prove.
///
/// # Errors
/// [`InteropError`] says why not.
pub fn verify(certificate: &[u8], expected: &Expected<'_>) -> Result<Appraised, InteropError> {
    let key = SpkiDigest::of_certificate(certificate).map_err(|_| InteropError::Certificate)?;
    let parsed = Certificate::parse(certificate)?;
    // TLS uses the key that its own reader found.
    if SpkiDigest::of_spki(&parsed.key) != key {
        return Err(InteropError::Certificate);
    }
    if !ra_tls::names_key(&parsed, &AwsLc) {
        return Err(InteropError::KeyNotBound { expected: key, seen: hex::encode(&parsed.claims.key_hash) });
    }
    require_fresh(certificate, &parsed.claims, expected)?;
    let reference = ReferenceValues {
        report_data: ra_tls::report_data(&parsed.claims, &AwsLc).into(),
        measurements: expected.measurements.to_vec(),
    };
    let Expected { endorsements, policy, now, verifier, .. } = expected;
    verifier
        .appraise(&parsed.evidence, endorsements, &reference, policy, *now)
        .map_err(|refused| InteropError::Refused(Box::new(refused)))
}

fn require_fresh(certificate: &[u8], claims: &Claims, expected: &Expected<'_>) -> Result<(), InteropError> {
    let longest = match expected.freshness {
        Freshness::Nonce(nonce) if claims.nonce.as_deref() == Some(nonce) => return Ok(()),
        Freshness::Nonce(_) => return Err(InteropError::NonceMismatch),
        Freshness::Lifetime(longest) => longest,
    };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| InteropError::Certificate)?;
    let validity = parsed.validity();
    let not_before = UnixTime(validity.not_before.timestamp());
    let not_after = UnixTime(validity.not_after.timestamp());
    let now = expected.now;
    if now < not_before || not_after < now {
        return Err(InteropError::NotNow { now, not_before, not_after });
    }
    let lifetime = Duration::from_secs(not_after.0.abs_diff(not_before.0));
    if lifetime > longest {
        return Err(InteropError::LivesTooLong { lifetime, longest });
    }
    Ok(())
}
