//! A verifier's memory changes what a verdict costs and nothing else: warm and cold verdicts are equal byte for
//! byte, whatever was seen before, at any time, under any policy, after any change of what is presented.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use appraisal::{
    Capacity, Code, Crypto, InvalidSignature, Policy, SignatureAlgorithm, UnixTime, Verifier, assess,
};
use crypto_aws_lc::AwsLc;
use evidence::{CertificateDer, CrlDer, Endorsements, Evidence};

use crate::lab::intel::{Intel, PCK_SERIAL, SIGNER_SERIAL};
use crate::lab::{DAY, NOW, Presented, Window};
use crate::vectors::{amd_certificates, at, dcap, evidence, read, rows};

/// AWS-LC, counting the signatures that it verifies.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn since<T>(&self, work: impl FnOnce() -> T) -> (T, usize) {
        let before = self.0.load(Ordering::SeqCst);
        let result = work();
        (result, self.0.load(Ordering::SeqCst) - before)
    }
}

impl Crypto for Counted {
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.0.fetch_add(1, Ordering::SeqCst);
        AwsLc.verify(algorithm, key, message, signature)
    }

    fn sha1(&self, parts: &[&[u8]]) -> [u8; 20] {
        AwsLc.sha1(parts)
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        AwsLc.sha256(parts)
    }

    fn sha384(&self, parts: &[&[u8]]) -> [u8; 48] {
        AwsLc.sha384(parts)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        AwsLc.sha512(parts)
    }
}

/// Something to appraise.
#[derive(Clone)]
struct Case {
    evidence: Evidence,
    endorsements: Endorsements,
    now: UnixTime,
}

impl Case {
    fn cold(&self, policy: &Policy) -> String {
        let assessment = assess(&self.evidence, &self.endorsements, None, None, policy, self.now, &AwsLc);
        serde_json::to_string(assessment.verdict()).unwrap()
    }

    fn warm(&self, verifier: &Verifier, policy: &Policy) -> String {
        let assessment = verifier.assess(&self.evidence, &self.endorsements, None, None, policy, self.now);
        serde_json::to_string(assessment.verdict()).unwrap()
    }

    fn same(&self, verifier: &Verifier, policy: &Policy, what: impl FnOnce() -> String) {
        assert_eq!(self.warm(verifier, policy), self.cold(policy), "{}", what());
    }

    fn at(&self, now: UnixTime) -> Self {
        Self { now, ..self.clone() }
    }
}

