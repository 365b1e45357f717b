//! `bailey certificate`: keys for people, and the certificates of an appraised coordinator.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use evidence::{CertificateDer, pem};

use crate::{
    authority::Authority,
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
    /// As the CA of a party of a database, make a key and a certificate for a client: NAME.key and NAME.pem
    Issue(Issue),
    /// Appraise a coordinator and write its root certificate: it stays until the state is recovered elsewhere
    Root(Get),
    /// Appraise a coordinator and write the certificate of the CA of its epoch: each manifest has another
    Intermediate(Get),
    /// Appraise a coordinator and write both, the intermediate first
    Chain(Get),
}

/// For whom, and by which CA.
#[derive(Args)]
pub struct Issue {
    /// Whose: the common name of the certificate
    name: String,
    /// The folder of the CA: ca.pem and ca.key
    #[arg(long, value_name = "DIR")]
    authority: PathBuf,
    /// Make that CA first
    #[arg(long)]
    new_authority: bool,
    /// How long the certificate is valid
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

impl Issue {
    fn run(self) -> Outcome {
        let now = attested_tls::clock::system()();
        let Self { name, authority: folder, out, .. } = &self;
        let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let words = format!("{name:?} is no name of a file: letters, digits, `_`, `-` and `.`");
            return Err(Failure::malformed(words));
        }
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        let authority = if self.new_authority {
            let whose =
                folder.file_name().map_or_else(|| name.clone(), |it| it.to_string_lossy().into_owned());
            Authority::create(folder, &whose, now)?
        } else {
            Authority::load(&certificate, &key)
                .map_err(|failure| failure.hint("--new-authority makes the CA first"))?
        };
        let issued = authority.issue(name, time::Duration::days(self.days.into()), now)?;
        std::fs::create_dir_all(out).map_err(anyhow::Error::from)?;
        for (extension, mode, text) in [("key", 0o600, &issued.key), ("pem", 0o644, &issued.certificate)] {
            let path = out.join(format!("{name}.{extension}"));
            identity::write(&path, mode, text)?;
            crate::say!("{}", path.display());
        }
        if self.new_authority {
            crate::say!("anchor of the party, for the manifest: {}", certificate.display());
            crate::say!("keep {} where nobody else gets it: with it, anyone is your party", key.display());
        }
        Ok(())
    }
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
            Self::Issue(issue) => issue.run(),
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
