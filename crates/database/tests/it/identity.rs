//! Which party a chain belongs to, and why it belongs to none.

use appraisal::UnixTime;
use database::identity::{Anchors, NotAParty};
use database_manifest::{Manifest, PartyName};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SigningKey,
};
use rustls::pki_types::CertificateDer;
use testkit::parties::Parties;
use x509_parser::prelude::{FromDer, X509Certificate};

const NOW: UnixTime = UnixTime(1_800_000_000);

fn anchors(parties: &Parties, change: impl FnOnce(&mut serde_json::Value)) -> Anchors {
    let mut tree = parties.manifest();
    change(&mut tree);
    let manifest = Manifest::parse(tree.to_string().as_bytes()).expect("a manifest");
    Anchors::new(&manifest).expect("anchors")
}

fn caller(anchors: &Anchors, chain: &[&[u8]]) -> Result<String, NotAParty> {
    let chain: Vec<_> = chain.iter().map(|it| CertificateDer::from(it.to_vec())).collect();
    anchors.caller(&chain, NOW).map(|it| it.party().to_string())
}

/// DER: a tag, a length, contents.
fn der(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let length = contents.len();
    let head = match u8::try_from(length) {
        Ok(short @ 0..=127) => vec![tag, short],
        _ => vec![tag, 0x82, u8::try_from(length >> 8).expect("it is short"), (length & 255) as u8],
    };
    [head, contents].concat()
}

/// A key for P-256 and a CA with a name.
fn authority(name: &str) -> (KeyPair, CertificateParams) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (KeyPair::generate().expect("a key"), params)
}

#[test]
fn the_key_of_the_anchor_decides_also_among_authorities_of_one_name() {
    let (mut parties, other) = (Parties::new(), Parties::new());
    parties.bank_b = testkit::parties::Authority::new("Bank A");
    let anchors = anchors(&parties, |_| {});
    let [a, b] = [parties.bank_a.issue("Bank B"), parties.bank_b.issue("Bank A")];
    assert_eq!(caller(&anchors, &[&a.der]), Ok("bank_a".to_owned()));
    assert_eq!(caller(&anchors, &[&b.der]), Ok("bank_b".to_owned()));
    let stranger = other.bank_a.issue("Bank A");
    assert_eq!(caller(&anchors, &[&stranger.der]), Err(NotAParty::UnknownIssuer));
    assert_eq!(caller(&anchors, &[&stranger.der, &parties.bank_a.der]), Err(NotAParty::UnknownIssuer));
    assert_eq!(caller(&anchors, &[]), Err(NotAParty::NoCertificate));
    assert_eq!(caller(&anchors, &[&a.der[..a.der.len() - 1]]), Err(NotAParty::Malformed));
    let long = vec![a.der.as_slice(); 9];
    assert_eq!(caller(&anchors, &long), Err(NotAParty::LongChain));
    let seen = anchors.caller(&[a.der.clone().into()], NOW).expect("a caller");
    assert_eq!((seen.party(), seen.subject()), (&PartyName::new("bank_a").expect("a name"), "CN=Bank B"));
}

#[test]
fn a_certificate_of_version_1_gets_an_explicit_message() {
    let parties = Parties::new();
    let (key, params) = authority("Bank A");
    let pem = params.self_signed(&key).expect("a CA").pem();
    let anchors = anchors(&parties, |tree| tree["Parties"]["bank_a"]["Anchors"] = serde_json::json!([pem]));
    // What `openssl x509 -req` makes without extensions: the fields of a certificate but version and extensions.
    let leaf =
        CertificateParams::default().self_signed(&KeyPair::generate().expect("a key")).expect("a leaf");
    let (_, model) = X509Certificate::from_der(leaf.der()).expect("it is read");
    let algorithm = der(0x30, &[&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
    let name = der(0x30, &[&der(0x31, &[&der(0x30, &[&[6, 3, 0x55, 4, 3], &der(12, &[b"Bank A"])])])]);
    let validity = der(0x30, &[&der(0x17, &[b"200101000000Z"]), &der(0x17, &[b"490101000000Z"])]);
    let subject = model.subject().as_raw();
    let body = der(0x30, &[&[2, 1, 7], &algorithm, &name, &validity, subject, model.public_key().raw]);
    let signature = key.sign(&body).expect("a signature");
    let certificate = der(0x30, &[&body, &algorithm, &der(3, &[&[0], &signature])]);
    let refusal = caller(&anchors, &[&certificate]).expect_err("it is refused");
    assert_eq!(refusal, NotAParty::OldVersion(1));
    assert!(
        refusal.to_string().contains("version 1") && refusal.to_string().contains("bailey certificate issue")
    );
}

#[test]
fn a_chain_that_leads_to_two_parties_is_nobodys() {
    let mut parties = Parties::new();
    let (key_a, params_a) = authority("A");
    let (key_b, params_b) = authority("B");
    let pem = |params: &CertificateParams, key| params.self_signed(key).expect("a CA").pem();
    let [a, b] = [pem(&params_a, &key_a), pem(&params_b, &key_b)];
    let anchors = {
        parties.bank_a.pem = a;
        parties.bank_b.pem = b;
        anchors(&parties, |_| {})
    };
    // A signs B's key and name as a CA of its own.
    let crossed = params_b.signed_by(&key_b, &Issuer::new(params_a.clone(), &key_a)).expect("a certificate");
    let mut leaf = CertificateParams::default();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf.signed_by(&key, &Issuer::new(params_b, &key_b)).expect("a certificate");
    assert_eq!(caller(&anchors, &[leaf.der()]), Ok("bank_b".to_owned()));
    assert_eq!(caller(&anchors, &[leaf.der(), crossed.der()]), Err(NotAParty::Ambiguous));
}

#[test]
fn time_use_revocation_and_length_of_validity_are_held_against_the_certificate() {
    use time::{Duration, OffsetDateTime};
    let parties = Parties::new();
    let now = OffsetDateTime::from_unix_timestamp(NOW.0).expect("a time");
    let plain = anchors(&parties, |_| {});
    let a = &parties.bank_a;
    let past = a.issue_valid("x", now - Duration::days(2), now - Duration::days(1));
    assert!(matches!(caller(&plain, &[&past.der]), Err(NotAParty::Expired { .. })));
    let future = a.issue_valid("x", now + Duration::days(1), now + Duration::days(2));
    assert!(matches!(caller(&plain, &[&future.der]), Err(NotAParty::NotYetValid { .. })));
    let server = a.serve("localhost");
    assert_eq!(caller(&plain, &[&server.der]), Err(NotAParty::WrongUse));

    let good = a.issue_for("x", now, Duration::days(30));
    let digest = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &good.der));
    let revoking =
        anchors(&parties, |tree| tree["Parties"]["bank_a"]["Revoked"] = serde_json::json!([digest]));
    assert_eq!(caller(&plain, &[&good.der]), Ok("bank_a".to_owned()));
    assert_eq!(caller(&revoking, &[&good.der]), Err(NotAParty::Revoked));

    let bounded = anchors(&parties, |tree| tree["Parties"]["bank_a"]["MaxValidity"] = "30d".into());
    assert_eq!(caller(&bounded, &[&good.der]), Ok("bank_a".to_owned()));
    let long = a.issue_for("x", now, Duration::days(31));
    assert!(matches!(caller(&bounded, &[&long.der]), Err(NotAParty::ValidTooLong { days: 31, .. })));
}