fn is_accepted(json: &str) -> bool {
    json.starts_with(r#"{"verdict":"accepted""#)
}

fn corpus() -> Vec<(String, Case)> {
    let bundle = |row: &crate::vectors::Row| Case {
        evidence: evidence(row.noted("for quote ")),
        endorsements: dcap(&row.file),
        now: row.at.unwrap(),
    };
    let amd = amd_certificates();
    let report = |row: &crate::vectors::Row| {
        let report = evidence(&row.file);
        let now = row.at.unwrap_or(at("2025-06-01T00:00:00Z"));
        Case { endorsements: amd.fit(&report, now), evidence: report, now }
    };
    let rows = rows();
    let of = |directory| rows.iter().filter(move |row| row.is_in(directory));
    let bundles = of("bundles").map(|row| (row.file.clone(), bundle(row)));
    bundles.chain(of("snp").map(|row| (row.file.clone(), report(row)))).collect()
}

fn control(stem: &str, now: &str) -> Case {
    Case {
        evidence: evidence(&format!("negatives/{stem}-ok.quote")),
        endorsements: dcap(&format!("negatives/{stem}-ok.collateral.json")),
        now: at(now),
    }
}

fn tdx() -> Case {
    control("tdx4", "2025-07-04T10:16:31Z")
}

fn sgx() -> Case {
    control("sgx3", "2025-07-04T10:28:44Z")
}

fn snp() -> Case {
    let report = evidence("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin");
    let now = at("2025-08-08T17:21:41Z");
    let mut builder = amd_certificates();
    builder.add_file_bytes(&read("amd-collateral/steward-crl-ARK-Genoa-2022-10-31.der")).unwrap();
    Case { endorsements: builder.fit(&report, now), evidence: report, now }
}

#[test]
fn warm_verdicts_are_those_of_cold_ones_at_any_time_under_any_policy() {
    let verifier = Verifier::new(AwsLc, Capacity::default());
    let policies = [Policy::genuine(), Policy::production()];
    for (name, case) in corpus() {
        let years = [-10, -1, 0, 1, 20].map(|years| case.at(UnixTime(case.now.0 + years * 365 * DAY)));
        let days = [1, 15, 40].map(|days| case.at(UnixTime(case.now.0 + days * DAY)));
        // Once to fill the memory, and once to use it.
        case.warm(&verifier, &policies[0]);
        for case in years.iter().chain(&days) {
            for policy in &policies {
                case.same(&verifier, policy, || format!("{name} at {} under {}", case.now, policy.name));
            }
        }
    }
}

#[test]
fn a_platform_seen_before_costs_one_signature_check() {
    for (case, cold) in [(tdx(), 9), (sgx(), 9), (snp(), 4)] {
        let crypto = Counted::default();
        let verifier = Verifier::new(crypto.clone(), Capacity::default());
        let policy = Policy::genuine();
        for expected in [cold, 1, 1] {
            let (json, checks) = crypto.since(|| case.warm(&verifier, &policy));
            assert!(is_accepted(&json), "{json}");
            assert_eq!(checks, expected);
        }
    }
}

/// S-18, S-37: bytes that differ from those seen before are verified like any others.
#[test]
fn after_any_flip_of_what_is_presented_warm_and_cold_agree() {
    type Part = fn(&mut Endorsements) -> &mut [u8];
    let intel: [(&str, usize, Part); 8] = [
        ("TCB info", 31, |all| &mut all.intel.as_mut().unwrap().tcb_info.body),
        ("TCB info signature", 3, |all| &mut all.intel.as_mut().unwrap().tcb_info.signature),
        ("TCB signer", 7, |all| &mut all.intel.as_mut().unwrap().tcb_info.issuer_chain[0].0),
        ("root beside it", 19, |all| &mut all.intel.as_mut().unwrap().tcb_info.issuer_chain[1].0),
        ("QE identity", 13, |all| &mut all.intel.as_mut().unwrap().qe_identity.body),
        ("QE identity signature", 5, |all| &mut all.intel.as_mut().unwrap().qe_identity.signature),
        ("root CRL", 5, |all| &mut all.intel.as_mut().unwrap().root_ca_crl.0),
        ("PCK CRL", 29, |all| &mut all.intel.as_mut().unwrap().pck_crl.0),
    ];
    let amd: [(&str, usize, Part); 3] = [
        ("VCEK", 11, |all| &mut all.amd.as_mut().unwrap().vek.0),
        ("issuer", 17, |all| &mut all.amd.as_mut().unwrap().issuer_chain[0].0),
        ("CRL", 11, |all| &mut all.amd.as_mut().unwrap().crl.as_mut().unwrap().0),
    ];
    let policy = Policy::genuine();
    for (case, parts) in [(tdx(), &intel[..]), (sgx(), &intel[..]), (snp(), &amd[..])] {
        let verifier = Verifier::new(AwsLc, Capacity::default());
        assert!(is_accepted(&case.warm(&verifier, &policy)));
        for (name, step, part) in parts {
            let mut changed = case.clone();
            for offset in (0..part(&mut changed.endorsements).len()).step_by(*step) {
                part(&mut changed.endorsements)[offset] ^= 1 << (offset % 8);
                changed.same(&verifier, &policy, || format!("{name} at {offset}"));
                part(&mut changed.endorsements)[offset] ^= 1 << (offset % 8);
            }
        }
    }
    for (file, step, case) in [
        ("negatives/tdx4-ok.quote", 7, tdx()),
        ("negatives/sgx3-ok.quote", 11, sgx()),
        ("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin", 5, snp()),
    ] {
        let verifier = Verifier::new(AwsLc, Capacity::default());
        assert!(is_accepted(&case.warm(&verifier, &policy)));
        let mut bytes = read(file);
        for offset in (0..bytes.len()).step_by(step) {
            bytes[offset] ^= 1 << (offset % 8);
            if let Ok(evidence) = Evidence::parse(&bytes) {
                let changed = Case { evidence, ..case.clone() };
                changed.same(&verifier, &policy, || format!("{file} at {offset}"));
            }
            bytes[offset] ^= 1 << (offset % 8);
        }
    }
}

#[test]
fn what_is_missing_or_swapped_is_noticed_by_a_verifier_that_saw_it_whole() {
    let policy = Policy::genuine();
    let (tdx, sgx, snp) = (tdx(), sgx(), snp());
    let verifier = Verifier::new(AwsLc, Capacity::default());
    for case in [&tdx, &sgx, &snp] {
        assert!(is_accepted(&case.warm(&verifier, &policy)));
    }
    let others = [Endorsements::default(), sgx.endorsements.clone(), tdx.endorsements.clone()];
    for case in [&tdx, &sgx, &snp] {
        for endorsements in &others {
            let changed = Case { endorsements: endorsements.clone(), ..case.clone() };
            changed.same(&verifier, &policy, || "other endorsements".into());
        }
    }
    let mut mixed = tdx.clone();
    let (intel, other) = (mixed.endorsements.intel.as_mut().unwrap(), sgx.endorsements.intel.unwrap());
    intel.qe_identity = other.qe_identity;
    mixed.same(&verifier, &policy, || "QE identity of SGX".into());
    let mut swapped = tdx.clone();
    let intel = swapped.endorsements.intel.as_mut().unwrap();
    std::mem::swap(&mut intel.tcb_info.signature, &mut intel.qe_identity.signature);
    swapped.same(&verifier, &policy, || "signatures swapped".into());
    let mut alone = snp.clone();
    alone.endorsements.amd.as_mut().unwrap().issuer_chain = vec![CertificateDer(vec![0x30, 0])];
    alone.same(&verifier, &policy, || "issuer not a certificate".into());
    alone.endorsements.amd.as_mut().unwrap().crl = Some(CrlDer(vec![]));
    alone.same(&verifier, &policy, || "empty list".into());
}

fn warm_codes(verifier: &Verifier, presented: &Presented, policy: &Policy, now: UnixTime) -> Vec<Code> {
    let reference = presented.reference();
    match verifier.appraise(&presented.evidence, &presented.endorsements, &reference, policy, now) {
        Ok(_) => vec![],
        Err(refused) => refused.codes(),
    }
}

/// New collateral counts at once for a platform that was accepted a moment ago.
#[test]
fn revocation_and_tcb_recovery_reach_platforms_seen_before() {
    let good = Intel::tdx();
    let later = [
        Intel { revoked_by_ca: vec![PCK_SERIAL], ..good.clone() },
        Intel { revoked_by_root: vec![SIGNER_SERIAL], ..good.clone() },
        Intel { platform_status: "OutOfDate", ..good.clone() },
        Intel { qe_status: "Revoked", ..good.clone() },
        Intel { pck_crl_window: Window(-40, -10), ..good.clone() },
    ];
    let expected = [
        Code::CertificateRevoked,
        Code::CertificateRevoked,
        Code::TcbOutOfDate,
        Code::TcbRevoked,
        Code::CrlExpired,
    ];
    let (mut presented, later) = good.present_then(&later);
    let (policy, now) = (presented.policy(), UnixTime(NOW));
    let verifier = Verifier::new(AwsLc, Capacity::default());
    assert_eq!(warm_codes(&verifier, &presented, &policy, now), []);
    let first = presented.endorsements.clone();
    for (endorsements, code) in later.into_iter().zip(expected) {
        presented.endorsements = endorsements;
        assert_eq!(warm_codes(&verifier, &presented, &policy, now), [code]);
        presented.endorsements = first.clone();
        assert_eq!(warm_codes(&verifier, &presented, &policy, now), []);
    }
}

/// The very documents and signatures that were verified, beside the certificate of a signer who did not sign them.
#[test]
fn documents_are_remembered_with_the_key_that_signed_them() {
    let good = Intel::tdx();
    let (mut presented, mut later) = good.present_then(&[Intel { other_signer: true, ..good.clone() }]);
    let verifier = Verifier::new(AwsLc, Capacity::default());
    let (policy, now) = (presented.policy(), UnixTime(NOW));
    assert_eq!(warm_codes(&verifier, &presented, &policy, now), []);
    let others = later.remove(0).intel.unwrap();
    let intel = presented.endorsements.intel.as_mut().unwrap();
    intel.tcb_info.issuer_chain = others.tcb_info.issuer_chain;
    assert_eq!(warm_codes(&verifier, &presented, &policy, now), [Code::CollateralSignatureInvalid]);
}

#[test]
fn every_hit_looks_at_the_time() {
    let presented = Intel::sgx().present();
    let policy = presented.policy();
    let verifier = Verifier::new(AwsLc, Capacity::default());
    assert_eq!(warm_codes(&verifier, &presented, &policy, UnixTime(NOW)), []);
    let late = warm_codes(&verifier, &presented, &policy, UnixTime(NOW + 21 * DAY));
    assert!(late.contains(&Code::CrlExpired) && late.contains(&Code::CollateralExpired), "{late:?}");
    let early = warm_codes(&verifier, &presented, &policy, UnixTime(NOW - 11 * DAY));
    assert!(early.contains(&Code::CrlNotYetValid), "{early:?}");
}

/// Trust is the policy's of this very call.
#[test]
fn a_root_that_the_policy_no_longer_names_is_not_trusted_from_memory() {
    let presented = Intel::tdx().present();
    let verifier = Verifier::new(AwsLc, Capacity::default());
    assert_eq!(warm_codes(&verifier, &presented, &presented.policy(), UnixTime(NOW)), []);
    let codes = warm_codes(&verifier, &presented, &Policy::production(), UnixTime(NOW));
    assert_eq!(codes, [Code::RootNotTrusted]);
}

/// What is specific to Evidence is never remembered: a quote is verified each time that it is shown.
#[test]
fn a_replayed_quote_is_verified_again() {
    let case = tdx();
    let crypto = Counted::default();
    let verifier = Verifier::new(crypto.clone(), Capacity::default());
    case.warm(&verifier, &Policy::genuine());
    let before = verifier.remembered();
    let (_, checks) = crypto.since(|| case.warm(&verifier, &Policy::genuine()));
    assert_eq!((checks, verifier.remembered()), (1, before));
}

#[test]
fn what_is_refused_is_not_remembered() {
    let verifier = Verifier::new(AwsLc, Capacity::default());
    let good = tdx();
    for (case, policy) in [
        (good.at(UnixTime(good.now.0 + 365 * DAY)), Policy::genuine()),
        (Case { endorsements: sgx().endorsements, ..good.clone() }, Policy::genuine()),
        (snp(), Policy::production()),
    ] {
        assert!(!is_accepted(&case.warm(&verifier, &policy)));
    }
    for row in rows().iter().filter(|row| row.is_in("negatives") && !row.expected.starts_with("ACCEPT")) {
        let Ok(evidence) = Evidence::parse(&read(&row.file)) else { continue };
        let case = Case { evidence, endorsements: dcap(row.noted("collateral ")), now: row.at.unwrap() };
        assert!(!is_accepted(&case.warm(&verifier, &Policy::genuine())));
    }
    assert_eq!(verifier.remembered(), 0);
}

#[test]
fn the_memory_is_bounded_and_forgets_what_was_used_longest_ago() {
    const ROOM: usize = 60_000;
    let (policy, crypto) = (Policy::genuine(), Counted::default());
    let verifier = Verifier::new(crypto.clone(), Capacity::bytes(ROOM));
    let (first, second) = (tdx(), snp());
    first.warm(&verifier, &policy);
    for (name, case) in corpus() {
        second.same(&verifier, &policy, || "used all the time".into());
        case.same(&verifier, &policy, || name.clone());
        case.same(&verifier, &policy, || name);
        assert!(verifier.remembered() <= ROOM);
    }
    assert_eq!(crypto.since(|| second.warm(&verifier, &policy)).1, 1, "used just now");
    assert!(crypto.since(|| first.warm(&verifier, &policy)).1 > 1, "used long ago");
    let none = Verifier::new(crypto.clone(), Capacity::bytes(0));
    for _ in 0..2 {
        assert_eq!(crypto.since(|| first.warm(&none, &policy)).1, 9);
        assert_eq!(none.remembered(), 0);
    }
}

#[test]
fn threads_share_a_memory() {
    let cases = corpus();
    let verifier = Verifier::new(AwsLc, Capacity::bytes(200_000));
    let policy = Policy::genuine();
    std::thread::scope(|scope| {
        let (cases, verifier, policy) = (&cases, &verifier, &policy);
        scope.spawn(move || {
            cases.iter().for_each(|(name, case)| case.same(verifier, policy, || name.clone()));
        });
        scope.spawn(move || {
            cases.iter().rev().for_each(|(name, case)| case.same(verifier, policy, || name.clone()));
        });
    });
}
