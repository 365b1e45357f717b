//! `bailey package`: workloads in OCI registries.

mod inspect;
mod pull;
mod push;
mod sign;
mod signers;
mod source;

use std::{
    io::Read,
    path::{Path, PathBuf},
};

pub use source::{AtHand, Source};

use attested_tls::clock;
use clap::{Args, Subcommand};
use keep_protocol::{
    Sensitive,
    package::{RegistryAccess, RegistryCredentials},
};
use package::Reference;
use registry::{Client, Credentials, PackageError, RegistryError, Security};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::failure::{Failure, Input, Kind, Outcome};

/// The longest password or token, in bytes.
const LONGEST_PASSWORD: u64 = 64 * 1024;

/// Workloads as packages in OCI registries.
#[derive(Subcommand)]
pub enum Command {
    /// Pack a WebAssembly module or component, and push it
    Push(push::Push),
    /// Fetch a package, verify it, and write its workload
    Pull(pull::Pull),
    /// Show what a package says of itself, and who signed it
    Inspect(inspect::Inspect),
    /// Sign a package by its digest, and attach the signature as cosign does
    Sign(sign::Sign),
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Push(push) => push.run().await,
            Self::Pull(pull) => pull.run().await,
            Self::Inspect(inspect) => inspect.run().await,
            Self::Sign(sign) => sign.run().await,
        }
    }
}

/// How the registry is known, and you to it.
#[derive(Args)]
pub struct Access {
    /// The CA of the registry's certificate, PEM, instead of those of the Web
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    root_ca: Vec<PathBuf>,
    /// Speak to the registry without TLS: what it says is checked, and everybody on the way sees it
    #[arg(long, conflicts_with = "username")]
    plain_http: bool,
    /// Your name at the registry
    #[arg(long, value_name = "NAME", requires = "password_file")]
    username: Option<String>,
    /// The file that holds your password or token; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
}

/// The same, read.
struct Registry {
    plain: bool,
    /// DER; none: those of the Web.
    roots: Vec<Vec<u8>>,
    credentials: Option<Credentials>,
}

impl Access {
    fn load(&self) -> Outcome<Registry> {
        let mut roots = Vec::new();
        for file in &self.root_ca {
            let root = CertificateDer::from_pem_file(file)
                .malformed(format!("{} holds no certificate, PEM", file.display()))?;
            roots.push(root.to_vec());
        }
        let credentials = match (&self.username, &self.password_file) {
            (Some(username), Some(file)) => {
                Some(Credentials { username: username.clone(), password: password(file)? })
            }
            _ => None,
        };
        Ok(Registry { plain: self.plain_http, roots, credentials })
    }

    fn client(&self, reference: &Reference) -> Outcome<Client> {
        self.load()?.client(reference)
    }
}

impl Registry {
    fn client(&self, reference: &Reference) -> Outcome<Client> {
        let failed = |error| refused(error, reference);
        let security = match (self.plain, self.roots.is_empty()) {
            (true, _) => Security::Plain,
            (false, true) => Security::web(clock::system()).map_err(failed)?,
            (false, false) => Security::roots(self.roots.clone(), clock::system()).map_err(failed)?,
        };
        let client = Client::new(reference.repository.registry(), security, self.credentials.clone());
        client.map_err(failed)
    }

    /// For a Keep, which is to ask in our place.
    fn for_keep(self) -> RegistryAccess {
        let credentials = self.credentials.map(|it| RegistryCredentials {
            password: Sensitive::new(it.password.as_bytes().to_vec()),
            username: it.username,
        });
        let roots = self.roots.into_iter().map(ByteBuf::from).collect();
        RegistryAccess { plain: self.plain, roots, credentials }
    }
}

/// Not an argument: other processes could read that.
fn password(path: &Path) -> Outcome<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(LONGEST_PASSWORD).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LONGEST_PASSWORD).read_to_string(&mut text))
    };
    read.malformed(format!("{} cannot be read", path.display()))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// What a registry did not do, and what would help.
fn refused(error: RegistryError, reference: &Reference) -> Failure {
    let hint = match &error {
        RegistryError::Unauthorised { .. } | RegistryError::Denied => {
            Some("--username and --password-file say who you are")
        }
        RegistryError::Untrusted { .. } => Some("--root-ca FILE names the CA of a registry of your own"),
        RegistryError::NotFound { what: "manifest" } => {
            Some("look at the name, and whether the package was pushed there")
        }
        RegistryError::Unreachable { why: "it does not speak TLS 1.3", .. } => {
            Some("--plain-http is for a registry on this machine that has no TLS")
        }
        _ => None,
    };
    let code = error.code();
    let error = anyhow::Error::from(error).context(format!("{reference} [{code}]"));
    Failure { kind: Kind::Refused, error, hint: hint.map(str::to_owned) }
}

/// Why a package is not accepted.
fn not_accepted(error: PackageError, reference: &Reference) -> Failure {
    let (code, hint) = match error {
        PackageError::Registry(error) => return refused(error, reference),
        ref other => (
            other.code(),
            match other {
                PackageError::Unsigned => Some("`bailey package sign` signs it"),
                PackageError::Artefact(_) => Some("`bailey package push` makes packages"),
                _ => None,
            },
        ),
    };
    let error = anyhow::Error::from(error).context(format!("{reference} [{code}]"));
    Failure { kind: Kind::Refused, error, hint: hint.map(str::to_owned) }
}
