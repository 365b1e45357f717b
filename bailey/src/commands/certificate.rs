//! `bailey certificate`: keys for people, and the certificates of an appraised coordinator.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use evidence::{CertificateDer, pem};

use crate::{
    commands::verify::Required,
    failure::{Failure, Outcome},
    identity,
    output::public_file,
};

/// Keys for people, certificates of coordinators.
#[derive(Subcommand)]
pub enum Command {
    /// Make a key and a self-signed certificate: NAME.key and NAME.pem
    Create {
        /// Whose
        name: String,
        /// Where to write
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Appraise a coordinator and write its root certificate: it stays until the state is recovered elsewhere
    Root(Get),
    /// Appraise a coordinator and write the certificate of the CA of its epoch: each manifest has another
    Intermediate(Get),
    /// Appraise a coordinator and write both, the intermediate first
    Chain(Get),
}

/// From which coordinator.
#[derive(Args)]
pub struct Get {
    /// The coordinator, such as https://localhost:4433
    url: String,
    #[command(flatten)]
    required: Required,
    /// Where to write, PEM
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Create { name, out } => {
                let made = identity::create(&out, &name)?;
                crate::say!("{}", out.join(format!("{name}.pem")).display());
                crate::say!("{}", out.join(format!("{name}.key")).display());
                crate::say!("public key, as launch configurations name it: {}", identity::key_digest(&made)?);
                Ok(())
            }
            Self::Root(get) => get.run(&[Part::Root]).await,
            Self::Intermediate(get) => get.run(&[Part::Intermediate]).await,
            Self::Chain(get) => get.run(&[Part::Intermediate, Part::Root]).await,
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    Root,
    Intermediate,
}

impl Get {
    async fn run(self, parts: &[Part]) -> Outcome {
        let claims = self.required.appraised(&self.url, None).await?.claims;
        let mut text = String::new();
        for part in parts {
            let der = match part {
                Part::Root => claims.root.to_vec(),
                Part::Intermediate => claims
                    .intermediate
                    .as_ref()
                    .ok_or_else(|| {
                        Failure::refused("the coordinator has no intermediate CA: no manifest is in force")
                    })?
                    .to_vec(),
            };
            text.push_str(&pem::encode(&CertificateDer(der)));
        }
        public_file(&self.output, text.as_bytes())?;
        crate::say!("the coordinator was appraised: {}", self.output.display());
        Ok(())
    }
}
