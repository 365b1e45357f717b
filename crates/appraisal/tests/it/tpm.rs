//! TPM quotes: those recorded, those of a TPM in software, and those in which one thing is wrong. Each test fails when
//! its rule is deleted.

use appraisal::{
    AnchorKey, Assessment, BootPolicy, Code, EndorsementsBuilder, Policy, Rule, TpmPolicy, TrustAnchor,
    assess,
};
use crypto_aws_lc::AwsLc;
use evidence::eventlog::HashAlgorithm::{self, Sha1, Sha256, Sha384};
use evidence::tpm::{AttestationKey, Parts, QuoteParts};
use evidence::{Endorsements, Evidence, MalformedKind};

use crate::lab::Window;
use crate::lab::tpm::{ATTRIBUTES, KEY_SERIAL, NONCE, PresentedTpm, Tpm, value};
use crate::vectors::{at, evidence, look, read};

const NOW: &str = "2026-12-01T00:00:00Z";

fn anchor(file: &str) -> TrustAnchor {
    TrustAnchor::from_file_bytes(file, &read(file)).unwrap().remove(0)
}

fn under(evidence: &Evidence, endorsements: &Endorsements, policy: &Policy) -> Assessment {
    assess(evidence, endorsements, None, None, policy, at(NOW), &AwsLc)
}

fn codes(assessment: &Assessment) -> Vec<Code> {
    assessment.verdict().codes().collect()
}

/// The policy that enrols the key of the Evidence itself.
fn enrolling(evidence: &Evidence, policy: Policy) -> Policy {
    let Evidence::Tpm(attestation) = evidence else { panic!("no TPM evidence") };
    let spki = attestation.key().unwrap().public.spki();
    let anchor = TrustAnchor::new("this machine", AnchorKey::PublicKey(spki), None).unwrap();
    Policy { trust_anchors: vec![anchor], ..policy }
}

/// Registers as tpm2_quote writes them with `-F values`: bank after bank, in the order of the selection.
fn swtpm(name: &str, selection: &[(HashAlgorithm, &[u8])]) -> Parts {
    let part = |kind: &str| read(&format!("tpm/swtpm-{name}.{kind}"));
    let bytes = part("pcrs");
    let mut rest = &bytes[..];
    let mut values = Vec::new();
    for (bank, registers) in selection {
        for register in *registers {
            let (value, after) = rest.split_at(bank.size().unwrap());
            values.push((*bank, *register, value.to_vec()));
            rest = after;
        }
    }
    assert!(rest.is_empty());
    let quote = QuoteParts { message: part("msg"), signature: part("sig"), values };
    Parts { public: part("pub"), quotes: vec![quote], event_log: None, certificates: vec![] }
}

const ALL: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];
const FIRMWARE: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn every_kind_of_signature_of_a_software_tpm_verifies() {
    for (name, selection) in [
        ("rsassa-sha256", &[(Sha256, ALL)][..]),
        ("rsassa-sha384", &[(Sha384, FIRMWARE)]),
        ("rsapss-sha256", &[(Sha256, ALL)]),
        ("ecdsa-p256", &[(Sha256, ALL), (Sha384, &[0, 7])]),
    ] {
        let parts = swtpm(name, selection);
        let evidence = Evidence::parse(&parts.to_bytes()).unwrap();
        let nonce: Vec<u8> = (0..32).collect();
        assert_eq!(evidence.covered().as_bytes(), nonce, "{name}");
        let policy = enrolling(&evidence, Policy::production());
        let assessment = under(&evidence, &Endorsements::default(), &policy);
        assert!(assessment.verdict().is_accepted(), "{name}: {}", assessment.verdict().render_all(false));
        // A flip anywhere in message or signature, and in every value.
        for offset in 0..parts.quotes[0].message.len() {
            let mut spoiled = parts.clone();
            spoiled.quotes[0].message[offset] ^= 1;
            assert!(!accepted(&spoiled, &policy), "{name}: message {offset}");
        }
        for offset in 0..parts.quotes[0].signature.len() {
            let mut spoiled = parts.clone();
            spoiled.quotes[0].signature[offset] ^= 1;
            assert!(!accepted(&spoiled, &policy), "{name}: signature {offset}");
        }
        for index in 0..parts.quotes[0].values.len() {
            let mut spoiled = parts.clone();
            spoiled.quotes[0].values[index].2[3] ^= 1;
            assert!(!accepted(&spoiled, &policy), "{name}: value {index}");
        }
    }
}

