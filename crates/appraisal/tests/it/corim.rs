//! Reference values as CoRIMs: those of other verifiers' test suites, unsigned, and the same signed here, by `coset`.

use appraisal::{
    AnchorKey, Code, CorimPolicy, Examination, ReadReferences, ReferencesRefused, TrustAnchor, UnixTime,
    Unsigned,
};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ciborium::{Value, cbor};
use coset::{CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};
use crypto_aws_lc::AwsLc;
use evidence::Platform;

use crate::vectors;

const NOW: UnixTime = UnixTime(1_790_000_000);
const SNP: &str = "corim/services-corim-sevsnp-valid.cbor";

/// As the caller's own word.
fn own(bytes: &[u8]) -> Result<ReadReferences, ReferencesRefused> {
    let policy = CorimPolicy { signers: &[], unsigned: Unsigned::Accepted };
    ReadReferences::from_file_bytes(bytes, policy, NOW, &AwsLc)
}

fn signed_by(bytes: &[u8], signers: &[TrustAnchor]) -> Result<ReadReferences, ReferencesRefused> {
    let policy = CorimPolicy { signers, unsigned: Unsigned::Refused };
    ReadReferences::from_file_bytes(bytes, policy, NOW, &AwsLc)
}

#[test]
fn corpus() {
    for row in vectors::rows().into_iter().filter(|row| row.is_in("corim")) {
        let read = own(&vectors::read(&row.file));
        let known = ["sevsnp-valid", "parsec-tpm-valid", "cca-realm-valid"];
        assert_eq!(read.is_ok(), known.iter().any(|part| row.file.contains(part)), "{}: {read:?}", row.file);
    }
    let unknown = own(&vectors::read("corim/services-corim-psa-valid.cbor")).unwrap_err();
    assert!(matches!(unknown, ReferencesRefused::UnknownProfile { .. }), "{unknown}");

    let realm =
        &own(&vectors::read("corim/services-corim-cca-realm-valid.cbor")).unwrap().reference_values[0];
    assert_eq!(
        (realm.platform, realm.measurement.as_ref().unwrap().as_bytes()),
        (Platform::Cca, &[0x43; 64][..])
    );
    assert_eq!(
        realm.launch_configuration.as_ref().unwrap().as_bytes(),
        b"ADADADADADADADADADADADADADADADADADADADADADADADADADADADADADADADAD"
    );
    assert_eq!(realm.registers.keys().collect::<Vec<_>>(), ["rem0", "rem1", "rem2", "rem3"]);

    let tpm = &own(&vectors::read("corim/services-corim-parsec-tpm-valid.cbor")).unwrap().reference_values[0];
    assert_eq!((tpm.platform, tpm.registers.len()), (Platform::Tpm, 6));
    assert_eq!(tpm.registers["pcr0.sha256"], "00".repeat(32));
}

/// The manifest of a suite, and the report of the same suite: the values are those of the report.
#[test]
fn a_published_manifest_is_of_the_report_that_it_was_published_with() {
    let read = own(&vectors::read(SNP)).unwrap();
    let left_out: Vec<_> = read.left_out.iter().map(|value| value.element.as_str()).collect();
    assert_eq!(
        left_out,
        [
            "0", "1", "2", "3", "4", "5", "6", "7", "640", "645", "646", "647", "3328", "3329", "3330",
            "3936", "3968"
        ]
    );
    let looked_at = |references| {
        let mut examination =
            Examination::new(&vectors::read("composite/services-sevsnp-tsm-report.json")).unwrap();
        examination.expect_code(references);
        let examined = examination.assess(NOW, &AwsLc);
        examined.reasons().iter().any(|reason| reason.code == Code::MeasurementMismatch)
    };
    let mut other = read.reference_values.clone();
    other[0].measurement = Some(evidence::Measurement::from([1; 48]));
    assert_eq!((looked_at(read.reference_values), looked_at(other)), (false, true));
}

