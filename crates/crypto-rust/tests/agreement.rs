//! The two providers agree: on fresh signatures of every algorithm, on what is wrong with them, and on the verdicts
//! of recorded Evidence, byte for byte.

use appraisal::{Crypto, Examination, SignatureAlgorithm, UnixTime};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RsaEncoding};
use crypto_aws_lc::AwsLc;
use crypto_rust::PureRust;

const MESSAGE: &[u8] = b"signed by one library, verified by two";

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let key = EcdsaKeyPair::generate(algorithm).unwrap();
    let signature = key.sign(&SystemRandom::new(), MESSAGE).unwrap();
    (key.public_key().as_ref().to_vec(), signature.as_ref().to_vec())
}

fn signed() -> Vec<(SignatureAlgorithm, Vec<u8>, Vec<u8>)> {
    let mut all: Vec<_> = [
        (SignatureAlgorithm::EcdsaP256Sha256Fixed, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        (SignatureAlgorithm::EcdsaP256Sha256Der, &signature::ECDSA_P256_SHA256_ASN1_SIGNING),
        (SignatureAlgorithm::EcdsaP384Sha384Fixed, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        (SignatureAlgorithm::EcdsaP384Sha384Der, &signature::ECDSA_P384_SHA384_ASN1_SIGNING),
        (SignatureAlgorithm::EcdsaP521Sha512Fixed, &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
    ]
    .into_iter()
    .map(|(algorithm, signer)| {
        let (key, signature) = ecdsa(signer);
        (algorithm, key, signature)
    })
    .collect();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let schemes: [(_, &dyn RsaEncoding); 5] = [
        (SignatureAlgorithm::RsaPkcs1Sha256, &signature::RSA_PKCS1_SHA256),
        (SignatureAlgorithm::RsaPkcs1Sha384, &signature::RSA_PKCS1_SHA384),
        (SignatureAlgorithm::RsaPkcs1Sha512, &signature::RSA_PKCS1_SHA512),
        (SignatureAlgorithm::RsaPssSha256, &signature::RSA_PSS_SHA256),
        (SignatureAlgorithm::RsaPssSha384, &signature::RSA_PSS_SHA384),
    ];
    for (algorithm, scheme) in schemes {
        let mut bytes = vec![0; rsa.public_modulus_len()];
        rsa.sign(scheme, &SystemRandom::new(), MESSAGE, &mut bytes).unwrap();
        all.push((algorithm, rsa.public_key().as_ref().to_vec(), bytes));
    }
    all
}

#[test]
fn every_algorithm_and_every_flaw() {
    let providers: [&dyn Crypto; 2] = [&AwsLc, &PureRust];
    for (algorithm, key, signature) in signed() {
        for crypto in providers {
            assert!(crypto.verify(algorithm, &key, MESSAGE, &signature).is_ok(), "{algorithm:?}");
            assert!(crypto.verify(algorithm, &key, b"other", &signature).is_err(), "{algorithm:?}");
            for at in [0, 1, signature.len() / 2, signature.len() - 1] {
                let mut wrong = signature.clone();
                wrong[at] ^= 1;
                assert!(crypto.verify(algorithm, &key, MESSAGE, &wrong).is_err(), "{algorithm:?} at {at}");
                assert!(crypto.verify(algorithm, &key, MESSAGE, &signature[..at]).is_err());
            }
            let longer = [signature.as_slice(), &[0]].concat();
            assert!(crypto.verify(algorithm, &key, MESSAGE, &longer).is_err(), "{algorithm:?}");
            let zeros = vec![0; signature.len()];
            assert!(crypto.verify(algorithm, &key, MESSAGE, &zeros).is_err(), "{algorithm:?}");
            let mut other = key.clone();
            let last = other.len() - 1;
            other[last] ^= 1;
            assert!(crypto.verify(algorithm, &other, MESSAGE, &signature).is_err(), "{algorithm:?}");
            assert!(crypto.verify(algorithm, &key[..last], MESSAGE, &signature).is_err(), "{algorithm:?}");
        }
    }
}

#[test]
fn digests() {
    let parts: [&[u8]; 3] = [b"a", b"", b"bc"];
    assert_eq!(AwsLc.sha1(&parts), PureRust.sha1(&parts));
    assert_eq!(AwsLc.sha256(&parts), PureRust.sha256(&parts));
    assert_eq!(AwsLc.sha384(&parts), PureRust.sha384(&parts));
    assert_eq!(AwsLc.sha512(&parts), PureRust.sha512(&parts));
}

#[test]
fn verdicts_on_recorded_evidence_are_the_same_bytes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors");
    let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
    for (evidence, endorsements, at) in [
        ("negatives/tdx4-ok.quote", "negatives/tdx4-ok.collateral.json", "2025-07-04T10:16:31Z"),
        ("negatives/sgx3-ok.quote", "negatives/sgx3-ok.collateral.json", "2025-07-04T10:16:31Z"),
        ("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin", "", "2026-01-01T00:00:00Z"),
    ] {
        let mut examination = Examination::new(&read(evidence)).unwrap();
        if !endorsements.is_empty() && folder.join(endorsements).exists() {
            examination.endorse(&read(endorsements)).unwrap();
        }
        for file in std::fs::read_dir(folder.join("amd-collateral")).unwrap() {
            let _ = examination.endorse(&std::fs::read(file.unwrap().path()).unwrap());
        }
        let now: UnixTime = at.parse().unwrap();
        let native = serde_json::to_string(&examination.assess(now, &AwsLc)).unwrap();
        assert_eq!(serde_json::to_string(&examination.assess(now, &PureRust)).unwrap(), native);
        assert!(native.contains(r#""genuine","outcome":"passed""#), "{evidence}: {native}");
    }
}
