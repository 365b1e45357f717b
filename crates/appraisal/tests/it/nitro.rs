//! AWS Nitro Enclaves: the recorded documents, and everything that must be refused.

use appraisal::{Assessment, Code, EmulatedRoot, NitroPolicy, Policy, Rule, UnixTime, assess};
use ciborium::Value;
use coset::{CborSerializable, CoseSign1Builder, HeaderBuilder, iana};
use crypto_aws_lc::AwsLc;
use evidence::{AwsCollateral, Endorsements, Evidence};

use crate::lab::{Certified, Curve, DAY, NOW, Template, Window};
use crate::vectors::{Row, read, rows};

fn look(bytes: &[u8], policy: &Policy, now: UnixTime) -> Assessment {
    look_with(bytes, &Endorsements::default(), policy, now)
}

fn look_with(bytes: &[u8], endorsements: &Endorsements, policy: &Policy, now: UnixTime) -> Assessment {
    assess(&Evidence::parse(bytes).unwrap(), endorsements, None, None, policy, now, &AwsLc)
}

fn codes(assessment: &Assessment) -> Vec<Code> {
    assessment.verdict().codes().collect()
}

fn documents() -> Vec<Row> {
    rows().into_iter().filter(|row| row.file.starts_with("nitro/") && row.file.ends_with(".cbor")).collect()
}

#[test]
fn recorded_documents_give_the_measured_verdicts() {
    let documents = documents();
    assert_eq!(documents.len(), 8);
    for row in &documents {
        let assessment = look(&read(&row.file), &Policy::genuine(), row.at.unwrap());
        let debug = row.expected.contains("DEBUG");
        assert!(assessment.verdict().check("genuine").unwrap().code.is_none(), "{}", assessment.verdict());
        assert_eq!(codes(&assessment), if debug { vec![Code::DebugEnabled] } else { vec![] }, "{}", row.file);
        let claims = assessment.verdict().claims().nitro.as_ref().unwrap();
        assert!(row.notes.contains(&claims.module_id), "{}", row.notes);
        assert!(assessment.verdict().measurements().contains_key("pcr8"));
    }
}

#[test]
fn s20_at_any_other_time_the_leaf_has_expired() {
    for row in documents() {
        let at = row.at.unwrap();
        for (offset, code) in
            [(4 * 3600, Code::CertificateExpired), (-4 * 3600, Code::CertificateNotYetValid)]
        {
            let assessment = look(&read(&row.file), &Policy::genuine(), UnixTime(at.0 + offset));
            assert!(codes(&assessment).contains(&code), "{}: {:?}", row.file, codes(&assessment));
        }
    }
}

#[test]
fn s36_no_flip_of_a_byte_is_accepted() {
    let row = documents().into_iter().find(|row| row.expected.contains("production")).unwrap();
    let (bytes, now) = (read(&row.file), row.at.unwrap());
    assert!(look(&bytes, &Policy::genuine(), now).verdict().is_accepted());
    // Signature checks are slow, so every byte once, one bit each.
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        let Ok(evidence) = Evidence::parse(&altered) else { continue };
        let assessment =
            assess(&evidence, &Endorsements::default(), None, None, &Policy::genuine(), now, &AwsLc);
        // The root in the bundle is not trusted for being there, so nothing of it matters.
        let same = evidence == Evidence::parse(&bytes).unwrap();
        assert!(same || !assessment.verdict().is_accepted() || in_root(&bytes, at), "byte {at}");
    }
}

/// Whether a byte is of the root certificate in the bundle: compared with nothing, used for nothing.
fn in_root(bytes: &[u8], at: usize) -> bool {
    let Ok(Evidence::Nitro(document)) = Evidence::parse(bytes) else { panic!("a document") };
    let root = &document.cabundle()[0].0;
    let start = bytes.windows(root.len()).position(|window| window == root.as_slice()).unwrap();
    (start..start + root.len()).contains(&at)
}

fn of(name: &str, ca: bool, serial: u64) -> Template<'_> {
    Template { name, curve: Curve::P384, ca, serial, window: Window::LONG, extensions: vec![] }
}

/// A hypervisor of the lab: root, intermediate, leaf, and whatever the enclave asks for.
struct Lab {
    root: Certified,
    intermediate: Certified,
    leaf: Certified,
    members: Vec<(Value, Value)>,
}

impl Lab {
    fn new() -> Self {
        let root = of("lab.nitro-enclaves", true, 1).issue(None);
        let intermediate = of("lab.zone", true, 2).issue(Some(&root));
        let leaf = of("lab.enclave", false, 3).issue(Some(&intermediate));
        let pcr = |byte: u8| Value::Bytes(vec![byte; 48]);
        let registers = (0..16u8).map(|index| (Value::from(index), pcr(index + 1))).collect();
        let bundle = vec![Value::Bytes(root.der.0.clone()), Value::Bytes(intermediate.der.0.clone())];
        let members = vec![
            (Value::from("module_id"), Value::from("i-1-enc2")),
            (Value::from("digest"), Value::from("SHA384")),
            (Value::from("timestamp"), Value::from(NOW as u64 * 1000 - 5000)),
            (Value::from("pcrs"), Value::Map(registers)),
            (Value::from("certificate"), Value::Bytes(leaf.der.0.clone())),
            (Value::from("cabundle"), Value::Array(bundle)),
            (Value::from("public_key"), Value::Bytes(vec![9; 91])),
            (Value::from("user_data"), Value::Bytes(vec![8; 64])),
            (Value::from("nonce"), Value::Bytes(vec![7; 32])),
        ];
        Self { root, intermediate, leaf, members }
    }

