//! `bailey guest`: hands over to `bailey-guest`, which lies beside this program. What runs in a guest is that program
//! alone; nothing of it is in the command line, nor the other way round.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use anyhow::Context;
use clap::Args;

use crate::failure::{Failure, Outcome};

/// The program.
const PROGRAM: &str = "bailey-guest";

/// Its arguments are its own.
#[derive(Args)]
pub struct Guest {
    /// As `bailey-guest` takes them: `bailey guest --help` shows its own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Guest {
    /// Replaces this process; it comes back only when that fails.
    pub fn run(self) -> Outcome {
        let this = std::env::current_exe().context("the path of this program is not known")?;
        // Beside us and nowhere else: the search path is not to choose who attests.
        let program = this.with_file_name(PROGRAM);
        let error = Command::new(&program).args(self.arguments).exec();
        let hint =
            format!("{PROGRAM} comes with bailey, and belongs beside it; `cargo xtask guest` builds it");
        Err(Failure::from(
            anyhow::Error::from(error).context(format!("{} cannot be started", program.display())),
        )
        .hint(hint))
    }
}
