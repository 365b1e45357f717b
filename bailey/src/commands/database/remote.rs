//! What every command takes that speaks to a database: where it is, its pinned root, and who asks.

use std::path::PathBuf;

use attested_tls::clock;
use clap::Args;
use rustls::pki_types::CertificateDer;

use crate::{
    commands::remote::endpoint,
    database::Client,
    failure::{Failure, Outcome},
    identity,
};

/// A database whose root was pinned by `bailey database verify --pin`.
#[derive(Args)]
pub struct Remote {
    /// Its API, such as https://localhost:4434
    #[arg(long, value_name = "URL", env = "BAILEY_DATABASE_API")]
    database: String,
    /// Its root certificate, as `bailey database verify --pin` wrote it
    #[arg(long, value_name = "FILE", env = "PGSSLROOTCERT")]
    root: PathBuf,
    /// Your certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key", env = "PGSSLCERT")]
    cert: Option<PathBuf>,
    /// Your key, PEM
    #[arg(long, value_name = "FILE", requires = "cert", env = "PGSSLKEY")]
    key: Option<PathBuf>,
}

impl Remote {
    /// Its pinned root.
    pub fn root(&self) -> Outcome<CertificateDer<'static>> {
        Ok(identity::certificates(&self.root)?.swap_remove(0))
    }

    /// A client of it.
    pub fn client(&self) -> Outcome<Client> {
        let root = self.root()?;
        let person = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(identity::load(cert, key)?),
            _ => None,
        };
        Ok(Client::new(endpoint(&self.database)?, &root, person.as_ref(), &clock::system())?)
    }

    /// A client of it, for what only a party may ask.
    pub fn party(&self) -> Outcome<Client> {
        if self.cert.is_none() {
            return Err(Failure::malformed("--cert and --key are needed: a party asks for this"));
        }
        self.client()
    }
}