fn accepted(parts: &Parts, policy: &Policy) -> bool {
    Evidence::parse(&parts.to_bytes())
        .is_ok_and(|evidence| under(&evidence, &Endorsements::default(), policy).verdict().is_accepted())
}

#[test]
fn a_quote_of_the_sha1_bank_alone_is_refused_or_warned_of() {
    let parts = swtpm("ecdsa-sha1-bank", &[(Sha1, ALL)]);
    let evidence = Evidence::parse(&parts.to_bytes()).unwrap();
    let assessment = under(&evidence, &Endorsements::default(), &enrolling(&evidence, Policy::production()));
    assert_eq!(codes(&assessment), [Code::PcrNotQuoted, Code::PcrBankWeak]);
    let assessment = under(&evidence, &Endorsements::default(), &enrolling(&evidence, Policy::genuine()));
    let warned: Vec<_> = assessment.verdict().warnings().iter().map(|reason| reason.code).collect();
    assert!(assessment.verdict().is_accepted() && warned == [Code::PcrBankWeak], "{}", assessment.verdict());
}

/// RSA-PSS with SHA-384 in the root, PKCS#1 with SHA-256 in the key's certificate, critical directory names and usage.
#[test]
fn a_certificate_of_the_key_by_a_named_ca_is_enough() {
    let mut parts = swtpm("rsassa-sha256", &[(Sha256, ALL)]);
    let evidence = Evidence::parse(&parts.to_bytes()).unwrap();
    let named = Policy { trust_anchors: vec![anchor("tpm/swtpm-ca.der")], ..Policy::production() };
    let mut builder = EndorsementsBuilder::new();
    assert_eq!(codes(&under(&evidence, &builder.fit(&evidence, at(NOW)), &named)), [Code::AkNotTrusted]);
    // The key's certificate from the heap, and the CA's list.
    for file in ["tpm/swtpm-rsassa-sha256.der", "tpm/swtpm-ca.der", "tpm/swtpm-ca.crl"] {
        builder.add_file_bytes(&read(file)).unwrap();
    }
    let endorsements = builder.fit(&evidence, at(NOW));
    assert_eq!(Endorsements::from_bytes(&endorsements.to_bytes()), Ok(endorsements.clone()));
    let assessment = under(&evidence, &endorsements, &named);
    assert!(assessment.verdict().is_accepted(), "{}", assessment.verdict().render_all(false));
    // The root is known, and not named.
    assert_eq!(codes(&under(&evidence, &endorsements, &Policy::production())), [Code::RootNotTrusted]);
    // The certificate itself, named, enrols the key.
    let own = Policy { trust_anchors: vec![anchor("tpm/swtpm-rsassa-sha256.der")], ..Policy::production() };
    assert!(under(&evidence, &Endorsements::default(), &own).verdict().is_accepted());
    // Another key is not that of the certificate.
    parts.public = swtpm("rsassa-sha384", &[(Sha384, FIRMWARE)]).public;
    let other = Evidence::parse(&parts.to_bytes()).unwrap();
    let refused = codes(&under(&other, &endorsements, &named));
    assert_eq!(refused, [Code::QuoteSignatureInvalid, Code::AkNotTrusted]);
}

