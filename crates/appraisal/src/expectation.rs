//! What the caller expects of the Evidence itself, whichever platform it is from: that it covers certain
//! data, and that the code is one of those named. "Genuine" is not "mine", so these are checks of their own.

use std::collections::BTreeMap;

use evidence::{Covered, Evidence};

use crate::verdict::Check;
use crate::{Code, ReferenceValue};

/// What is expected; none means that the caller did not say.
#[derive(Clone, Copy)]
pub(crate) struct Expectations<'a> {
    pub(crate) report_data: Option<&'a Covered>,
    pub(crate) measurements: Option<&'a [ReferenceValue]>,
}

impl Expectations<'_> {
    /// Does the Evidence cover the expected data, all of it?
    pub(crate) fn covers(&self, evidence: &Evidence) -> Check {
        const NAME: &str = "covers";
        let seen = evidence.covered();
        match self.report_data {
            None => Check::skipped(NAME, "no report data was expected: the Evidence may be a replay"),
            Some(expected) if is_covered(expected, &seen) => {
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
        let of_code = |value: &&&ReferenceValue| value.measurement.is_none() || value.measurement == seen;
        let same_code: Vec<_> = here.iter().filter(of_code).copied().collect();
        if same_code.is_empty() {
            let expected: Vec<_> = here
                .iter()
                .filter_map(|value| {
                    value.measurement.as_ref().map(|digest| format!("{} = {digest}", value.label))
                })
                .collect();
            return Check::failed(NAME, Code::MeasurementMismatch, "the code is none of those expected")
                .expected(expected.join(", or "))
                .observed(seen.map_or_else(|| "no measurement".into(), |seen| seen.to_string()))
                .mend(
                    "run the expected build, or measure the build that runs and add it as a reference value",
                );
        }
        let measured = evidence.measured();
        let shortfalls: Vec<_> = same_code.iter().map(|value| registers(value, &measured)).collect();
        let equal: Vec<_> = same_code
            .iter()
            .zip(&shortfalls)
            .filter(|(_, checks)| !checks.iter().any(Check::is_failed))
            .map(|(value, _)| *value)
            .collect();
        match shortfalls
            .into_iter()
            .min_by_key(|checks| checks.iter().filter(|check| check.is_failed()).count())
        {
            Some(closest) if equal.is_empty() => Check::group(
                NAME,
                "the expected code with other registers; the closest reference value:",
                closest,
            ),
            _ => launched_as_named(evidence, &equal),
        }
    }
}

/// The comparison of everything that a reference value names beside measurement and launch configuration.
fn registers(value: &ReferenceValue, measured: &BTreeMap<String, String>) -> Vec<Check> {
    const NAME: &str = "register";
    let absent = "not in the Evidence".to_owned();
    let equal = value.registers.iter().map(|(name, expected)| {
        let seen = measured.get(name).unwrap_or(&absent);
        if seen == expected {
            return Check::passed(NAME, format!("{name} = {}", shorten(seen)));
        }
        Check::failed(NAME, Code::RegisterMismatch, format!("{name} differs from {}", value.label))
            .expected(expected.clone())
            .observed(seen.clone())
            .mend("find out what was loaded instead, or add its value to the reference values")
    });
    let at_least = value.minimum.iter().map(|(name, least)| {
        match measured.get(name).and_then(|seen| seen.parse::<u64>().ok()) {
            Some(seen) if seen >= *least => Check::passed(NAME, format!("{name} {seen}, at least {least}")),
            seen => Check::failed(
                NAME,
                Code::SecurityVersionTooLow,
                format!("{name} is below the floor of {}", value.label),
            )
            .expected(format!("at least {least}"))
            .observed(seen.map_or_else(|| absent.clone(), |seen| seen.to_string()))
            .mend("run a newer build"),
        }
    });
    equal.chain(at_least).collect()
}

/// Equal, or the first half of 64 bytes where the platform's field has 32.
pub(crate) fn is_covered(expected: &Covered, seen: &Covered) -> bool {
    match (expected.as_bytes(), seen.as_bytes()) {
        (expected, seen) if expected.len() == 64 && seen.len() == 32 => expected[..32] == *seen,
        // Nothing covered is nothing shown, whatever was expected.
        (expected, seen) => !seen.is_empty() && expected == seen,
    }
}

fn launched_as_named(evidence: &Evidence, same_code: &[&ReferenceValue]) -> Check {
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
    let (measurement, text) = match &value.measurement {
        Some(digest) => (
            Check::passed("measurement", format!("{digest} = {}", value.label)),
            format!("measurement {} = {}", shorten(&digest.to_string()), value.label),
        ),
        None => (
            Check::skipped(
                "measurement",
                "the reference value names none: its registers tell what the code is",
            ),
            format!("registers as of {}", value.label),
        ),
    };
    let mut checks = vec![measurement];
    checks.extend(registers(value, &evidence.measured()));
    checks.push(configuration);
    Check::group("mine", text, checks)
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
