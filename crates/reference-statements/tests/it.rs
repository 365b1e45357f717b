//! Statements as they are read and refused. Sigstore's are real ones, and ones of an instance of our own: see
//! `tests/vectors/README.md`.

use appraisal::{AnchorKey, ReferenceValue, TrustAnchor, UnixTime};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use evidence::{Measurement, Platform};
use reference_statements::{
    Form, PublicKey, Refused, Says, Signer, Signers, SigningKey, Statement, TrustRoot, Values, Verified,
};
use serde_json::{Value, json};

const NOW: UnixTime = UnixTime(1_790_000_000);
const ISSUED: UnixTime = UnixTime(1_780_000_000);
const EXPIRES: UnixTime = UnixTime(1_800_000_000);
const NEVER: UnixTime = UnixTime(2_000_000_000);
const RELEASE: &str = "https://forge.example/guest/.github/workflows/release.yml@refs/tags/v1";
const FORGE: &str = "https://token.forge.example";
const BEACON: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const GITHUB: &str = "https://token.actions.githubusercontent.com";

const MADE_ROOT: &str = include_str!("vectors/made-trusted-root.json");
const PROD_ROOT: &str = include_str!("vectors/trusted_root-prod.json");
const VALUES: &[u8] = include_bytes!("vectors/made-values.json");
const UNLOGGED: &[u8] = include_bytes!("vectors/made-values-unlogged.json");
const BACKDATED: &[u8] = include_bytes!("vectors/made-values-backdated.json");
const MESSAGE: &[u8] = include_bytes!("vectors/made-message.json");
const BY_KEY: &[u8] = include_bytes!("vectors/made-key-values.json");
const BY_KEY_UNLOGGED: &[u8] = include_bytes!("vectors/made-key-values-unlogged.json");
const BY_KEY_ENVELOPE: &[u8] = include_bytes!("vectors/made-key-envelope.json");
const KEY: &str = include_str!("vectors/made-key.pem");
const PROVENANCE: &[u8] = include_bytes!("vectors/conformance-provenance.json");
const GITHUB_UNLOGGED: &[u8] = include_bytes!("vectors/github-unlogged.json");

fn root(json: &str, expires: UnixTime) -> TrustRoot {
    TrustRoot::from_json(json, expires).unwrap()
}

fn sigstore(identity: &str, issuer: &str, json: &str) -> Signer {
    Signer::Sigstore { identity: identity.into(), issuer: issuer.into(), root: root(json, NEVER) }
}

fn only(signer: Signer) -> Signers {
    [("release".to_owned(), signer)].into_iter().collect()
}

fn release() -> Signers {
    only(sigstore(RELEASE, FORGE, MADE_ROOT))
}

fn beacon() -> Signers {
    only(sigstore(BEACON, GITHUB, PROD_ROOT))
}

/// A key pair on P-256, or Ed25519: what signs, and who may sign.
fn pair(ed25519: bool) -> (SigningKey, PublicKey) {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let (pkcs8, spki) = if ed25519 {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let head = hex::decode("302a300506032b6570032100").unwrap();
        (pkcs8, [&head, pair.public_key().as_ref()].concat())
    } else {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
        let head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        (pkcs8, [&head, pair.public_key().as_ref()].concat())
    };
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    };
    let signing = SigningKey::from_pem(&pem("PRIVATE KEY", pkcs8.as_ref())).unwrap();
    (signing, PublicKey::from_pem(&pem("PUBLIC KEY", &spki)).unwrap())
}

fn by(key: PublicKey) -> Signers {
    only(Signer::Key { key, log: None })
}

fn values() -> Values {
    Values {
        series: "guest".into(),
        serial: 7,
        issued: ISSUED,
        not_before: None,
        expires: EXPIRES,
        subjects: [format!("sha256:{}", "11".repeat(32)).parse().unwrap()].into(),
        reference_values: vec![ReferenceValue::program("guest 7", Platform::Snp, Measurement::from([1; 48]))],
    }
}

fn verify(bytes: &[u8], signers: &Signers) -> Result<Verified, Refused> {
    Statement::verify(bytes, signers, NOW)
}

fn code(result: Result<Verified, Refused>) -> &'static str {
    result.expect_err("refused").code()
}

