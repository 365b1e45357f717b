//! S-18: what was signed once stays signed. Statements older than the newest that an appraisal accepted are refused.

use std::fs;
use std::time::Duration;

use appraisal::{Appraised, Code, CollateralSubject, Policy, Refused, TcbStatus, UnixTime, needs};
use endorsements::{Bundle, BundleSigner, DEFAULT_TOLERANCE, Floors, FloorsError};
use evidence::{Endorsements, Evidence};

use crate::vectors::recorded;
use crate::vectors::{
    GENOA, TDX, TDX_2025, TDX_2025_AT, TDX_2026, TDX_2026_AT, appraise_under, at, evidence,
};

/// Of 2026-02-18 and of 2026-03-16, of the same evaluation, and on the 17th of March both still hold.
const QUOTE: &str = "tdx/attestation-rs-live-evidence.quote-v4-tdx-140cbd.bin";
const FEBRUARY: &str = "bundles/quote-v4-tdx-140cbd8c-20260218T1058-e18.collateral.json";
const MARCH: &str = "bundles/quote-v4-tdx-140cbd8c-20260316T2206-e18.collateral.json";
const BOTH_HOLD: &str = "2026-03-17T00:00:00Z";

fn appraise(
    floors: &Floors,
    evidence: &Evidence,
    endorsements: &Endorsements,
    now: &str,
) -> Result<Appraised, Refused> {
    let mut policy = Policy::genuine();
    // What is older is often better: that is the point of serving it.
    policy.accepted_tcb.insert(TcbStatus::OutOfDate);
    floors.apply(&mut policy, evidence, endorsements).unwrap();
    appraise_under(&policy, evidence, endorsements, at(now))
}

fn assert_rolled_back(result: Result<Appraised, Refused>) {
    let refused = result.unwrap_err();
    assert!(refused.codes().contains(&Code::CollateralRolledBack), "{refused}");
}

#[test]
fn s18_an_older_evaluation_is_refused() {
    // The same instant: evaluation 17 says that only software must be hardened, evaluation 18 that the platform is out
    // of date.
    let quote = evidence("sgx/automata-dcap-attestation-sample_quotes.quote-v3-sgx-268c06.bin");
    let older = recorded("bundles/quote-v3-sgx-268c0681-20250606T1230-e17.collateral.json");
    let newer = recorded("bundles/quote-v3-sgx-268c0681-20250606T1142-e18.collateral.json");
    let now = "2025-06-20T10:41:14Z";
    let floors = Floors::in_memory();
    assert!(appraise(&floors, &quote, &older, now).is_ok());
    let appraised = appraise(&floors, &quote, &newer, now).unwrap();
    assert!(floors.raise(&appraised).unwrap());
    assert!(!floors.raise(&appraised).unwrap(), "known already");
    assert_rolled_back(appraise(&floors, &quote, &older, now));
    assert!(appraise(&floors, &quote, &newer, now).is_ok());
}

/// Intel gives every list the number 1, so only the time of issue tells that a list was held back.
#[test]
fn s18_an_older_revocation_list_is_refused_by_its_date() {
    let quote = evidence(QUOTE);
    let (older, newer) = (recorded(FEBRUARY), recorded(MARCH));
    let floors = Floors::in_memory();
    assert!(appraise(&floors, &quote, &older, BOTH_HOLD).is_ok());
    let appraised = appraise(&floors, &quote, &newer, BOTH_HOLD).unwrap();
    let seen = appraised.collateral();
    assert_eq!(seen.pck_crl.unwrap().number, Some(1));
    assert_eq!(seen.root_ca_crl.unwrap().issued, at("2026-02-26T13:04:00Z"));
    floors.raise(&appraised).unwrap();

    // Nothing but the PCK CA's list is of February.
    let mut mixed = newer.clone();
    let (mixed_intel, older_intel) = (mixed.intel.as_mut().unwrap(), older.intel.as_ref().unwrap());
    mixed_intel.pck_crl = older_intel.pck_crl.clone();
    assert_rolled_back(appraise(&floors, &quote, &mixed, BOTH_HOLD));
    let refused = appraise(&floors, &quote, &mixed, BOTH_HOLD).unwrap_err();
    assert!(refused.to_string().contains("older than what has been seen before"), "{refused}");

    // Nor the root CA's.
    let mut mixed = newer.clone();
    mixed.intel.as_mut().unwrap().root_ca_crl = older.intel.as_ref().unwrap().root_ca_crl.clone();
    assert_rolled_back(appraise(&floors, &quote, &mixed, BOTH_HOLD));
    assert!(appraise(&floors, &quote, &newer, BOTH_HOLD).is_ok());
}

