//! What unchanged verifier code says of emulated Evidence: accepted only where its root is named, and refused
//! for the right reason otherwise.

use appraisal::{
    Appraised, Code, EmulatedRoot, Minimum, Policy, ReferenceValue, ReferenceValues, Refused, SnpMinimum,
    UnixTime, appraise,
};
use crypto_aws_lc::AwsLc;
use emulator::measure;
use emulator::vendor::{Platform, PlatformOptions, Revoked, TcbSetting};
use evidence::{Endorsements, Evidence, LaunchConfiguration, Measurement, Platform as Kind, ReportData};
use time::{Duration, OffsetDateTime};

use crate::{NOW, OTHER, PLATFORM, REPORT_DATA, code, configuration, create, issue};

/// One appraisal, of which each test changes one thing.
struct Case {
    evidence: Vec<u8>,
    endorsements: Endorsements,
    report_data: ReportData,
    measurement: Measurement,
    configuration: LaunchConfiguration,
    policy: Policy,
    now: OffsetDateTime,
    kind: Kind,
}

impl Case {
    fn good(platform: &Platform, kind: Kind) -> Self {
        let roots = platform.roots();
        let named = [("sgx", &roots.intel), ("ark", &roots.amd)]
            .map(|(name, root)| EmulatedRoot::new(name, &root.0).expect("a root"));
        Self {
            evidence: issue(platform, kind),
            endorsements: platform.endorsements(kind),
            report_data: REPORT_DATA,
            measurement: code(kind),
            configuration: configuration(kind),
            policy: Policy::production().trust_emulated(named),
            now: NOW,
            kind,
        }
    }

    fn appraise(&self) -> Result<Appraised, Refused> {
        let reference = ReferenceValues {
            report_data: self.report_data.into(),
            measurements: vec![
                ReferenceValue::program("code", self.kind, self.measurement.clone())
                    .launched_with(self.configuration.clone()),
            ],
        };
        let evidence = Evidence::parse(&self.evidence).expect("well-formed");
        let now = UnixTime(self.now.unix_timestamp());
        appraise(&evidence, &self.endorsements, &reference, &self.policy, now, &AwsLc)
    }

    /// Refused, and with this code among the reasons.
    #[track_caller]
    fn assert_refused(&self, code: Code) {
        match self.appraise() {
            Ok(appraised) => panic!("{} accepted:\n{}", self.kind, appraised.verdict().render(false)),
            Err(refused) => {
                let tree = refused.verdict().render(false);
                assert!(refused.codes().contains(&code), "{}: expected {code}:\n{tree}", self.kind);
            }
        }
    }
}

#[test]
fn evidence_is_accepted_where_its_root_is_named_and_the_verdict_says_emulated() {
    for kind in Kind::KEEPS {
        let appraised = Case::good(&PLATFORM, kind).appraise().unwrap_or_else(|refused| {
            panic!("{}", refused.verdict().render(false));
        });
        assert!(appraised.emulated());
        assert_eq!(appraised.platform(), kind);
    }
}

#[test]
fn s40_evidence_is_refused_where_its_root_is_not_named() {
    for kind in Kind::KEEPS {
        let case = Case { policy: Policy::production(), ..Case::good(&PLATFORM, kind) };
        case.assert_refused(Code::RootNotTrusted);
    }
}

#[test]
fn s40_naming_another_platforms_root_does_not_help() {
    for kind in Kind::KEEPS {
        let policy = Case::good(&OTHER, kind).policy;
        let case = Case { policy, ..Case::good(&PLATFORM, kind) };
        // The other root has the same name, so that the signature is what fails to fit.
        let codes = case.appraise().expect_err("refused").codes();
        let genuine = [Code::RootNotTrusted, Code::ChainSignatureInvalid];
        assert!(codes.iter().any(|code| genuine.contains(code)), "{kind}: {codes:?}");
    }
}

#[test]
fn each_expectation_that_is_not_met_has_its_code() {
    for kind in Kind::KEEPS {
        let good = || Case::good(&PLATFORM, kind);
        Case { report_data: ReportData([0xa5; 64]), ..good() }.assert_refused(Code::ReportDataMismatch);
        let other = measure::measure(b"c0de").of(kind).clone();
        Case { measurement: other, ..good() }.assert_refused(Code::MeasurementMismatch);
        let other = measure::launch_configuration(kind, b"c0nfiguration");
        Case { configuration: other, ..good() }.assert_refused(Code::LaunchConfigurationMismatch);
    }
}