fn edited(bytes: &[u8], edit: impl Fn(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    edit(&mut value);
    value.to_string().into_bytes()
}

#[test]
fn envelopes_and_tokens_of_both_kinds_of_keys_give_their_values() {
    for ed25519 in [false, true] {
        let (signing, public) = pair(ed25519);
        for (bytes, form) in
            [(signing.dsse(&values()).unwrap(), Form::Dsse), (signing.jws(&values()).unwrap(), Form::Jws)]
        {
            let verified = verify(&bytes, &by(public.clone())).unwrap();
            assert_eq!((verified.form(), verified.signers()), (form, &["release".to_owned()][..]));
            assert_eq!(verified.says(), &Says::Values(values()));
            assert_eq!(verified.log(), None);
        }
    }
}

#[test]
fn a_flattened_jws_is_read_as_a_compact_one() {
    let (signing, public) = pair(false);
    let compact = String::from_utf8(signing.jws(&values()).unwrap()).unwrap();
    let parts: Vec<_> = compact.split('.').collect();
    let flattened = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] }).to_string();
    assert!(verify(flattened.as_bytes(), &by(public.clone())).is_ok());
    let detached = format!("{}..{}", parts[0], parts[2]);
    assert_eq!(code(verify(detached.as_bytes(), &by(public))), "STATEMENT_SIGNER_UNKNOWN");
}

#[test]
fn what_nobody_signed_is_refused() {
    let (_, public) = pair(false);
    let signers = by(public);
    let file = json!({ "reference_values": [] }).to_string();
    let predicate = serde_json::to_string(&values()).unwrap();
    let envelope = json!({ "payloadType": "application/vnd.in-toto+json", "payload": "", "signatures": [] });
    let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"bailey-reference-values+jws"}"#);
    for unsigned in [file, predicate, envelope.to_string(), format!("{none}.e30.")] {
        assert_eq!(code(verify(unsigned.as_bytes(), &signers)), "STATEMENT_UNSIGNED", "{unsigned}");
    }
    assert_eq!(code(verify(b"hello", &signers)), "STATEMENT_UNRECOGNISED");
    assert_eq!(code(verify(&vec![b' '; 256 * 1024 + 1], &signers)), "STATEMENT_TOO_LONG");
}

#[test]
fn another_key_signs_nothing() {
    let (signing, _) = pair(false);
    let (_, other) = pair(false);
    let (_, third) = pair(true);
    for bytes in [signing.dsse(&values()).unwrap(), signing.jws(&values()).unwrap()] {
        for signers in [by(other.clone()), by(third.clone()), release(), Signers::default()] {
            assert_eq!(code(verify(&bytes, &signers)), "STATEMENT_SIGNER_UNKNOWN");
        }
    }
}

#[test]
fn a_changed_payload_is_refused() {
    let (signing, public) = pair(false);
    let signers = by(public);
    let dsse = edited(&signing.dsse(&values()).unwrap(), |envelope| {
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let payload = String::from_utf8(payload).unwrap().replace("\"serial\":7", "\"serial\":8");
        envelope["payload"] = STANDARD.encode(payload).into();
    });
    assert_eq!(code(verify(&dsse, &signers)), "STATEMENT_SIGNER_UNKNOWN");
    let compact = String::from_utf8(signing.jws(&values()).unwrap()).unwrap();
    let parts: Vec<_> = compact.split('.').collect();
    let other = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Values { serial: 8, ..values() }).unwrap());
    let jws = format!("{}.{other}.{}", parts[0], parts[2]);
    assert_eq!(code(verify(jws.as_bytes(), &signers)), "STATEMENT_SIGNER_UNKNOWN");
}

#[test]
fn the_type_of_the_payload_is_signed_too() {
    let (signing, public) = pair(false);
    let other = edited(&signing.dsse(&values()).unwrap(), |it| it["payloadType"] = "application/json".into());
    assert_eq!(code(verify(&other, &by(public.clone()))), "STATEMENT_MALFORMED");
    let token = URL_SAFE_NO_PAD.encode(br#"{"alg":"ES256","typ":"JWT"}"#);
    assert_eq!(
        code(verify(format!("{token}.e30.AA").as_bytes(), &by(public.clone()))),
        "STATEMENT_MALFORMED"
    );
    let critical = br#"{"alg":"ES256","typ":"bailey-reference-values+jws","crit":["b64"],"b64":false}"#;
    let critical = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(critical));
    assert_eq!(code(verify(critical.as_bytes(), &by(public))), "STATEMENT_MALFORMED");
}