#[test]
fn gce_quotes_of_three_banks_verify_and_their_log_replays_in_each() {
    let mut builder = EndorsementsBuilder::new();
    builder.add_file_bytes(&read("tpm/go-tpm-tools-tpm_ek_intermediate_2.crt")).unwrap();
    let policy =
        Policy { trust_anchors: vec![anchor("tpm/go-tpm-tools-tpm_ek_root_1.cer")], ..Policy::genuine() };
    for (file, nonce) in [
        ("tpm/go-tpm-tools-gce-cos-85-nonce9009.pb", &[0x90, 9][..]),
        ("tpm/go-tpm-tools-gce-cos-85-no-nonce.pb", &[]),
    ] {
        let quotes = evidence(file);
        assert_eq!(quotes.covered().as_bytes(), nonce);
        let endorsements = builder.fit(&quotes, at(NOW));
        let assessment = under(&quotes, &endorsements, &policy);
        let verdict = assessment.verdict();
        // The second file has no certificate of its key.
        if nonce.is_empty() && !verdict.is_accepted() {
            assert_eq!(codes(&assessment), [Code::AkNotTrusted]);
            let assessment = under(&quotes, &endorsements, &enrolling(&quotes, Policy::genuine()));
            assert_replayed(&assessment);
            continue;
        }
        assert_replayed(&assessment);
        let instance = verdict.claims().tpm.as_ref().unwrap().gce_instance.as_ref().unwrap();
        assert_eq!((instance.zone.as_str(), instance.instance.as_str()), ("us-central1-a", "cos-test"));
        // In production a CA without its list is refused.
        let strict = Policy { trust_anchors: policy.trust_anchors.clone(), ..Policy::production() };
        assert_eq!(codes(&under(&quotes, &endorsements, &strict)), [Code::CrlMissing; 2]);
        // Nobody named Google's root.
        assert_eq!(codes(&under(&quotes, &endorsements, &Policy::genuine())), [Code::ChainIncomplete]);
    }
}

#[track_caller]
fn assert_replayed(assessment: &Assessment) {
    let verdict = assessment.verdict();
    assert!(verdict.is_accepted(), "{}", verdict.render_all(false));
    let boot = verdict.checks().iter().find(|check| check.name == "boot").unwrap();
    let banks: Vec<_> = boot.checks.iter().map(|check| check.name).collect();
    assert_eq!(banks, ["sha1", "sha256", "sha384"]);
    for bank in &boot.checks {
        for register in 0..10 {
            let name = format!("pcr{register}");
            let check = bank.checks.iter().find(|check| check.name == name).unwrap();
            assert_eq!(check.outcome, appraisal::Outcome::Passed, "{}: {name}", bank.name);
        }
    }
    let claims = verdict.claims().boot.as_ref().unwrap();
    assert_eq!(claims.algorithm, Sha384);
    assert_eq!(claims.secure_boot, appraisal::boot::SecureBoot::Enabled);
}

#[test]
fn a_key_that_vouches_for_itself_is_accepted_only_when_enrolled() {
    let quote = evidence("tpm/trustee-tpm_evidence.json");
    let refused = look(&quote, &Endorsements::default(), at(NOW));
    assert_eq!(codes(&refused), [Code::AkNotTrusted]);
    let digest = "a517f03ffdaee469aef1a19569547e330726335d0461c3ef6383409c6295679e";
    assert!(refused.verdict().reasons()[0].mend.as_ref().unwrap().contains(digest));
    let policy = enrolling(&quote, Policy::genuine());
    let assessment = under(&quote, &Endorsements::default(), &policy);
    assert!(assessment.verdict().is_accepted(), "{}", assessment.verdict().render_all(false));
    assert_eq!(assessment.verdict().platform_identity().unwrap().to_string(), digest);
}

/// What can be read, and shown, but proves nothing.
#[test]
fn evidence_that_lacks_a_part_is_refused_for_that() {
    for (file, expected) in [
        ("tpm/dstack-tpm_quote_sample.bin", &[Code::QuoteSignatureMissing][..]),
        ("azure/trustee-az-snp-tpm-quote.msg", &[Code::QuoteSignatureMissing]),
        ("azure/trustee-az-snp-tpm-quote-v1.json", &[Code::AkNotTrusted]),
        ("tpm/services-evidence.cbor", &[Code::AkNotTrusted]),
        (
            "eventlog/go-eventlog-windows_gcp_shielded_vm.json",
            &[Code::SignatureAlgorithmWeak, Code::SignatureAlgorithmUnsupported, Code::AkNotTrusted],
        ),
    ] {
        let assessment = look(&evidence(file), &Endorsements::default(), at(NOW));
        assert_eq!(codes(&assessment), expected, "{file}");
    }
}