#[test]
fn s36_debug_evidence_is_refused() {
    for kind in Kind::KEEPS {
        let evidence =
            PLATFORM.issue_debug(kind, &code(kind), &configuration(kind), &REPORT_DATA).expect("Evidence");
        Case { evidence, ..Case::good(&PLATFORM, kind) }.assert_refused(Code::DebugEnabled);
    }
}

#[test]
fn s20_expired_collateral_and_certificates_are_refused() {
    for kind in Kind::KEEPS {
        let good = || Case::good(&PLATFORM, kind);
        Case { now: NOW + Duration::days(31), ..good() }.assert_refused(Code::CrlExpired);
        Case { now: NOW + Duration::days(3651), ..good() }.assert_refused(Code::CertificateExpired);
        Case { now: NOW - Duration::days(1), ..good() }.assert_refused(Code::CertificateNotYetValid);
    }
    for kind in [Kind::Sgx, Kind::Tdx] {
        let late = Case { now: NOW + Duration::days(31), ..Case::good(&PLATFORM, kind) };
        late.assert_refused(Code::CollateralExpired);
    }
}

#[test]
fn s20_revoked_certificates_are_refused() {
    for (revoked, kinds) in [
        (Revoked::Pck, &[Kind::Sgx, Kind::Tdx][..]),
        (Revoked::PckCa, &[Kind::Sgx, Kind::Tdx]),
        (Revoked::TcbSigning, &[Kind::Sgx, Kind::Tdx]),
        (Revoked::Ask, &[Kind::Snp]),
    ] {
        let options = PlatformOptions { revoked: vec![revoked], ..PlatformOptions::default() };
        let (platform, _directory) = create(&options).expect("a platform");
        for kind in Kind::KEEPS {
            let case = Case::good(&platform, kind);
            if kinds.contains(&kind) {
                case.assert_refused(Code::CertificateRevoked);
            } else {
                assert!(case.appraise().is_ok(), "{revoked:?} is none of {kind}'s");
            }
        }
    }
}

#[test]
fn an_outdated_platform_is_refused_by_status_or_by_floor() {
    let options = PlatformOptions { tcb: TcbSetting::Outdated, ..PlatformOptions::default() };
    let (outdated, _directory) = create(&options).expect("a platform");
    for kind in [Kind::Sgx, Kind::Tdx] {
        Case::good(&outdated, kind).assert_refused(Code::TcbOutOfDate);
    }
    // AMD has no status: the floor decides. What is current today meets it.
    let current = PLATFORM.tcb().amd;
    let minimum = Minimum {
        snp: vec![SnpMinimum { snp: current.snp, microcode: current.microcode, ..SnpMinimum::default() }],
        ..Minimum::default()
    };
    assert!(Case::good(&outdated, Kind::Snp).appraise().is_ok());
    for (platform, meets) in [(&*PLATFORM, true), (&outdated, false)] {
        let good = Case::good(platform, Kind::Snp);
        let policy = Policy { minimum: minimum.clone(), ..good.policy.clone() };
        let case = Case { policy, ..good };
        if meets {
            assert!(case.appraise().is_ok());
        } else {
            case.assert_refused(Code::TcbBelowMinimum);
        }
    }
}

#[test]
fn endorsements_of_another_kind_or_machine_do_not_fit() {
    for (kind, wrong) in [(Kind::Sgx, Kind::Tdx), (Kind::Tdx, Kind::Sgx)] {
        let endorsements = PLATFORM.endorsements(wrong);
        Case { endorsements, ..Case::good(&PLATFORM, kind) }.assert_refused(Code::CollateralMismatch);
    }
    for kind in Kind::KEEPS {
        let endorsements = OTHER.endorsements(kind);
        assert!(Case { endorsements, ..Case::good(&PLATFORM, kind) }.appraise().is_err(), "{kind}");
        Case { endorsements: Endorsements::default(), ..Case::good(&PLATFORM, kind) }
            .assert_refused(Code::EndorsementsMissing);
    }
}

/// Every byte is covered by the signature, part of it, or padding that must be zero.
#[test]
fn no_single_changed_byte_of_a_report_is_accepted() {
    let good = Case::good(&PLATFORM, Kind::Snp);
    for at in (0..good.evidence.len()).step_by(7) {
        let mut evidence = good.evidence.clone();
        evidence[at] ^= 0x01;
        if Evidence::parse(&evidence).is_ok() {
            let case = Case { evidence, ..Case::good(&PLATFORM, Kind::Snp) };
            assert!(case.appraise().is_err(), "byte {at}");
        }
    }
}
