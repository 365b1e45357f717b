//! Results from real verdicts: what each says, and that tokens are believed under the expected key only (S-38).

use std::path::Path;

use appraisal::{Examination, Examined, UnixTime};
use attestation_result::{Ear, InvalidToken, Issue, PROFILE, SigningKey, Tier, Token, VerifyingKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use crypto_aws_lc::AwsLc;

const GOOD: &str = "2025-07-04T10:16:31Z";

fn read(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file))
        .unwrap()
}

fn tdx(at: &str) -> Examined {
    let mut examination = Examination::new(&read("negatives/tdx4-ok.quote")).unwrap();
    examination.endorse(&read("negatives/tdx4-ok.collateral.json")).unwrap();
    examination.assess(at.parse().unwrap(), &AwsLc)
}

fn issue(examined: &Examined) -> Issue {
    let issued = examined.verdicts()[0].at();
    Issue {
        developer: "Example Ltd.".into(),
        build: "bailey 0.1.0".into(),
        issued,
        expires: UnixTime(issued.0 + 300),
        nonce: Some(vec![7; 32]),
        evidence_digest: [1; 32],
        policy_digest: [2; 32],
    }
}

fn key() -> SigningKey {
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    SigningKey::from_pkcs8(document.as_ref()).unwrap()
}

#[test]
fn an_accepted_quote_is_affirmed_in_both_forms() {
    let examined = tdx(GOOD);
    assert!(examined.is_accepted(), "{}", examined.render(false));
    let ear = Ear::new(&examined, issue(&examined));
    assert_eq!(ear.status(), Tier::Affirming);
    let (key, now) = (key(), examined.verdicts()[0].at());

    let claims = key.verifying_key().verify_jwt(&ear.to_jwt(&key).unwrap(), now).unwrap();
    assert_eq!(claims["eat_profile"], PROFILE);
    assert_eq!(claims["ear_status"], "affirming");
    let submodule = &claims["submods"]["tdx"];
    assert_eq!(submodule["ear_trustworthiness_vector"]["hardware"], 2);
    assert_eq!(submodule["ear_trustworthiness_vector"]["runtime-opaque"], 2);
    // Whose workload it is was not asked, so nothing is claimed of it.
    assert!(submodule["ear_trustworthiness_vector"].get("executables").is_none());
    assert_eq!(submodule["ear_verifier_claims"]["tcb"]["status"], "UpToDate");
    assert_eq!(submodule["ear_verifier_claims"]["emulated"], false);

    let claims = key.verifying_key().verify_cwt(&ear.to_cwt(&key).unwrap(), now).unwrap();
    let member = |number: i64| {
        let map = claims.as_map().unwrap();
        map.iter().find(|(name, _)| name.as_integer() == Some(number.into())).map(|(_, value)| value).unwrap()
    };
    assert_eq!(member(265).as_text(), Some(PROFILE));
    assert_eq!(member(1000).as_integer(), Some(2.into()));
    assert_eq!(member(10).as_bytes().map(Vec::as_slice), Some([7; 32].as_slice()));
}

#[test]
fn a_refusal_is_contraindicated_whatever_its_cause() {
    // Expired, out of date, and not genuine.
    let expired = tdx("2030-01-01T00:00:00Z");
    let mut altered = read("negatives/tdx4-ok.quote");
    altered[600] ^= 1;
    let altered = Examination::new(&altered).unwrap().assess(GOOD.parse().unwrap(), &AwsLc);
    for examined in [expired, altered] {
        assert!(!examined.is_accepted());
        let ear = Ear::new(&examined, issue(&examined));
        assert_eq!(ear.status(), Tier::Contraindicated);
        assert_eq!(ear.to_json()["submods"]["tdx"]["ear_status"], "contraindicated");
    }
}

#[test]
fn s38_only_the_expected_key_is_believed_and_only_in_time() {
    let examined = tdx(GOOD);
    let (ear, key, stranger) = (Ear::new(&examined, issue(&examined)), key(), key());
    let now = examined.verdicts()[0].at();
    let (jwt, cwt) = (ear.to_jwt(&key).unwrap(), ear.to_cwt(&key).unwrap());
    assert_eq!(stranger.verifying_key().verify_jwt(&jwt, now), Err(InvalidToken::Signature));
    assert_eq!(stranger.verifying_key().verify_cwt(&cwt, now), Err(InvalidToken::Signature));
    for when in [now.0 - 61, now.0 + 300, i64::MAX, i64::MIN] {
        let late = UnixTime(when);
        assert!(
            matches!(key.verifying_key().verify_jwt(&jwt, late), Err(InvalidToken::Time { .. })),
            "{when}"
        );
        assert!(
            matches!(key.verifying_key().verify_cwt(&cwt, late), Err(InvalidToken::Time { .. })),
            "{when}"
        );
    }
    // No algorithm, another algorithm, another payload.
    let [header, payload, signature]: [&str; 3] = jwt.split('.').collect::<Vec<_>>().try_into().unwrap();
    let encode = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    for forged in [
        format!("{}.{payload}.", encode(r#"{"alg":"none"}"#)),
        format!("{}.{payload}.{signature}", encode(r#"{"alg":"HS256"}"#)),
        format!(
            "{header}.{}.{signature}",
            encode(&ear.to_json().to_string().replace("affirming", "warning"))
        ),
        format!("{header}.{payload}"),
        String::new(),
    ] {
        assert!(key.verifying_key().verify_jwt(&forged, now).is_err(), "{forged}");
    }
    for at in (0..cwt.len()).step_by(41) {
        let mut altered = cwt.clone();
        altered[at] ^= 1;
        if altered != cwt {
            let _ = key.verifying_key().verify_cwt(&altered, now);
        }
    }
    let mut altered = cwt.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(key.verifying_key().verify_cwt(&altered, now), Err(InvalidToken::Signature));
    assert!(VerifyingKey::from_point(&[4; 64]).is_none());
}

#[test]
fn what_is_no_token_of_this_profile_is_not_read() {
    let examined = tdx(GOOD);
    let (ear, key) = (Ear::new(&examined, issue(&examined)), key());
    let cwt = ear.to_cwt(&key).unwrap();
    let read = |bytes: &[u8]| Token::parse(bytes).and_then(|token| token.unverified_claims());
    assert_eq!(read(&cwt), Ok(ear.to_json()), "both forms say the same");
    for length in 0..cwt.len() {
        assert!(read(&cwt[..length]).is_err(), "{length}");
    }
    assert!(read(&vec![b'a'; 2 << 20]).is_err());
    // A claim that is not of the profile, one that is there twice, bytes after the claims.
    let mut altered = Vec::new();
    let claims: ciborium::Value = ciborium::from_reader(ear.to_cbor().as_slice()).unwrap();
    let strange = (ciborium::Value::from(4711), ciborium::Value::from(true));
    let twice = claims.as_map().unwrap()[0].clone();
    for more in [strange, twice] {
        let claims = [claims.as_map().unwrap().clone(), vec![more]].concat();
        let mut payload = Vec::new();
        ciborium::into_writer(&ciborium::Value::Map(claims), &mut payload).unwrap();
        altered.push(payload);
    }
    altered.push([ear.to_cbor(), vec![0]].concat());
    for payload in altered {
        use coset::TaggedCborSerializable;
        let signed = coset::CoseSign1 { payload: Some(payload), ..coset::CoseSign1::default() };
        assert!(read(&signed.to_tagged_vec().unwrap()).is_err());
    }
}
