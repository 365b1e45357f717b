//! What the caller expects of the Evidence itself, whichever platform it is from: that it covers certain
//! data, and that the code is one of those named. "Genuine" is not "mine", so these are checks of their own.

use evidence::{Evidence, ReportData};

use crate::verdict::Check;
use crate::{Code, ReferenceValue};

/// What is expected; none means that the caller did not say.
#[derive(Clone, Copy)]
pub(crate) struct Expectations<'a> {
    pub(crate) report_data: Option<&'a ReportData>,
    pub(crate) measurements: Option<&'a [ReferenceValue]>,
}

impl Expectations<'_> {
    /// Does the Evidence cover the expected data, all 64 bytes of it?
    pub(crate) fn covers(&self, evidence: &Evidence) -> Check {
        const NAME: &str = "covers";
        let seen = evidence.report_data();
        match self.report_data {
            None => Check::skipped(NAME, "no report data was expected: the Evidence may be a replay"),
            Some(expected) if *expected == seen => {
                Check::passed(NAME, "report data as expected: made for this key, nonce and claims")
            }
            Some(expected) => {
                let text = "the Evidence was made for other data: another key, nonce or claims, or a replay";
                Check::failed(NAME, Code::ReportDataMismatch, text)
                    .expected(expected.to_string())
                    .observed(seen.to_string())
                    .mend("ask the attester for Evidence over a fresh nonce on this very connection")
            }
        }
    }

    /// Is the code one of those named, launched as named?
    pub(crate) fn mine(&self, evidence: &Evidence) -> Check {
        const NAME: &str = "mine";
        let Some(references) = self.measurements else {
            let text = "no reference values were given: this verdict does not say whose workload this is";
            return Check::skipped(NAME, text);
        };
        let platform = evidence.platform();
        let here: Vec<_> = references.iter().filter(|value| value.platform == platform).collect();
        if here.is_empty() {
            let text = format!("no reference value is for {platform}");
            return Check::failed(NAME, Code::PlatformNotExpected, text)
                .expected(platforms(references))
                .observed(platform.to_string())
                .mend("give a reference value for this platform, if the code may run there");
        }
        let seen = evidence.measurement();
        let same_code: Vec<_> = here.iter().filter(|value| value.measurement == seen).collect();
        if same_code.is_empty() {
            let expected: Vec<_> =
                here.iter().map(|value| format!("{} = {}", value.label, value.measurement)).collect();
            return Check::failed(NAME, Code::MeasurementMismatch, "the code is none of those expected")
                .expected(expected.join(", or "))
                .observed(seen.to_string())
                .mend(
                    "run the expected build, or measure the build that runs and add it as a reference value",
                );
        }
        launched_as_named(evidence, &same_code)
    }
}

fn launched_as_named(evidence: &Evidence, same_code: &[&&ReferenceValue]) -> Check {
    let seen = crate::launch_configuration(evidence);
    let matching = same_code
        .iter()
        .find(|value| value.launch_configuration.is_some() && value.launch_configuration == seen)
        .or_else(|| same_code.iter().find(|value| value.launch_configuration.is_none()));
    let Some(value) = matching else {
        let expected: Vec<_> = same_code
            .iter()
            .filter_map(|value| value.launch_configuration.as_ref())
            .map(ToString::to_string)
            .collect();
        let check = Check::failed(
            "launch-configuration",
            Code::LaunchConfigurationMismatch,
            "the code was launched with another configuration",
        )
        .expected(expected.join(", or "))
        .observed(hex::encode(evidence.launch_configuration()))
        .mend("launch it with the expected configuration");
        return Check::group("mine", "the expected code, launched in another way", vec![check]);
    };
    let configuration = match value.launch_configuration {
        Some(_) => Check::passed("launch-configuration", "launched with the expected configuration"),
        None => Check::skipped("launch-configuration", "the reference value names none, so any is accepted"),
    };
    let measurement = Check::passed("measurement", format!("{} = {}", value.measurement, value.label));
    let text = format!("measurement {} = {}", shorten(&value.measurement.to_string()), value.label);
    Check::group("mine", text, vec![measurement, configuration])
}

fn shorten(digits: &str) -> String {
    match (digits.get(..8), digits.get(digits.len().saturating_sub(4)..)) {
        (Some(head), Some(tail)) => format!("{head}…{tail}"),
        _ => digits.to_owned(),
    }
}

fn platforms(references: &[ReferenceValue]) -> String {
    let mut names: Vec<_> = references.iter().map(|value| value.platform.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "no platform at all".into() } else { names.join(", ") }
}
