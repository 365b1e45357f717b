//! Whose workload it is, and whether the Evidence was made for this verifier: the same rules on every platform.

use appraisal::{Code, Policy, ReferenceValue, ReferenceValues, UnixTime, appraise, assess};
use crypto_aws_lc::AwsLc;
use evidence::{LaunchConfiguration, Platform, ReportData};

use crate::lab::amd::Amd;
use crate::lab::intel::Intel;
use crate::lab::{NOW, Presented, REPORT_DATA, measurement};

fn all() -> [Presented; 3] {
    [Intel::sgx().present(), Intel::tdx().present(), Amd::genoa().present()]
}

#[track_caller]
fn refusal(presented: &Presented, reference: &ReferenceValues) -> Vec<Code> {
    let policy = presented.policy();
    appraise(&presented.evidence, &presented.endorsements, reference, &policy, UnixTime(NOW), &AwsLc)
        .map(|appraised| panic!("accepted:\n{}", appraised.verdict()))
        .unwrap_err()
        .codes()
}

#[test]
fn report_data_of_another_session_is_refused() {
    for presented in all() {
        for byte in [0, 31, 32, 63] {
            let mut reference = presented.reference();
            let mut other = REPORT_DATA;
            other.0[byte] ^= 1;
            reference.report_data = other.into();
            assert_eq!(refusal(&presented, &reference), [Code::ReportDataMismatch]);
        }
        let mut truncated = presented.reference();
        let mut half = [0; 64];
        half[..32].copy_from_slice(&REPORT_DATA.0[..32]);
        truncated.report_data = ReportData(half).into();
        assert_eq!(refusal(&presented, &truncated), [Code::ReportDataMismatch]);
    }
}

#[test]
fn other_code_is_refused() {
    for presented in all() {
        let mut reference = presented.reference();
        let mut bytes = reference.measurements[0].measurement.as_ref().unwrap().as_bytes().to_vec();
        bytes[7] ^= 1;
        reference.measurements[0].measurement = Some(measurement(&bytes));
        assert_eq!(refusal(&presented, &reference), [Code::MeasurementMismatch]);
    }
}

#[test]
fn nothing_expected_means_nothing_accepted() {
    for presented in all() {
        let reference = ReferenceValues { measurements: vec![], ..presented.reference() };
        assert_eq!(refusal(&presented, &reference), [Code::PlatformNotExpected]);
    }
}

#[test]
fn a_reference_value_is_for_one_platform() {
    let [_, tdx, snp] = all();
    for (presented, other) in [(&tdx, Platform::Snp), (&snp, Platform::Tdx)] {
        let mut reference = presented.reference();
        reference.measurements[0].platform = other;
        assert_eq!(refusal(presented, &reference), [Code::PlatformNotExpected]);
    }
}

#[test]
fn another_launch_configuration_is_refused() {
    for presented in all() {
        let seen = presented.evidence.launch_configuration().to_vec();
        let with = |bytes: &[u8]| {
            let mut reference = presented.reference();
            reference.measurements[0].launch_configuration = LaunchConfiguration::new(bytes).ok();
            reference
        };
        let policy = presented.policy();
        let good = with(&seen);
        let appraised =
            appraise(&presented.evidence, &presented.endorsements, &good, &policy, UnixTime(NOW), &AwsLc)
                .unwrap();
        assert_eq!(appraised.launch_configuration(), seen);
        let mut other = seen.clone();
        other[0] ^= 1;
        assert_eq!(refusal(&presented, &with(&other)), [Code::LaunchConfigurationMismatch]);
    }
}

/// Of several reference values for the same code, the one with the right configuration counts.
#[test]
fn code_and_configuration_must_match_in_one_reference_value() {
    let presented = Amd { host_data: 3, ..Amd::genoa() }.present();
    let value = |label: &str, code: &[u8; 48], configuration: u8| {
        ReferenceValue::program(label, Platform::Snp, measurement(code))
            .launched_with(LaunchConfiguration::new(&[configuration; 32]).unwrap())
    };
    let mut reference = presented.reference();
    reference.measurements = vec![value("a", &[0xa1; 48], 1), value("b", &[0xa2; 48], 3)];
    assert_eq!(refusal(&presented, &reference), [Code::LaunchConfigurationMismatch]);
    reference.measurements.push(value("c", &[0xa1; 48], 3));
    let policy = presented.policy();
    assert!(
        appraise(&presented.evidence, &presented.endorsements, &reference, &policy, UnixTime(NOW), &AwsLc)
            .is_ok()
    );
}

#[test]
fn all_faults_are_told_together() {
    let presented = Amd { policy: 0x30000 | 1 << 19, crl: None, ..Amd::genoa() }.present();
    let reference = ReferenceValues { report_data: ReportData([0; 64]).into(), measurements: vec![] };
    assert_eq!(
        refusal(&presented, &reference),
        [Code::CrlMissing, Code::DebugEnabled, Code::ReportDataMismatch, Code::PlatformNotExpected]
    );
}

#[test]
fn a_look_without_reference_values_says_so_first() {
    for presented in all() {
        let policy = Policy { emulated_roots: presented.policy().emulated_roots, ..Policy::genuine() };
        let (evidence, endorsements) = (&presented.evidence, &presented.endorsements);
        let assessment = assess(evidence, endorsements, None, None, &policy, UnixTime(NOW), &AwsLc);
        let text = assessment.verdict().to_string();
        let first = text.lines().next().unwrap();
        assert!(assessment.verdict().is_accepted(), "{text}");
        assert!(first.contains("does not say whose workload this is"), "{first}");
        assert!(first.contains("EMULATED"), "{first}");
    }
}

#[test]
fn registers_and_security_versions_are_compared_too() {
    for presented in all() {
        let measured = presented.evidence.measured();
        let (name, value) = measured.iter().find(|(name, _)| name.contains("m")).unwrap();
        let mut reference = presented.reference();
        reference.measurements[0].registers.insert(name.clone(), value.clone());
        assert_eq!(
            refusal(&presented, &{
                let mut other = reference.clone();
                other.measurements[0].registers.insert(name.clone(), "00".into());
                other
            }),
            [Code::RegisterMismatch]
        );
        // A register that the platform does not have is no register that matches.
        assert_eq!(
            refusal(&presented, &{
                let mut other = reference.clone();
                other.measurements[0].registers.insert("pcr99".into(), String::new());
                other
            }),
            [Code::RegisterMismatch]
        );
        assert_eq!(
            refusal(&presented, &{
                let mut other = reference.clone();
                other.measurements[0].minimum.insert("isv_svn".into(), 70_000);
                other
            }),
            [Code::SecurityVersionTooLow]
        );
        reference.measurements[0].measurement = None;
        let (policy, now) = (presented.policy(), UnixTime(NOW));
        appraise(&presented.evidence, &presented.endorsements, &reference, &policy, now, &AwsLc).unwrap();
    }
}
