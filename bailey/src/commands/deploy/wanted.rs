//! What the Keep must be.

use std::path::PathBuf;

use ::deploy::Wanted;
use appraisal::Policy;
use attested_tls::{clock, launch::DirectConfiguration};
use clap::Args;

use crate::{
    commands::evidence::{emulated_root, policy},
    failure::Outcome,
    reference::Corims,
    up::Programs,
};

/// What the Keep must be, by your own word.
#[derive(Args)]
pub struct WantedArgs {
    /// The appraisal policy, JSON, or one of the words `production` and `genuine`; without one, `production`: hardware
    /// of its vendors only, up to date
    #[arg(long, value_name = "FILE")]
    policy: Option<String>,
    /// Reference values of releases of bailey-keep; without any, those of the bailey-keep beside this program
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
    #[command(flatten)]
    corims: Corims,
    /// Accept the emulated platform whose trust root this is (PEM or DER)
    #[arg(long, value_name = "FILE")]
    emulated_root: Vec<PathBuf>,
}

impl WantedArgs {
    pub fn load(&self) -> Outcome<Wanted> {
        let policy = self.policy.as_deref().map_or(Ok(Policy::production()), policy)?;
        let roots = self.emulated_root.iter().map(|path| emulated_root(path)).collect::<Outcome<Vec<_>>>()?;
        let mut measurements = Vec::new();
        for path in &self.reference {
            measurements.extend(self.corims.load(path, clock::system()())?);
        }
        if self.reference.is_empty() {
            measurements =
                Programs::beside_this_one()?.measure("bailey-keep", Some(&launch_configuration()))?;
        }
        Ok(Wanted { policy: policy.trust_emulated(roots), measurements })
    }
}

/// With what Keeps of direct deployments are launched.
pub fn launch_configuration() -> Vec<u8> {
    DirectConfiguration { version: keep_protocol::VERSION }.to_json()
}