/// A signer, made for the test.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap())
    }

    /// SubjectPublicKeyInfo (RFC 5480, §2) of a key on P-256.
    fn anchor(&self) -> TrustAnchor {
        let head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        let key = [&head[..], self.0.public_key().as_ref()].concat();
        TrustAnchor::new("maker", AnchorKey::PublicKey(key), None).unwrap()
    }

    fn sign(&self, payload: &[u8], content_type: &str, meta: Option<Value>) -> Vec<u8> {
        let mut header = HeaderBuilder::new()
            .algorithm(iana::Algorithm::ES256)
            .content_type(content_type.to_owned())
            .key_id(b"maker".to_vec());
        if let Some(meta) = meta {
            header = header.value(8, Value::Bytes(encoded(&meta)));
        }
        CoseSign1Builder::new()
            .protected(header.build())
            .payload(payload.to_vec())
            .create_signature(&[], |bytes| {
                self.0.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec()
            })
            .build()
            .to_tagged_vec()
            .unwrap()
    }
}

const MEDIA_TYPE: &str = "application/rim+cbor";

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// A validity, as seconds around now.
fn validity(from: Option<i64>, until: i64) -> Value {
    let time = |seconds: i64| Value::Tag(1, Box::new(Value::from(NOW.0 + seconds)));
    let mut map = vec![(Value::from(1), time(until))];
    map.extend(from.map(|from| (Value::from(0), time(from))));
    Value::Map(map)
}

#[test]
fn only_the_named_signers_are_believed() {
    let (maker, other) = (Signer::new(), Signer::new());
    let signed = maker.sign(&vectors::read(SNP), MEDIA_TYPE, None);
    assert_eq!(signed_by(&signed, &[other.anchor(), maker.anchor()]), own(&vectors::read(SNP)));
    for signers in [vec![], vec![other.anchor()]] {
        let known = signers.len();
        assert_eq!(signed_by(&signed, &signers), Err(ReferencesRefused::UnknownSigner { known }));
    }
    // A bad signature is not better than none.
    assert_eq!(own(&signed), Err(ReferencesRefused::UnknownSigner { known: 0 }));
    assert_eq!(signed_by(&vectors::read(SNP), &[maker.anchor()]), Err(ReferencesRefused::Unsigned));
    for at in (0..signed.len()).step_by(7) {
        let mut altered = signed.clone();
        altered[at] ^= 1;
        assert!(signed_by(&altered, &[maker.anchor()]).is_err(), "{at}");
    }
    // Earlier drafts tag it once more.
    let tagged = [&[0xd9, 0x01, 0xf4, 0xd9, 0x01, 0xf6][..], &signed].concat();
    assert!(signed_by(&tagged, &[maker.anchor()]).is_ok());
    // Another kind of message of the same signer is no manifest.
    let message = maker.sign(&vectors::read(SNP), "application/json", None);
    assert!(matches!(signed_by(&message, &[maker.anchor()]), Err(ReferencesRefused::Malformed(_))));
}

#[test]
fn manifests_hold_for_their_time_only() {
    let maker = Signer::new();
    let meta = |validity| Some(cbor!({ 0 => { 0 => "maker" }, 1 => validity }).unwrap());
    let sign = |validity| maker.sign(&vectors::read(SNP), MEDIA_TYPE, meta(validity));
    let with = |validity: Value| edited(|manifest| manifest.push((Value::from(4), validity.clone())));
    let both = |from, until| {
        let signature = signed_by(&sign(validity(from, until)), &[maker.anchor()]);
        assert_eq!(signature, own(&with(validity(from, until))));
        signature
    };
    assert!(both(Some(0), 0).is_ok() && both(None, 1).is_ok());
    assert!(matches!(both(None, -1), Err(ReferencesRefused::Expired { .. })));
    assert!(matches!(both(Some(1), 2), Err(ReferencesRefused::NotYetValid { .. })));
    let untagged = cbor!({ 1 => 4_000_000_000u64 }).unwrap();
    assert!(matches!(own(&with(untagged)), Err(ReferencesRefused::Malformed(_))));
}

