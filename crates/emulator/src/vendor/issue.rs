//! What Evidence is asked for: the checked request that the three formats are written from.

use evidence::{LaunchConfiguration, Measurement, Platform, ReportData};

use super::error::{PlatformError, Result};

/// Whether the emulated TEE can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Production,
    Debug,
}

/// Lengths are those of the platform's fields, once this exists.
pub(super) struct Request<'a> {
    pub(super) measurement: &'a [u8],
    pub(super) launch_configuration: &'a [u8],
    pub(super) report_data: &'a [u8; 64],
    mode: Mode,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        platform: Platform,
        measurement: &'a Measurement,
        launch_configuration: &'a LaunchConfiguration,
        report_data: &'a ReportData,
        mode: Mode,
    ) -> Result<Self> {
        check(platform, measurement, launch_configuration)?;
        Ok(Self {
            measurement: measurement.as_bytes(),
            launch_configuration: launch_configuration.as_bytes(),
            report_data: &report_data.0,
            mode,
        })
    }

    pub(super) fn debug(&self) -> bool {
        self.mode == Mode::Debug
    }
}

/// Both values are as long as the platform's fields.
pub(super) fn check(
    platform: Platform,
    measurement: &Measurement,
    launch_configuration: &LaunchConfiguration,
) -> Result<()> {
    let lengths = [
        ("the measurement", Measurement::lengths_on(platform), measurement.as_bytes().len()),
        (
            "the launch configuration digest",
            &[LaunchConfiguration::length_on(platform)],
            launch_configuration.as_bytes().len(),
        ),
    ];
    for (what, expected, seen) in lengths {
        if !expected.contains(&seen) {
            return Err(PlatformError::Length { what, platform, expected: expected.to_vec(), seen });
        }
    }
    Ok(())
}