#[test]
fn a_statement_holds_from_its_beginning_to_its_end_at_each_use() {
    let (signing, public) = pair(false);
    let signers = by(public);
    let later = Values { not_before: Some(UnixTime(NOW.0 + 10)), ..values() };
    let verified = Statement::authenticate(&signing.jws(&later).unwrap(), &signers).unwrap();
    assert_eq!(verified.holds(NOW).unwrap_err().code(), "STATEMENT_NOT_YET_VALID");
    assert_eq!(verified.holds(UnixTime(NOW.0 + 10)), Ok(()));
    assert_eq!(verified.holds(EXPIRES), Ok(()));
    assert_eq!(verified.holds(UnixTime(EXPIRES.0 + 1)).unwrap_err().code(), "STATEMENT_EXPIRED");
    // An earlier `not_before` does not make it hold before it was said.
    let early = Values { not_before: Some(UnixTime(0)), issued: UnixTime(NOW.0 + 5), ..values() };
    assert_eq!(code(verify(&signing.jws(&early).unwrap(), &signers)), "STATEMENT_NOT_YET_VALID");
}

#[test]
fn values_are_strict() {
    let (signing, public) = pair(false);
    let signers = by(public);
    let says = |edit: &dyn Fn(&mut Value)| {
        let mut predicate = serde_json::to_value(values()).unwrap();
        edit(&mut predicate);
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1", "subject": [], "new-field": 1,
            "predicateType": reference_statements::PREDICATE_TYPE, "predicate": predicate,
        });
        verify(&signing.envelope(statement.to_string().as_bytes()).unwrap(), &signers)
    };
    assert!(says(&|_| {}).is_ok());
    assert_eq!(
        code(says(&|it| drop(it.as_object_mut().unwrap().remove("expires")))),
        "STATEMENT_WITHOUT_EXPIRY"
    );
    let edits: [&dyn Fn(&mut Value); 7] = [
        &|it| it["reference_values"] = json!([]),
        &|it| it["series"] = json!(""),
        &|it| it["expires"] = it["issued"].clone(),
        &|it| it["any"] = json!(true),
        &|it| it["subjects"] = json!(["sha256:00"]),
        &|it| it["serial"] = json!(-1),
        &|it| it["reference_values"][0]["measurement"] = json!("00"),
    ];
    for edit in edits {
        assert_eq!(code(says(edit)), "STATEMENT_MALFORMED");
    }
}

#[test]
fn other_predicates_and_statements_are_refused() {
    let (signing, public) = pair(false);
    let signers = by(public);
    let says = |kind: &str, predicate: &str| {
        let statement = json!({ "_type": kind, "subject": [], "predicateType": predicate, "predicate": {} });
        verify(&signing.envelope(statement.to_string().as_bytes()).unwrap(), &signers)
    };
    assert_eq!(
        code(says("https://in-toto.io/Statement/v1", "https://spdx.dev/x")),
        "STATEMENT_OF_OTHER_TYPE"
    );
    assert_eq!(code(says("https://in-toto.io/Statement/v2", "x")), "STATEMENT_MALFORMED");
    assert_eq!(
        code(says("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1")),
        "STATEMENT_MALFORMED"
    );
}

#[test]
fn provenance_of_both_versions_says_builder_and_source() {
    let (signing, public) = pair(true);
    let signers = by(public);
    let digest = "22".repeat(32);
    let old = json!({
        "_type": "https://in-toto.io/Statement/v0.1", "subject": [{"name": "x", "digest": {"sha256": digest}}],
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "predicate": {
            "builder": {"id": "b"}, "buildType": "t",
            "invocation": {"configSource": {"uri": "git+https://a", "digest": {"sha1": "ab"}}},
            "metadata": {"buildFinishedOn": "2026-01-01T00:00:00Z"},
        },
    });
    let verified = verify(&signing.envelope(old.to_string().as_bytes()).unwrap(), &signers).unwrap();
    let Says::Provenance(found) = verified.says() else { panic!() };
    assert_eq!((found.builder.as_str(), found.source.as_deref()), ("b", Some("git+https://a")));
    assert_eq!(found.revision.as_deref(), Some("ab"));
    assert!(found.subjects.contains(&format!("sha256:{digest}").parse().unwrap()));
    let nothing =
        edited(old.to_string().as_bytes(), |it| it["subject"] = json!([{"digest": {"sha512": "00"}}]));
    let nothing = verify(&signing.envelope(&nothing).unwrap(), &signers);
    assert_eq!(code(nothing), "STATEMENT_MALFORMED");
}