/// The SEV-SNP manifest with its map changed.
fn edited(change: impl Fn(&mut Vec<(Value, Value)>)) -> Vec<u8> {
    let mut manifest: Value = ciborium::from_reader(&vectors::read(SNP)[..]).unwrap();
    change(map(untagged(&mut manifest)));
    encoded(&manifest)
}

/// The same with its first CoMID changed, which has the reference values.
fn edited_comid(change: impl Fn(&mut Vec<(Value, Value)>)) -> Vec<u8> {
    edited(|manifest| {
        let tags = value(manifest, 1).as_array_mut().unwrap();
        let bytes = untagged(&mut tags[0]).as_bytes_mut().unwrap();
        let mut comid: Value = ciborium::from_reader(&bytes[..]).unwrap();
        change(map(&mut comid));
        *bytes = encoded(&comid);
    })
}

/// The same with its reference triple changed: environment, and measurements.
fn edited_triple(change: impl Fn(&mut Vec<(Value, Value)>, &mut Vec<Value>)) -> Vec<u8> {
    edited_comid(|comid| {
        let triple = value(map(value(comid, 4)), 0).as_array_mut().unwrap()[0].as_array_mut().unwrap();
        let [environment, measurements] = &mut triple[..] else { panic!("a triple") };
        change(map(environment), measurements.as_array_mut().unwrap());
    })
}

fn untagged(value: &mut Value) -> &mut Value {
    value.as_tag_mut().unwrap().1
}

fn map(value: &mut Value) -> &mut Vec<(Value, Value)> {
    value.as_map_mut().unwrap()
}

fn value(map: &mut [(Value, Value)], key: i64) -> &mut Value {
    let key = Value::from(key);
    &mut map.iter_mut().find(|(own, _)| *own == key).unwrap().1
}

