//! What every command that speaks to a coordinator takes: where it is, its pinned root, and who asks.

use std::path::PathBuf;

use attested_tls::clock;
use clap::Args;
use rustls::pki_types::CertificateDer;

use crate::{
    client::{Client, Endpoint},
    failure::{Failure, Input, Kind, Outcome},
    identity,
};

/// A coordinator whose root was pinned by `bailey verify --pin`.
#[derive(Args)]
pub struct Remote {
    /// The coordinator, such as https://localhost:4433
    #[arg(long, value_name = "URL")]
    pub coordinator: String,
    /// The coordinator's root certificate, as `bailey verify --pin` wrote it
    #[arg(long, value_name = "FILE")]
    pub root: PathBuf,
}

/// Who asks.
#[derive(Args)]
pub struct Person {
    /// Your certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// Your key, PEM
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

impl Remote {
    /// A client, as `person` where one is needed.
    pub fn client(&self, person: Option<&Person>) -> Outcome<Client> {
        let endpoint = endpoint(&self.coordinator)?;
        let root = identity::certificates(&self.root)?.swap_remove(0);
        client(endpoint, &root, person)
    }
}

fn client(endpoint: Endpoint, root: &CertificateDer<'static>, person: Option<&Person>) -> Outcome<Client> {
    let identity = person.map(|person| identity::load(&person.cert, &person.key)).transpose()?;
    Client::new(endpoint, root, identity.as_ref(), &clock::system())
        .malformed("certificate or key cannot be used for TLS")
}

/// A URL from the command line.
pub fn endpoint(text: &str) -> Outcome<Endpoint> {
    text.parse().map_err(|error| Failure { kind: Kind::Malformed, error, hint: None })
}
