//! `bailey status`.

use clap::Args;

use crate::{
    commands::{print_json, remote::Remote},
    failure::Outcome,
};

/// What state a coordinator is in.
#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    remote: Remote,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let data = self.remote.client(None)?.get("/api/v2/status").await?;
        if self.json {
            return print_json(&data);
        }
        crate::say!("{}", data["message"].as_str().unwrap_or("no message"));
        Ok(())
    }
}
