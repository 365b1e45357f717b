//! Certificates with Evidence about their own key: made, verified, and every way in which they can lie.

use std::sync::Arc;
use std::time::Duration;

use appraisal::{Code, ReferenceValue, UnixTime, ra_tls};
use attested_tls::interop::{
    DEFAULT_LIFETIME, Expected, Freshness, InteropError, certify, extension, verify,
};
use attested_tls::statement;
use attester::Tee;
use crypto_aws_lc::AwsLc;
use evidence::ra_tls::{Claims, Dialect};
use evidence::{Endorsements, Platform, ReportData};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use testkit::tee::{EmulatedTee, NOW};

const NONCE: &[u8] = b"a nonce of the verifier";

fn tee(platform: Platform) -> Arc<EmulatedTee> {
    EmulatedTee::launch(platform, b"the server's code", b"its configuration")
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn endorsements(tee: &EmulatedTee) -> Endorsements {
    Endorsements::from_bytes(&tee.evidence(&ReportData([0; 64])).unwrap().endorsements).unwrap()
}

fn judge(
    tee: &EmulatedTee,
    certificate: &[u8],
    reference: ReferenceValue,
    freshness: Freshness<'_>,
    now: UnixTime,
) -> Result<(), InteropError> {
    let (endorsements, policy) = (endorsements(tee), testkit::tee::policy());
    let measurements = [reference];
    let verifier = statement::verifier();
    let expected = Expected {
        endorsements: &endorsements,
        measurements: &measurements,
        policy: &policy,
        freshness,
        now,
        verifier: &verifier,
    };
    let appraised = verify(certificate, &expected)?;
    assert_eq!(appraised.platform(), tee.platform());
    Ok(())
}

/// Verified for [`NONCE`], now, and for the code that the TEE runs.
fn check(tee: &EmulatedTee, certificate: &[u8]) -> Result<(), InteropError> {
    judge(tee, certificate, tee.reference(), Freshness::Nonce(NONCE), NOW)
}

fn made(tee: &EmulatedTee, dialect: Dialect) -> CertificateDer<'static> {
    certify(tee, &key(), Some(NONCE), dialect, (NOW, DEFAULT_LIFETIME)).unwrap()
}

/// A certificate of `pair` with these extensions.
fn with(pair: &KeyPair, extensions: Vec<CustomExtension>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.custom_extensions = extensions;
    params.self_signed(pair).unwrap().der().to_vec()
}

/// Evidence of the TEE over these claims, as an extension.
fn about(tee: &EmulatedTee, claims: &Claims) -> CustomExtension {
    let evidence = tee.evidence(&ra_tls::report_data(claims, &AwsLc)).unwrap().evidence;
    extension(Dialect::RatsTls, &evidence, claims).unwrap()
}

fn claims_of(pair: &KeyPair) -> Claims {
    Claims::new(attested_tls::key::sha256(&pair.subject_public_key_info()), Some(NONCE))
}