#[test]
fn a_good_quote_is_accepted_in_production() {
    let presented = Tpm::good().present();
    let appraised =
        presented.appraise_under(&presented.policy()).unwrap_or_else(|no| panic!("{}", no.verdict()));
    assert!(!appraised.emulated() && appraised.measurement().is_none());
    assert_eq!(appraised.report_data().as_bytes(), NONCE);
    let claims = appraised.verdict().claims().tpm.as_ref().unwrap();
    assert_eq!((claims.scheme, claims.reset_count, claims.firmware_version), (Some("ECDSA"), 3, 0x0007_0002));
    assert!(claims.key_name.as_ref().unwrap().starts_with("000b"));
}

#[track_caller]
fn refused(tpm: &Tpm, expected: &[Code]) {
    assert_eq!(tpm.present().refusal(), expected);
}

#[test]
fn a_key_that_signs_what_others_give_it_is_refused() {
    for bit in [1, 4, 5, 16, 18] {
        refused(&Tpm { attributes: ATTRIBUTES & !(1 << bit), ..Tpm::good() }, &[Code::AkAttributesWeak]);
    }
    refused(&Tpm { attributes: ATTRIBUTES | 1 << 17, ..Tpm::good() }, &[Code::AkAttributesWeak]);
}

#[test]
fn the_quote_of_another_key_is_refused() {
    refused(&Tpm { foreign_key: true, ..Tpm::good() }, &[Code::QuoteSignatureInvalid]);
}

#[test]
fn a_signature_over_sha1_is_refused() {
    let expected = [Code::SignatureAlgorithmWeak, Code::SignatureAlgorithmUnsupported];
    refused(&Tpm { scheme_hash: 4, ..Tpm::good() }, &expected);
}

#[test]
fn a_certificate_for_another_purpose_is_refused() {
    refused(&Tpm { usage: None, ..Tpm::good() }, &[Code::AkCertificateUnfit]);
    // serverAuth.
    let usage = Some(&[0x2b, 6, 1, 5, 5, 7, 3, 1][..]);
    refused(&Tpm { usage, ..Tpm::good() }, &[Code::AkCertificateUnfit]);
}

#[test]
fn s20_expired_and_revoked_certificates_and_lists_are_refused() {
    let (past, future) = (Window(-40, -1), Window(1, 30));
    refused(&Tpm { leaf_window: past, ..Tpm::good() }, &[Code::CertificateExpired]);
    refused(&Tpm { leaf_window: future, ..Tpm::good() }, &[Code::CertificateNotYetValid]);
    refused(&Tpm { issuer_window: past, ..Tpm::good() }, &[Code::CertificateExpired]);
    refused(&Tpm { revoked: vec![KEY_SERIAL], ..Tpm::good() }, &[Code::CertificateRevoked]);
    refused(&Tpm { revoked: vec![2], ..Tpm::good() }, &[Code::CertificateRevoked]);
    refused(&Tpm { crls: Some(past), ..Tpm::good() }, &[Code::CrlExpired; 2]);
    refused(&Tpm { crls: Some(future), ..Tpm::good() }, &[Code::CrlNotYetValid; 2]);
    refused(&Tpm { crls: None, ..Tpm::good() }, &[Code::CrlMissing; 2]);
    // Revocation by a list that has expired counts under every policy.
    let revoked = Tpm { crls: Some(past), revoked: vec![KEY_SERIAL], ..Tpm::good() }.present();
    let lax = Policy { trust_anchors: revoked.policy().trust_anchors, ..Policy::genuine() };
    assert_eq!(revoked.refusal_under(&lax), [Code::CertificateRevoked]);
    let stale = Tpm { crls: Some(past), ..Tpm::good() }.present();
    let lax = Policy { trust_anchors: stale.policy().trust_anchors, ..Policy::genuine() };
    assert!(stale.appraise_under(&lax).is_ok());
}

#[test]
fn an_issuer_that_is_no_ca_certifies_nothing() {
    refused(&Tpm { issuer_is_ca: false, ..Tpm::good() }, &[Code::ChainSignatureInvalid]);
}

#[test]
fn a_root_that_the_policy_does_not_name_is_refused() {
    let presented = Tpm::good().present();
    assert_eq!(presented.refusal_under(&Policy::production()), [Code::ChainIncomplete]);
    let mut with_root = presented;
    let root = with_root.root.clone();
    with_root.endorsements.tpm.as_mut().unwrap().certificates.push(root);
    assert_eq!(with_root.refusal_under(&Policy::production()), [Code::RootNotTrusted]);
    refused(&Tpm { certified: false, ..Tpm::good() }, &[Code::AkNotTrusted]);
}