    fn set(mut self, name: &str, value: Value) -> Self {
        self.members.retain(|(own, _)| own.as_text() != Some(name));
        self.members.push((Value::from(name), value));
        self
    }

    fn document(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        ciborium::into_writer(&Value::Map(self.members.clone()), &mut payload).unwrap();
        CoseSign1Builder::new()
            .protected(HeaderBuilder::new().algorithm(iana::Algorithm::ES384).build())
            .payload(payload)
            .create_signature(&[], |message| self.leaf.key.sign(message))
            .build()
            .to_vec()
            .unwrap()
    }

    fn policy(&self) -> Policy {
        Policy::production().trust_emulated([EmulatedRoot::new("lab", &self.root.der.0).unwrap()])
    }

    fn codes(&self) -> Vec<Code> {
        codes(&look(&self.document(), &self.policy(), UnixTime(NOW)))
    }
}

#[test]
fn nonce_user_data_and_public_key_together() {
    let lab = Lab::new();
    let assessment = look(&lab.document(), &lab.policy(), UnixTime(NOW));
    assert!(assessment.verdict().is_accepted(), "{}", assessment.verdict());
    assert_eq!(assessment.verdict().report_data().as_bytes(), [7; 32]);
    let measured = assessment.verdict().measurements();
    assert_eq!(measured["user_data"], "08".repeat(64));
    assert_eq!(measured["public_key"], "09".repeat(91));
    assert_eq!(measured["pcr0"], "01".repeat(48));
    // Without a nonce the user data is what is covered; without both, nothing is.
    let lab = lab.set("nonce", Value::Null);
    let covered = |lab: &Lab| {
        look(&lab.document(), &lab.policy(), UnixTime(NOW)).verdict().report_data().as_bytes().to_vec()
    };
    assert_eq!(covered(&lab), [8; 64]);
    assert!(covered(&lab.set("user_data", Value::Null)).is_empty());
}

#[test]
fn a_root_that_nobody_named_is_refused() {
    let lab = Lab::new();
    let assessment = look(&lab.document(), &Policy::production(), UnixTime(NOW));
    assert_eq!(codes(&assessment), [Code::RootNotTrusted]);
}

#[test]
fn s15_a_document_of_another_time_is_refused() {
    let at = |milliseconds: i64| Value::from(milliseconds as u64);
    let later = Lab::new().set("timestamp", at((NOW + 3600) * 1000));
    assert_eq!(later.codes(), [Code::DocumentTimeInvalid]);
    let before = Lab::new().set("timestamp", at((NOW + (Window::LONG.0 - 10) * DAY) * 1000));
    assert_eq!(before.codes(), [Code::DocumentTimeInvalid]);
    let old = Lab::new().set("timestamp", at((NOW - 100) * 1000));
    assert_eq!(old.codes(), []);
    let mut policy = old.policy();
    policy.nitro = NitroPolicy { max_age_seconds: Some(60), ..NitroPolicy::default() };
    assert_eq!(codes(&look(&old.document(), &policy, UnixTime(NOW))), [Code::EvidenceTooOld]);
}

#[test]
fn s36_debug_is_refused() {
    let zeros = (0..16u8).map(|index| (Value::from(index), Value::Bytes(vec![0; 48]))).collect();
    assert_eq!(Lab::new().set("pcrs", Value::Map(zeros)).codes(), [Code::DebugEnabled]);
}

#[test]
fn s20_a_revoked_leaf_and_a_stale_list_are_refused_and_a_missing_one_is_the_policys() {
    let lab = Lab::new();
    let with = |window, revoked: &[u64]| {
        let crls = vec![lab.intermediate.crl(window, revoked)];
        let endorsements = Endorsements { aws: Some(AwsCollateral { crls }), ..Endorsements::default() };
        codes(&look_with(&lab.document(), &endorsements, &lab.policy(), UnixTime(NOW)))
    };
    assert_eq!(with(Window::GOOD, &[]), []);
    assert_eq!(with(Window::GOOD, &[3]), [Code::CertificateRevoked]);
    assert_eq!(with(Window(-10, -1), &[]), [Code::CrlExpired]);
    let mut policy = lab.policy();
    policy.nitro.missing_crl = Rule::Refuse;
    assert_eq!(codes(&look(&lab.document(), &policy, UnixTime(NOW))), [Code::CrlMissing]);
}

#[test]
fn malformed_documents_are_refused_by_their_field() {
    for (name, value) in [
        ("digest", Value::from("SHA256")),
        ("module_id", Value::from("")),
        ("timestamp", Value::from(-1)),
        ("pcrs", Value::Map(vec![])),
        ("pcrs", Value::Map(vec![(Value::from(32), Value::Bytes(vec![1; 48]))])),
        ("pcrs", Value::Map(vec![(Value::from(0), Value::Bytes(vec![1; 47]))])),
        ("certificate", Value::Bytes(vec![])),
        ("cabundle", Value::Array(vec![])),
        ("nonce", Value::Bytes(vec![1; 1025])),
        ("user_data", Value::from("text")),
    ] {
        let refused = Evidence::parse(&Lab::new().set(name, value).document()).unwrap_err();
        assert_eq!(refused.field, name);
    }
    let unknown = Lab::new().set("later", Value::Null);
    assert_eq!(unknown.codes(), [Code::AttributesUnknown]);
}