#[test]
fn s43_what_would_be_lost_is_refused() {
    let entry = |key: i64, item: Value| (Value::from(key), item);
    let launch = |measurements: &[Value]| {
        let wanted = Value::from(641);
        measurements.iter().position(|item| item.as_map().unwrap()[0].1 == wanted).unwrap()
    };
    assert_eq!(own(&edited_triple(|_, _| ())), own(&vectors::read(SNP)));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("manifest at offset", edited(|manifest| manifest.push(entry(6, Value::from(1))))),
        ("manifest at offset", edited(|manifest| manifest.push(entry(2, cbor!([{ 0 => "x" }]).unwrap())))),
        ("each key once", edited(|manifest| manifest.push(entry(0, Value::from("again"))))),
        ("id at offset", edited(|manifest| manifest.retain(|(key, _)| *key != Value::from(0)))),
        (
            "CoMIDs (tag 506)",
            edited(|manifest| {
                let tags = value(manifest, 1).as_array_mut().unwrap();
                tags.push(Value::Tag(505, Box::new(Value::Bytes(vec![0xa0]))));
            }),
        ),
        ("CoMID at offset", edited_comid(|comid| comid.push(entry(9, Value::from(1))))),
        ("a tag identity", edited_comid(|comid| comid.retain(|(key, _)| *key != Value::from(1)))),
        (
            "triples at offset",
            edited_comid(|comid| map(value(comid, 4)).push(entry(7, Value::Array(vec![])))),
        ),
        (
            "class at offset",
            edited_triple(|environment, _| map(value(environment, 0)).push(entry(3, Value::from(1)))),
        ),
        (
            "environment at offset",
            edited_triple(|environment, _| {
                environment.push(entry(2, Value::Tag(560, Box::new(Value::Bytes(vec![1])))));
            }),
        ),
        (
            "of one machine",
            edited_triple(|environment, _| {
                *value(environment, 1) = Value::Tag(560, Box::new(Value::Bytes(vec![7; 64])));
            }),
        ),
        (
            "not one of its profile",
            edited_triple(|environment, _| {
                *value(map(value(environment, 0)), 0) =
                    Value::Tag(111, Box::new(Value::Bytes(vec![0x2a, 3])));
            }),
        ),
        (
            "bound to a signer",
            edited_triple(|_, measurements| {
                let at = launch(measurements);
                map(&mut measurements[at]).push(entry(2, Value::Array(vec![])));
            }),
        ),
        (
            "there twice",
            edited_triple(|_, measurements| {
                let again = measurements[launch(measurements)].clone();
                measurements.push(again);
            }),
        ),
        (
            "one digest is expected, by SHA-384",
            edited_triple(|_, measurements| {
                let at = launch(measurements);
                *value(map(value(map(&mut measurements[at]), 1)), 2) =
                    Value::Array(vec![Value::Array(vec![Value::from(1), Value::Bytes(vec![1; 32])])]);
            }),
        ),
        (
            "one for each algorithm",
            edited_triple(|_, measurements| {
                let at = launch(measurements);
                let digests = value(map(value(map(&mut measurements[at]), 1)), 2).as_array_mut().unwrap();
                digests.push(digests[0].clone());
            }),
        ),
        (
            "digests are expected, and nothing else",
            edited_triple(|_, measurements| {
                let at = launch(measurements);
                map(value(map(&mut measurements[at]), 1)).push(entry(11, Value::from("name")));
            }),
        ),
        (
            "would accept any code",
            edited_triple(|environment, measurements| {
                environment.retain(|(key, _)| *key != Value::from(1));
                let at = launch(measurements);
                measurements.remove(at);
            }),
        ),
        (
            "no such element",
            edited_triple(|_, measurements| {
                measurements.push(cbor!({ 0 => 999, 1 => { 1 => 1 } }).unwrap());
            }),
        ),
        ("at least one", edited_triple(|_, measurements| measurements.clear())),
    ];
    for (expected, bytes) in cases {
        let refused = own(&bytes).expect_err(expected);
        let text = match &refused {
            ReferencesRefused::Malformed(fault) => fault.to_string(),
            other => other.to_string(),
        };
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn host_data_and_signers_of_guests_are_compared() {
    let raw = |length, byte| Value::Tag(560, Box::new(Value::Bytes(vec![byte; length])));
    let with = |number: i64, raw: &Value| {
        edited_triple(|_, measurements| {
            let values = Value::Map(vec![(Value::from(4), raw.clone())]);
            measurements
                .push(Value::Map(vec![(Value::from(0), Value::from(number)), (Value::from(1), values)]));
        })
    };
    let first = |bytes: &[u8]| own(bytes).unwrap().reference_values.remove(0);
    let value = first(&with(642, &raw(32, 5)));
    assert_eq!(value.launch_configuration.unwrap().as_bytes(), [5; 32]);
    assert_eq!(first(&with(643, &raw(48, 6))).registers["id_key_digest"], "06".repeat(48));
    assert_eq!(first(&with(644, &raw(48, 7))).registers["author_key_digest"], "07".repeat(48));
    for (number, length) in [(642, 48), (643, 32), (644, 47)] {
        assert!(own(&with(number, &raw(length, 1))).is_err());
    }
}

#[test]
fn s43_no_change_of_any_byte_panics_and_every_cut_is_refused() {
    let original = vectors::read(SNP);
    for at in 0..original.len() {
        assert!(own(&original[..at]).is_err(), "{at}");
        let mut altered = original.clone();
        altered[at] ^= 0x21;
        let _ = own(&altered);
    }
    assert!(own(&[&original[..], &[0]].concat()).is_err());
    assert!(own(&vec![0xd9; 2 * 1024 * 1024]).is_err());
}

#[test]
fn json_is_read_by_the_same_door() {
    let json = format!(
        r#" {{"reference_values":[{{"label":"x","platform":"snp","measurement":"{}"}}]}}"#,
        "00".repeat(48)
    );
    assert_eq!(signed_by(json.as_bytes(), &[]).unwrap().reference_values.len(), 1);
    assert!(matches!(own(b"{}"), Err(ReferencesRefused::Json(_))));
    assert!(matches!(own(b""), Err(ReferencesRefused::Malformed(_))));
}
