//! `bailey measure`: reference values of a program, computed from its bytes.

use std::path::PathBuf;

use appraisal::{ReferenceFile, ReferenceValue};
use clap::Args;
use evidence::Platform;

use crate::{
    commands::print_json,
    failure::{Input, Outcome},
};

/// Compute reference values of a program, for the emulated platform.
#[derive(Args)]
pub struct Measure {
    /// The program, such as target/debug/bailey-coordinator
    file: PathBuf,
    /// Require this launch configuration, too
    #[arg(long, value_name = "FILE")]
    configuration: Option<PathBuf>,
    /// What people call the program; without one, its file name
    #[arg(long)]
    label: Option<String>,
}

impl Measure {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let code = std::fs::read(&self.file).malformed(format!("{} cannot be read", self.file.display()))?;
        let configuration = self
            .configuration
            .map(|path| std::fs::read(&path).malformed(format!("{} cannot be read", path.display())))
            .transpose()?;
        let label = self.label.unwrap_or_else(|| {
            self.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        });
        print_json(&reference_values(&label, &code, configuration.as_deref()))
    }
}

/// The reference values of `code` on every platform, for one launch configuration or any.
pub fn reference_values(label: &str, code: &[u8], configuration: Option<&[u8]>) -> ReferenceFile {
    let measured = emulator::measure::measure(code);
    let value = |platform: Platform| {
        let value = ReferenceValue::program(label, platform, measured.of(platform).clone());
        match configuration {
            Some(bytes) => value.launched_with(emulator::measure::launch_configuration(platform, bytes)),
            None => value,
        }
    };
    ReferenceFile { reference_values: Platform::KEEPS.into_iter().map(value).collect() }
}