/// Verifiers that share floors have caches of different days.
#[test]
fn a_list_that_is_a_little_older_passes() {
    let quote = evidence(QUOTE);
    let (older, newer) = (recorded(FEBRUARY), recorded(MARCH));
    for (tolerance, passes) in [
        (Duration::ZERO, false),
        (DEFAULT_TOLERANCE, false),
        (Duration::from_secs(60 * 24 * 60 * 60), true),
        (Duration::MAX, true),
    ] {
        let floors = Floors::in_memory().tolerating(tolerance);
        floors.raise(&appraise(&floors, &quote, &newer, BOTH_HOLD).unwrap()).unwrap();
        let result = appraise(&floors, &quote, &older, BOTH_HOLD);
        // That of the root CA is the one of 2025.
        assert_eq!(result.is_ok(), passes && tolerance == Duration::MAX, "{tolerance:?}");
        let mut mixed = newer.clone();
        mixed.intel.as_mut().unwrap().pck_crl = older.intel.as_ref().unwrap().pck_crl.clone();
        assert_eq!(appraise(&floors, &quote, &mixed, BOTH_HOLD).is_ok(), passes, "{tolerance:?}");
        assert!(appraise(&floors, &quote, &newer, BOTH_HOLD).is_ok());
    }
}

#[test]
fn s18_an_old_bundle_is_refused() {
    let signer = BundleSigner::generate().unwrap().0;
    let quote = evidence(QUOTE);
    let subject = needs(&quote).unwrap().unwrap();
    let old = Bundle::make(recorded(FEBRUARY), &subject, at("2026-02-18T12:00:00Z"), &signer).unwrap();
    let new = Bundle::make(recorded(MARCH), &subject, at(BOTH_HOLD), &signer).unwrap();
    let floors = Floors::in_memory();
    floors.raise(&appraise(&floors, &quote, new.endorsements(), BOTH_HOLD).unwrap()).unwrap();
    assert_rolled_back(appraise(&floors, &quote, old.endorsements(), BOTH_HOLD));
}

#[test]
fn floors_outlive_the_process_and_are_shared() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/floors.json");
    let (one, other) = (Floors::open(&path).unwrap(), Floors::open(&path).unwrap());
    let quote = evidence(TDX);
    one.raise(&appraise(&one, &quote, &recorded(TDX_2026), TDX_2026_AT).unwrap()).unwrap();
    // Lower again: what was seen stays seen.
    let earlier = appraise(&Floors::in_memory(), &quote, &recorded(TDX_2025), TDX_2025_AT).unwrap();
    assert!(!other.raise(&earlier).unwrap());
    for floors in [one, other, Floors::open(&path).unwrap()] {
        assert_rolled_back(appraise(&floors, &quote, &recorded(TDX_2025), TDX_2025_AT));
    }
}

#[test]
fn many_raise_at_once_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("floors.json");
    let accepted: Vec<_> = [(TDX, TDX_2025, TDX_2025_AT), (QUOTE, MARCH, BOTH_HOLD)]
        .into_iter()
        .map(|(quote, collateral, now)| {
            appraise(&Floors::in_memory(), &evidence(quote), &recorded(collateral), now).unwrap()
        })
        .collect();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let (path, appraised) = (&path, &accepted[index % 2]);
            scope.spawn(move || Floors::open(path).unwrap().raise(appraised).unwrap());
        }
    });
    let floors = Floors::open(&path).unwrap();
    for appraised in accepted {
        assert!(!floors.raise(&appraised).unwrap());
    }
}

/// Starting anew because a file looks odd would be to forget.
#[test]
fn a_file_that_is_no_file_of_floors_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("floors.json");
    for text in ["", "{}", r#"{"format":"bailey/floors/9","evaluations":{},"lists":{}}"#] {
        fs::write(&path, text).unwrap();
        assert!(matches!(Floors::open(&path), Err(FloorsError::Unreadable(_))), "{text}");
    }
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert!(matches!(Floors::open(&path), Err(FloorsError::Disk(_))));
}