#[test]
fn a_real_bundle_of_provenance_is_verified_offline() {
    let verified = verify(PROVENANCE, &beacon()).unwrap();
    let Says::Provenance(found) = verified.says() else { panic!() };
    assert_eq!(found.revision.as_deref(), Some("ebff8dfbd609b7b22237c7719ce07f2dc7934f5f"));
    assert_eq!(found.source.as_deref(), Some("git+https://github.com/loosebazooka/aa-test@refs/heads/main"));
    let certified = verified.certified().unwrap();
    assert_eq!((certified.identity.as_str(), certified.issuer.as_str()), (BEACON, GITHUB));
    assert!(verified.log().is_some() && verified.signed_at().is_some());
    assert_eq!(verified.form(), Form::Sigstore);
}

#[test]
fn bundles_of_our_own_instance_give_values() {
    for bytes in [VALUES, MESSAGE] {
        let verified = verify(bytes, &release()).unwrap();
        let Says::Values(values) = verified.says() else { panic!() };
        assert_eq!((values.series.as_str(), values.serial), ("guest", 1));
        assert_eq!(values.reference_values[0].minimum["guest_svn"], 2);
        assert_eq!(verified.log().unwrap().index, 1);
        assert_eq!(verified.signed_at(), Some(UnixTime(1_748_779_200)));
        let certified = verified.certified().unwrap();
        assert_eq!(certified.source.as_deref(), Some("https://forge.example/guest"));
    }
}

#[test]
fn another_identity_or_issuer_is_refused() {
    for (identity, issuer) in [("x", FORGE), (RELEASE, "https://x"), (&RELEASE[..RELEASE.len() - 1], FORGE)] {
        let signers = only(sigstore(identity, issuer, MADE_ROOT));
        assert_eq!(code(verify(VALUES, &signers)), "STATEMENT_SIGNER_UNKNOWN");
    }
}

#[test]
fn another_instances_root_is_refused() {
    assert_eq!(code(verify(VALUES, &only(sigstore(RELEASE, FORGE, PROD_ROOT)))), "STATEMENT_SIGNER_UNKNOWN");
    assert_eq!(
        code(verify(PROVENANCE, &only(sigstore(BEACON, GITHUB, MADE_ROOT)))),
        "STATEMENT_SIGNER_UNKNOWN"
    );
}

#[test]
fn s62_a_release_that_is_in_no_log_is_refused() {
    assert_eq!(code(verify(UNLOGGED, &release())), "STATEMENT_NOT_IN_LOG");
    // GitHub's own instance: neither in a log nor of a predicate that says anything here.
    assert_eq!(code(verify(GITHUB_UNLOGGED, &beacon())), "STATEMENT_OF_OTHER_TYPE");
    let unproven = edited(VALUES, |bundle| {
        let entry = &mut bundle["verificationMaterial"]["tlogEntries"][0];
        drop(entry.as_object_mut().unwrap().remove("inclusionProof"));
    });
    assert_eq!(code(verify(&unproven, &release())), "STATEMENT_NOT_IN_LOG");
}

#[test]
fn s62_a_key_whose_signatures_must_be_in_a_log_signs_nothing_outside_of_it() {
    let key = PublicKey::from_pem(KEY).unwrap();
    let logged = only(Signer::Key { key: key.clone(), log: Some(root(MADE_ROOT, NEVER)) });
    let verified = verify(BY_KEY, &logged).unwrap();
    assert!(verified.log().is_some() && verified.certified().is_none());
    for bytes in [BY_KEY_UNLOGGED, BY_KEY_ENVELOPE] {
        assert_eq!(code(verify(bytes, &logged)), "STATEMENT_NOT_IN_LOG");
    }
    assert!(verify(BY_KEY_ENVELOPE, &by(key)).is_ok());
}