#[test]
fn the_root_of_an_emulated_platform_says_so() {
    let presented = Tpm::good().present();
    let root = appraisal::EmulatedRoot::new("lab", &presented.root.0).unwrap();
    let policy = Policy::production().trust_emulated([root]);
    assert!(presented.appraise_under(&policy).unwrap().emulated());
}

/// 24 values of 32 bytes digest like 16 of 48: what is signed is the selection, and only its values are taken.
#[test]
fn values_of_another_bank_with_the_same_bytes_are_refused() {
    let bytes: Vec<u8> = (0..24).flat_map(|register| value(Sha256, register)).collect();
    let as_sha384 = bytes.chunks(48).zip(0..).map(|(value, register)| (Sha384, register, value.to_vec()));
    let selection = vec![(Sha256, (0..24).collect())];
    let tpm = Tpm { selection, sent: Some(as_sha384.collect()), ..Tpm::good() };
    refused(&tpm, &[Code::PcrSelectionMismatch, Code::RegisterMismatch]);
}

#[test]
fn more_fewer_and_other_values_than_quoted_are_refused() {
    let good: Vec<_> = (0..16).map(|register| (Sha256, register, value(Sha256, register))).collect();
    let mut more = good.clone();
    more.push((Sha256, 16, vec![0; 32]));
    refused(&Tpm { sent: Some(more), ..Tpm::good() }, &[Code::PcrSelectionMismatch]);
    refused(&Tpm { sent: Some(good[..15].to_vec()), ..Tpm::good() }, &[Code::PcrSelectionMismatch]);
    let mut other = good.clone();
    other[3].2[0] ^= 1;
    refused(&Tpm { sent: Some(other), ..Tpm::good() }, &[Code::PcrDigestMismatch]);
    let mut swapped = good;
    swapped.swap(1, 2);
    (swapped[1].1, swapped[2].1) = (1, 2);
    refused(&Tpm { sent: Some(swapped), ..Tpm::good() }, &[Code::PcrDigestMismatch]);
}

#[test]
fn registers_that_the_policy_names_must_be_quoted_in_a_good_bank() {
    let few = Tpm { selection: vec![(Sha256, vec![0, 7])], ..Tpm::good() };
    refused(&few, &[Code::PcrNotQuoted]);
    // The rest in the SHA-1 bank is not the same.
    let weak = Tpm { selection: vec![(Sha256, vec![0, 7]), (Sha1, (0..8).collect())], ..Tpm::good() };
    refused(&weak, &[Code::PcrNotQuoted]);
    let presented = few.present();
    let tpm = TpmPolicy { registers: [0, 7].into(), ..TpmPolicy::default() };
    assert!(presented.appraise_under(&Policy { tpm, ..presented.policy() }).is_ok());
}

#[test]
fn firmware_below_the_floor_is_refused() {
    let presented = Tpm::good().present();
    let floor = |least| {
        let tpm = TpmPolicy { minimum_firmware: Some(least), ..TpmPolicy::default() };
        Policy { tpm, ..presented.policy() }
    };
    assert!(presented.appraise_under(&floor(0x0007_0002)).is_ok());
    assert_eq!(presented.refusal_under(&floor(0x0007_0003)), [Code::TcbBelowMinimum]);
}

#[test]
fn an_event_log_of_another_boot_is_refused() {
    let log = read("eventlog/go-eventlog-cos-93-amd-sev.bin");
    let codes = Tpm { event_log: Some(log), ..Tpm::good() }.present().refusal();
    assert!(codes.iter().all(|code| *code == Code::EventLogMismatch) && codes.len() >= 8, "{codes:?}");
}

/// Leaving the log out must not be a way around what the policy says of it.
#[test]
fn a_policy_about_the_boot_needs_an_event_log() {
    let presented = Tpm::good().present();
    let boot = |boot| Policy { boot, ..presented.policy() };
    let secure = BootPolicy { secure_boot: Rule::Refuse, ..BootPolicy::default() };
    let line = BootPolicy { kernel_command_line: Some(["quiet".into()].into()), ..BootPolicy::default() };
    let register = BootPolicy { registers: Some(["pcr7".into()].into()), ..BootPolicy::default() };
    for policy in [secure, line, register] {
        assert_eq!(presented.refusal_under(&boot(policy)), [Code::EventLogMissing]);
    }
    let elsewhere = BootPolicy { registers: Some(["rtmr0".into()].into()), ..BootPolicy::default() };
    assert!(presented.appraise_under(&boot(elsewhere)).is_ok());
}