fn codes(result: Result<(), InteropError>) -> Vec<Code> {
    match result {
        Err(InteropError::Refused(refused)) => refused.codes(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn certificates_of_each_platform_and_dialect_are_verified() {
    for (platform, dialect) in [
        (Platform::Tdx, Dialect::Gramine),
        (Platform::Sgx, Dialect::Gramine),
        (Platform::Tdx, Dialect::RatsTls),
        (Platform::Sgx, Dialect::RatsTls),
        (Platform::Snp, Dialect::RatsTls),
    ] {
        let tee = tee(platform);
        check(&tee, &made(&tee, dialect)).unwrap();
    }
    let refused = certify(&*tee(Platform::Snp), &key(), None, Dialect::Gramine, (NOW, DEFAULT_LIFETIME));
    assert!(matches!(refused, Err(InteropError::Malformed(_))), "Gramine has no tag for SNP");
}

#[test]
fn evidence_of_an_honest_tee_in_a_strangers_certificate_is_refused() {
    let tee = tee(Platform::Tdx);
    let (honest, stranger) = (key(), key());
    let certificate = with(&stranger, vec![about(&tee, &claims_of(&honest))]);
    let refused = check(&tee, &certificate).unwrap_err();
    assert!(matches!(refused, InteropError::KeyNotBound { .. }));
    assert_eq!(refused.code(), "CERTIFICATE_KEY_NOT_BOUND");
    // Claims for the stranger's key, which the Evidence does not cover.
    let evidence = tee.evidence(&ra_tls::report_data(&claims_of(&honest), &AwsLc)).unwrap().evidence;
    let own = extension(Dialect::RatsTls, &evidence, &claims_of(&stranger)).unwrap();
    assert_eq!(codes(check(&tee, &with(&stranger, vec![own]))), [Code::ReportDataMismatch]);
}

#[test]
fn a_digest_cut_short_or_without_zeros_is_not_covered() {
    let (tee, pair) = (tee(Platform::Snp), key());
    let claims = claims_of(&pair);
    let mut data = ra_tls::report_data(&claims, &AwsLc);
    data.0[63] = 1;
    let evidence = tee.evidence(&data).unwrap().evidence;
    let extension = extension(Dialect::RatsTls, &evidence, &claims).unwrap();
    assert_eq!(codes(check(&tee, &with(&pair, vec![extension]))), [Code::ReportDataMismatch]);
}

#[test]
fn other_code_is_refused() {
    let own = tee(Platform::Tdx);
    let other = EmulatedTee::launch(Platform::Tdx, b"other code", b"its configuration");
    let certificate = made(&own, Dialect::Gramine);
    let result = judge(&own, &certificate, other.reference(), Freshness::Nonce(NONCE), NOW);
    assert_eq!(codes(result), [Code::MeasurementMismatch]);
}

#[test]
fn s13_evidence_of_any_age_is_refused() {
    let tee = tee(Platform::Tdx);
    let under =
        |certificate: &[u8], freshness, now| judge(&tee, certificate, tee.reference(), freshness, now);
    let certificate = made(&tee, Dialect::RatsTls);
    let other = under(&certificate, Freshness::Nonce(b"another nonce"), NOW);
    assert!(matches!(other, Err(InteropError::NonceMismatch)));
    let pair = key();
    let long = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    let without = certify(&*tee, &pair, None, Dialect::RatsTls, (NOW, long)).unwrap();
    assert!(matches!(check(&tee, &without), Err(InteropError::NonceMismatch)));
    let lived = under(&without, Freshness::Lifetime(DEFAULT_LIFETIME), NOW);
    assert!(matches!(lived, Err(InteropError::LivesTooLong { .. })));
    let short = certify(&*tee, &pair, None, Dialect::RatsTls, (NOW, DEFAULT_LIFETIME)).unwrap();
    under(&short, Freshness::Lifetime(DEFAULT_LIFETIME), NOW).unwrap();
    for now in [NOW.0 - 1, NOW.0 + 24 * 60 * 60 + 1] {
        let late = under(&short, Freshness::Lifetime(DEFAULT_LIFETIME), UnixTime(now));
        assert!(matches!(late, Err(InteropError::NotNow { .. })), "{now}");
    }
}

#[test]
fn certificates_that_are_not_as_they_should_be_are_refused() {
    let (tee, pair) = (tee(Platform::Snp), key());
    let extension = about(&tee, &claims_of(&pair));
    let oid = &evidence::ra_tls::TAGGED_EVIDENCE_OID;
    let content = |content: Vec<u8>| CustomExtension::from_oid_content(oid, content);
    let value = extension.content().to_vec();
    // The tag of an Intel quote before a report of SNP, and a tag that nobody knows.
    let retagged = |tag: u8| {
        let mut value = value.clone();
        assert_eq!(value[..5], [0xda, 0x00, 0x1a, 0x75, 0x04]);
        value[4] = tag;
        content(value)
    };
    for wrong in [
        vec![],
        vec![extension.clone(), extension.clone()],
        vec![retagged(1)],
        vec![retagged(6)],
        vec![content(value[5..].to_vec())],
        vec![content([&value[..], &[0]].concat())],
        vec![content(value[..value.len() - 1].to_vec())],
        vec![content(vec![])],
    ] {
        let refused = check(&tee, &with(&pair, wrong)).unwrap_err();
        assert!(matches!(refused, InteropError::Malformed(_)), "{refused:?}");
    }
    let whole = with(&pair, vec![extension]);
    check(&tee, &whole).unwrap();
    assert!(matches!(check(&tee, &[&whole[..], &[0]].concat()), Err(InteropError::Certificate)));
    assert!(matches!(check(&tee, &[&whole[..], &whole].concat()), Err(InteropError::Certificate)));
    for length in (0..whole.len()).step_by(7) {
        assert!(check(&tee, &whole[..length]).is_err(), "{length}");
    }
}

/// Of the key, the extension and what it covers, no byte may differ.
#[test]
fn no_flipped_byte_of_key_or_evidence_is_accepted() {
    let (tee, pair) = (tee(Platform::Snp), key());
    let extension = about(&tee, &claims_of(&pair));
    let whole = with(&pair, vec![extension.clone()]);
    let find = |part: &[u8]| whole.windows(part.len()).position(|window| window == part).unwrap();
    let key = pair.subject_public_key_info();
    for (part, step) in [(&key[..], 5), (extension.content(), 23)] {
        let start = find(part);
        for at in (start..start + part.len()).step_by(step) {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            assert!(check(&tee, &altered).is_err(), "{at}");
        }
    }
}