#[test]
fn s62_an_entry_of_something_else_is_refused() {
    type Edit = fn(&mut Value);
    let edits: [Edit; 6] = [
        |it| it["inclusionProof"]["hashes"][0] = STANDARD.encode([7; 32]).into(),
        |it| it["inclusionProof"]["logIndex"] = "0".into(),
        |it| {
            let note = it["inclusionProof"]["checkpoint"]["envelope"].as_str().unwrap().to_owned();
            it["inclusionProof"]["checkpoint"]["envelope"] = note.replacen("\n2\n", "\n3\n", 1).into();
        },
        |it| it["inclusionPromise"]["signedEntryTimestamp"] = STANDARD.encode([1; 70]).into(),
        |it| it["logId"]["keyId"] = STANDARD.encode([1; 32]).into(),
        |it| {
            let body = STANDARD.decode(it["canonicalizedBody"].as_str().unwrap()).unwrap();
            let body = String::from_utf8(body).unwrap().replace("0.0.1", "0.0.2");
            it["canonicalizedBody"] = STANDARD.encode(body).into();
        },
    ];
    for edit in edits {
        let bytes = edited(VALUES, |bundle| edit(&mut bundle["verificationMaterial"]["tlogEntries"][0]));
        assert_eq!(code(verify(&bytes, &release())), "STATEMENT_SIGNER_UNKNOWN");
    }
    assert_eq!(code(verify(BACKDATED, &release())), "STATEMENT_SIGNER_UNKNOWN");
}

#[test]
fn s63_an_expired_trust_root_is_refused_at_each_use() {
    let signers = only(Signer::Sigstore {
        identity: RELEASE.into(),
        issuer: FORGE.into(),
        root: root(MADE_ROOT, UnixTime(NOW.0 - 1)),
    });
    assert_eq!(code(verify(VALUES, &signers)), "TRUST_ROOT_EXPIRED");
    let verified = Statement::authenticate(VALUES, &signers).unwrap();
    assert_eq!(verified.holds(UnixTime(NOW.0 - 1)), Ok(()));
    assert_eq!(verified.holds(NOW).unwrap_err().code(), "TRUST_ROOT_EXPIRED");
}

#[test]
fn s63_keys_of_a_trust_root_count_in_their_time_only() {
    let ended = |list: &str| {
        let root = edited(MADE_ROOT.as_bytes(), |root| {
            let it = &mut root[list][0];
            let window = if list == "certificateAuthorities" {
                &mut it["validFor"]
            } else {
                &mut it["publicKey"]["validFor"]
            };
            window["end"] = "2025-02-01T00:00:00Z".into();
        });
        only(sigstore(RELEASE, FORGE, &String::from_utf8(root).unwrap()))
    };
    for list in ["certificateAuthorities", "tlogs", "ctlogs"] {
        assert_eq!(code(verify(VALUES, &ended(list))), "STATEMENT_SIGNER_UNKNOWN", "{list}");
    }
}

#[test]
fn a_bundle_signed_in_the_future_is_refused() {
    let verified = Statement::verify(VALUES, &release(), UnixTime(1_748_779_199));
    assert_eq!(code(verified), "STATEMENT_SIGNED_IN_FUTURE");
}

#[test]
fn a_message_that_is_not_what_was_signed_is_refused() {
    let other = edited(MESSAGE, |it| {
        let payload = STANDARD.decode(it["payload"].as_str().unwrap()).unwrap();
        let payload = String::from_utf8(payload).unwrap().replace("\"serial\":1", "\"serial\":9");
        it["payload"] = STANDARD.encode(payload).into();
    });
    assert_eq!(code(verify(&other, &release())), "STATEMENT_SIGNER_UNKNOWN");
    let alone: Value = serde_json::from_slice(MESSAGE).unwrap();
    assert_eq!(code(verify(alone["bundle"].to_string().as_bytes(), &release())), "STATEMENT_MALFORMED");
}

#[test]
fn trust_roots_that_verify_nothing_are_refused() {
    for json in ["", "{}", "[]", &MADE_ROOT.replace("tlogs", "x")] {
        assert!(TrustRoot::from_json(json, NEVER).is_err());
    }
}