#[test]
fn an_empty_nonce_covers_nothing() {
    let quotes = evidence("tpm/go-tpm-tools-gce-cos-85-no-nonce.pb");
    let nothing = evidence::Covered::new([]);
    let policy = enrolling(&quotes, Policy::genuine());
    let assessment =
        assess(&quotes, &Endorsements::default(), Some(&nothing), None, &policy, at(NOW), &AwsLc);
    assert_eq!(codes(&assessment), [Code::ReportDataMismatch]);
}

/// Every byte of a container is flipped once: nothing is accepted whose key, quote, values or log is another.
#[test]
fn no_flip_of_a_signed_byte_is_accepted() {
    let presented: PresentedTpm = Tpm::good().present();
    let bytes = presented.parts.to_bytes();
    let policy = presented.policy();
    let accepted = |bytes: &[u8]| {
        Evidence::parse(bytes).is_ok_and(|evidence| {
            let now = appraisal::UnixTime(crate::lab::NOW);
            assess(&evidence, &presented.endorsements, None, None, &policy, now, &AwsLc)
                .verdict()
                .is_accepted()
        })
    };
    assert!(accepted(&bytes));
    let harmless: Vec<_> = (0..bytes.len())
        .filter(|&offset| {
            let mut bytes = bytes.clone();
            bytes[offset] ^= 1 << (offset % 8);
            accepted(&bytes)
        })
        .collect();
    // The public area says some things of which nothing depends: name algorithm, user authorisation, scheme.
    let head = &presented.parts.public[..8];
    let start = bytes.windows(8).position(|window| window == head).unwrap();
    assert!(harmless.iter().all(|offset| (start..start + 20).contains(offset)), "{harmless:?} from {start}");
}

#[test]
fn what_is_no_quote_is_malformed() {
    let kind = |parts: &Parts| Evidence::parse(&parts.to_bytes()).unwrap_err();
    let good = Tpm::good().present().parts;
    let certify = Tpm { kind: 0x8017, ..Tpm::good() }.present().parts;
    assert_eq!((kind(&certify).kind, kind(&certify).field), (MalformedKind::Unsupported, "type"));
    let mut magic = good.clone();
    magic.quotes[0].message[0] = 0;
    assert_eq!(kind(&magic).field, "magic");
    let mut trailing = good.clone();
    trailing.quotes[0].message.push(0);
    assert_eq!(kind(&trailing).field, "TPMS_ATTEST");
    let mut short = good.clone();
    short.quotes[0].values[0].2.pop();
    assert_eq!(kind(&short).field, "PCR value");
    let mut twice = good.clone();
    let value = twice.quotes[0].values[0].clone();
    twice.quotes[0].values.push(value);
    assert_eq!(kind(&twice).field, "PCR value");
    let mut bank_twice = good.clone();
    bank_twice.quotes.push(good.quotes[0].clone());
    assert_eq!(kind(&bank_twice).field, "pcrSelect");
    let none = Parts { quotes: vec![], ..good };
    assert_eq!(kind(&none).field, "quotes");
}

#[test]
fn anchors_are_read_from_files() {
    assert!(matches!(anchor("tpm/swtpm-ca.der").key(), AnchorKey::Certificate(_)));
    let key = AttestationKey::parse(&read("tpm/swtpm-ecdsa-p256.pub")).unwrap().public.spki();
    let anchor = TrustAnchor::from_file_bytes("key", &key).unwrap().remove(0);
    assert_eq!(anchor.key(), &AnchorKey::PublicKey(key.clone()));
    let json = serde_json::to_string(&anchor).unwrap();
    assert_eq!(serde_json::from_str::<TrustAnchor>(&json).unwrap(), anchor);
    assert!(TrustAnchor::from_file_bytes("junk", b"junk").is_err());
    assert!(TrustAnchor::from_file_bytes("key", &key[1..]).is_err());
}