#[test]
fn floors_are_of_their_subject() {
    let floors = Floors::in_memory();
    let appraised = appraise(&floors, &evidence(TDX), &recorded(TDX_2026), TDX_2026_AT).unwrap();
    floors.raise(&appraised).unwrap();
    let own = appraised.collateral().subject.unwrap();
    let minimum = floors.minimum(own).unwrap();
    assert_eq!(minimum.tcb_evaluation_data_number, Some(18));
    let CollateralSubject::Intel(mut other) = own else { panic!("Intel's") };
    other.fmspc = [9; 6];
    let minimum = floors.minimum(CollateralSubject::Intel(other)).unwrap();
    assert_eq!(minimum.tcb_evaluation_data_number, None);
    assert_eq!(minimum.root_ca_crl_number, Some(1), "one root for all");
    let amd = floors.minimum(CollateralSubject::Amd(evidence::snp::ProductFamily::Genoa)).unwrap();
    assert_eq!(amd, appraisal::Minimum::default());
}

#[test]
fn s18_amds_list_has_a_number() {
    let report = evidence("snp/steward-milan.signed.crl.csr.report-v2-21033d.bin");
    let mut endorsements = amd(&report, "2022-10-01T00:00:00Z");
    let floors = Floors::in_memory();
    let appraised = appraise(&floors, &report, &endorsements, "2022-10-01T00:00:00Z").unwrap();
    assert_eq!(appraised.collateral().amd_crl_number, Some(3));
    floors.raise(&appraised).unwrap();
    let mut policy = Policy::genuine();
    floors.apply(&mut policy, &report, &endorsements).unwrap();
    assert_eq!(policy.minimum.amd_crl_number, Some(3));
    // The policy's own floor counts too, when it is higher.
    policy.minimum.amd_crl_number = Some(4);
    floors.apply(&mut policy, &report, &endorsements).unwrap();
    assert_eq!(policy.minimum.amd_crl_number, Some(4));
    assert_rolled_back(appraise_under(&policy, &report, &endorsements, at("2022-10-01T00:00:00Z")));
    let mut by_date = Policy::genuine();
    by_date.minimum.amd_crl_issued = Some(at("2022-05-10T00:00:00Z"));
    assert_rolled_back(appraise_under(&by_date, &report, &endorsements, at("2022-10-01T00:00:00Z")));
    // Another family's list says nothing of this one.
    let genoa = evidence(GENOA);
    endorsements = amd(&genoa, "2025-08-08T17:21:41Z");
    let mut policy = Policy::genuine();
    floors.apply(&mut policy, &genoa, &endorsements).unwrap();
    assert_eq!(policy.minimum.amd_crl_number, None);
}

fn amd(report: &Evidence, now: &str) -> Endorsements {
    let mut builder = appraisal::EndorsementsBuilder::new();
    for (_, der) in crate::vectors::amd_files("der") {
        let _ = builder.add_file_bytes(&der);
    }
    builder.fit(report, now.parse::<UnixTime>().unwrap())
}

/// A number that only an emulated vendor signed would shut out the real one.
#[test]
fn emulated_platforms_do_not_raise_floors() {
    use emulator::vendor::{Platform, PlatformOptions};
    let directory = tempfile::tempdir().unwrap();
    let now = time::OffsetDateTime::from_unix_timestamp(at("2026-11-21T12:00:00Z").0).unwrap();
    let platform = Platform::open_with(directory.path(), &PlatformOptions::default(), now).unwrap();
    let kind = evidence::Platform::Snp;
    let code = emulator::measure::measure(b"code").of(kind).clone();
    let configuration = emulator::measure::launch_configuration(kind, b"configuration");
    let issued = platform.issue(kind, &code, &configuration, &evidence::ReportData([1; 64])).unwrap();
    let quote = Evidence::parse(&issued).unwrap();
    let root = appraisal::EmulatedRoot::new("laptop", &platform.roots().amd.0).unwrap();
    let policy = Policy::genuine().trust_emulated([root]);
    let appraised =
        appraise_under(&policy, &quote, &platform.endorsements(kind), at("2026-11-21T12:00:00Z")).unwrap();
    assert!(appraised.emulated());
    let floors = Floors::in_memory();
    assert!(!floors.raise(&appraised).unwrap());
    let subject = appraised.collateral().subject.unwrap();
    assert_eq!(floors.minimum(subject).unwrap(), appraisal::Minimum::default());
}