#[test]
fn parsers_survive_what_is_cut_short() {
    for bytes in [VALUES, MESSAGE, BY_KEY_ENVELOPE, PROVENANCE] {
        for length in (0..bytes.len()).step_by(61) {
            drop(Statement::verify(&bytes[..length], &release(), NOW));
        }
    }
}

/// A CoRIM for SNP that veraison publishes (see appraisal's `tests/vectors/index.tsv`), signed by a key made for the
/// test: COSE_Sign1 with the signature's validity in its protected header, as the draft has it.
fn signed_corim(validity: &[(u8, i64)]) -> (Vec<u8>, TrustAnchor) {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
    let payload = include_bytes!("../../appraisal/tests/vectors/corim/services-corim-sevsnp-valid.cbor");
    // {0: {0: "maker"}, 1: validity}, in a byte string under 8.
    let mut meta = hex::decode("a200a100656d616b657201").unwrap();
    meta.push(0xa0 | u8::try_from(validity.len()).unwrap());
    for (field, time) in validity {
        meta.extend([*field, 0xc1, 0x1a]);
        meta.extend(u32::try_from(*time).unwrap().to_be_bytes());
    }
    let content_type = [&[0x74][..], b"application/rim+cbor"].concat();
    let header = [&[0xa3, 0x01, 0x26, 0x03][..], &content_type, &[0x08], &shortest(&meta)].concat();
    let to_sign = [&b"\x84\x6aSignature1"[..], &shortest(&header), &[0x40], &shortest(payload)].concat();
    let signature = pair.sign(&random, &to_sign).unwrap();
    let signed =
        [&[0xd2, 0x84][..], &shortest(&header), &[0xa0], &shortest(payload), &[0x58, 64], signature.as_ref()]
            .concat();
    let head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    let key = AnchorKey::PublicKey([&head, pair.public_key().as_ref()].concat());
    (signed, TrustAnchor::new("maker", key, None).unwrap())
}

/// A byte string in CBOR.
fn shortest(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    let head = match length {
        0..24 => vec![0x40 | length.to_be_bytes()[1]],
        24..256 => vec![0x58, length.to_be_bytes()[1]],
        _ => [&[0x59][..], &length.to_be_bytes()].concat(),
    };
    [&head, data].concat()
}

#[test]
fn a_signed_corim_is_a_statement_of_the_series_that_it_names() {
    let (signed, anchor) = signed_corim(&[(0, ISSUED.0), (1, EXPIRES.0)]);
    let signers = only(Signer::Corim(vec![anchor]));
    let verified = verify(&signed, &signers).unwrap();
    let Says::Values(values) = verified.says() else { panic!() };
    assert_eq!((verified.form(), values.serial), (Form::Corim, u64::try_from(ISSUED.0).unwrap()));
    assert!(!values.series.is_empty() && !values.reference_values.is_empty());
    assert_eq!(verified.holds(UnixTime(EXPIRES.0 + 1)).unwrap_err().code(), "STATEMENT_EXPIRED");
    assert_eq!(verified.holds(UnixTime(ISSUED.0 - 1)).unwrap_err().code(), "STATEMENT_NOT_YET_VALID");
    // Another maker's key, and a key that signs other forms.
    let (_, other) = signed_corim(&[(0, ISSUED.0), (1, EXPIRES.0)]);
    assert_eq!(code(verify(&signed, &only(Signer::Corim(vec![other])))), "STATEMENT_SIGNER_UNKNOWN");
    assert_eq!(code(verify(&signed, &by(pair(false).1))), "STATEMENT_SIGNER_UNKNOWN");
    let unsigned = include_bytes!("../../appraisal/tests/vectors/corim/services-corim-sevsnp-valid.cbor");
    assert_eq!(code(verify(unsigned, &signers)), "STATEMENT_UNSIGNED");
}

#[test]
fn a_corim_without_beginning_or_end_is_refused() {
    let says = |validity: &[(u8, i64)]| {
        let (signed, anchor) = signed_corim(validity);
        code(verify(&signed, &only(Signer::Corim(vec![anchor]))))
    };
    assert_eq!(says(&[(1, EXPIRES.0)]), "STATEMENT_MALFORMED");
}
