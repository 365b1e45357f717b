//! `bailey run`: as `bailey deploy`, with a Keep on this machine.

use anyhow::Context;
use clap::Args;

use super::deploy::{WorkloadArgs, deploy, launch_configuration};
use crate::{
    failure::Outcome,
    heads::data_folder,
    up::{Lone, Programs},
};

/// Run a workload in a Keep on this machine, on an emulated TEE, as `bailey deploy` does on a host.
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    workload: WorkloadArgs,
}

impl Run {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        // What is wrong with it is told before anything is started.
        let deployment = self.workload.load().await?;
        let folder = tempfile::Builder::new()
            .prefix("bailey-run-")
            .tempdir()
            .context("a temporary folder for the Keep's host cannot be made")?;
        let kept = data_folder().map(|data| data.join("machine"));
        let lone = Lone::start(folder.path(), kept.as_deref(), &Programs::beside_this_one()?).await?;
        let wanted = lone.wanted(&launch_configuration())?;
        deploy(&lone.host()?, &wanted, &self.workload, deployment).await
    }
}
