//! The emulated vendors by their public API: what they issue, what unchanged verifier code says to it, and what
//! is left in the directory.

mod directory;
mod verdicts;

use std::sync::LazyLock;

use emulator::measure;
use emulator::vendor::{Platform, PlatformError, PlatformOptions};
use evidence::{Evidence, LaunchConfiguration, Measurement, Platform as Kind, ReportData};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
const REPORT_DATA: ReportData = ReportData([0x5a; 64]);

/// Generating RSA keys takes a second or two, so most tests share a platform.
static PLATFORM: LazyLock<Platform> =
    LazyLock::new(|| create(&PlatformOptions::default()).expect("a platform").0);

/// A second one, created alike.
static OTHER: LazyLock<Platform> =
    LazyLock::new(|| create(&PlatformOptions::default()).expect("a platform").0);

fn create(options: &PlatformOptions) -> Result<(Platform, TempDir), PlatformError> {
    let directory = TempDir::new().expect("a directory");
    Ok((Platform::open_with(directory.path(), options, NOW)?, directory))
}

fn code(kind: Kind) -> Measurement {
    measure::measure(b"code").of(kind).clone()
}

fn configuration(kind: Kind) -> LaunchConfiguration {
    measure::launch_configuration(kind, b"configuration")
}

fn issue(platform: &Platform, kind: Kind) -> Vec<u8> {
    platform.issue(kind, &code(kind), &configuration(kind), &REPORT_DATA).expect("Evidence")
}

#[test]
fn evidence_says_what_was_asked_for() {
    for kind in Kind::KEEPS {
        let evidence = Evidence::parse(&issue(&PLATFORM, kind)).expect("well-formed");
        assert_eq!(evidence.platform(), kind);
        assert_eq!(evidence.measurement(), Some(code(kind)));
        assert_eq!(evidence.launch_configuration(), configuration(kind).as_bytes());
        assert_eq!(evidence.covered(), REPORT_DATA.into());
    }
}

#[test]
fn a_measurement_of_another_platform_is_refused_not_padded() {
    for kind in [Kind::Tdx, Kind::Snp] {
        let issued = PLATFORM.issue(kind, &code(Kind::Sgx), &configuration(kind), &REPORT_DATA);
        assert!(
            matches!(&issued, Err(PlatformError::Length { expected, seen: 32, .. }) if *expected == [48]),
            "{issued:?}"
        );
        let issued = PLATFORM.issue(kind, &code(kind), &configuration(Kind::Sgx), &REPORT_DATA);
        assert!(matches!(issued, Err(PlatformError::Length { seen: 64, .. })), "{issued:?}");
    }
}

#[test]
fn endorsements_survive_their_encoding() {
    for kind in Kind::KEEPS {
        let endorsements = PLATFORM.endorsements(kind);
        let decoded = evidence::Endorsements::from_bytes(&endorsements.to_bytes());
        assert_eq!(decoded, Ok(endorsements));
    }
}

#[test]
fn s46_sealing_keys_differ_by_everything_that_they_are_bound_to() {
    let key = |kind, code: &[u8], configuration: &[u8], context| {
        let measurement = measure::measure(code).of(kind).clone();
        *PLATFORM.sealing_key(kind, &measurement, configuration, context).expect("a key")
    };
    let base = key(Kind::Snp, b"code", b"configuration", "state");
    assert_eq!(base, key(Kind::Snp, b"code", b"configuration", "state"), "stable");
    for (what, other) in [
        ("kind", key(Kind::Tdx, b"code", b"configuration", "state")),
        ("measurement", key(Kind::Snp, b"c0de", b"configuration", "state")),
        ("configuration", key(Kind::Snp, b"code", b"c0nfiguration", "state")),
        ("context", key(Kind::Snp, b"code", b"configuration", "other")),
        ("border", key(Kind::Snp, b"code", b"configurations", "tate")),
    ] {
        assert_ne!(base, other, "{what}");
    }
}

#[test]
fn another_platform_has_other_roots_and_other_keys() {
    assert_ne!(OTHER.roots().intel, PLATFORM.roots().intel);
    assert_ne!(OTHER.roots().amd, PLATFORM.roots().amd);
    assert_ne!(OTHER.chip_id(), PLATFORM.chip_id());
    let key = |platform: &Platform| {
        *platform.sealing_key(Kind::Sgx, &code(Kind::Sgx), b"configuration", "state").expect("a key")
    };
    assert_ne!(key(&OTHER), key(&PLATFORM));
}
