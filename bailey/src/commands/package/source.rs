//! A package as what to run or to write: where it is, whose signature counts, and what opens it.

use std::path::PathBuf;

use async_trait::async_trait;
use attested_tls::clock;
use clap::Args;
use image_keys::{Kek, Packet};
use keep_protocol::package::{PackageOrder, Signed};
use package::{Pinned, Reference, Repository, Version};
use registry::{Fetched, Opener, Sealed, Wanted, fetch};
use zeroize::Zeroizing;

use super::{Access, not_accepted, refused, signers::Known};
use crate::failure::{Failure, Input, Outcome};

/// Whose package counts, and how it is had.
#[derive(Args)]
pub struct Source {
    /// No older version
    #[arg(long, value_name = "VERSION", default_value = "0.0.0")]
    minimum_version: Version,
    /// What it must be signed as, where REGISTRY/REPOSITORY is a copy
    #[arg(long, value_name = "REGISTRY/REPOSITORY")]
    name: Option<Repository>,
    /// The file that holds the key by which it is encrypted: 32 bytes
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    known: Known,
    #[command(flatten)]
    access: Access,
}

impl Source {
    /// Fetches and verifies. Where nobody's signature is asked for, the digest is all that says what it is.
    pub async fn fetch(&self, reference: &Reference) -> Outcome<(Pinned, Fetched)> {
        let signers = self.known.signers()?;
        let wanted = match signers.is_empty() {
            true => Wanted::Exactly,
            false => Wanted::Signed {
                name: self.name.clone().unwrap_or_else(|| reference.repository.clone()),
                signers,
                minimum: self.minimum_version.clone(),
            },
        };
        let opener: Box<dyn Opener> = match self.opener()? {
            None => Box::new(Sealed),
            Some(key) => Box::new(key),
        };
        let client = self.access.client(reference)?;
        let digest = client.resolve(reference).await.map_err(|error| refused(error, reference))?;
        let package = Pinned { repository: reference.repository.clone(), digest };
        let fetched = fetch(&client, &wanted, &package, clock::system()(), &*opener).await;
        Ok((package, fetched.map_err(|error| not_accepted(error, reference))?))
    }

    /// The same, of what is to be run: a tag alone would leave it to the registry what that is.
    pub async fn fetch_to_run(&self, reference: &Reference) -> Outcome<(Pinned, Fetched)> {
        self.named(reference)?;
        self.fetch(reference).await
    }

    /// What a Keep is to fetch and verify in our place. A tag is looked up here: what counts is the digest, and who signed
    /// it.
    pub async fn order(&self, reference: &Reference) -> Outcome<PackageOrder> {
        self.named(reference)?;
        let (known, signers) = (self.access.load()?, self.known.for_keep()?);
        let digest = match reference.digest {
            Some(digest) => digest,
            None => {
                let client = known.client(reference)?;
                client.resolve(reference).await.map_err(|error| refused(error, reference))?
            }
        };
        let name = self.name.as_ref().unwrap_or(&reference.repository);
        let minimum = self.minimum_version.to_string();
        let signed = Signed { name: name.to_string(), minimum, signers };
        Ok(PackageOrder {
            now: u64::try_from(clock::system()().0).unwrap_or(0),
            access: known.for_keep(),
            signed: (!signed.signers.is_empty()).then_some(signed),
            reference: Pinned { repository: reference.repository.clone(), digest }.to_string(),
        })
    }

    /// What opens it, if anything does.
    pub fn opener(&self) -> Outcome<Option<AtHand>> {
        let Some(file) = &self.key_file else { return Ok(None) };
        let what = format!("{} cannot be used", file.display());
        let key = Zeroizing::new(std::fs::read(file).malformed(&what)?);
        Ok(Some(AtHand(Kek::new(&key).malformed(&what)?)))
    }

    fn named(&self, reference: &Reference) -> Outcome {
        if reference.digest.is_none() && self.known.signers()?.is_empty() {
            return Err(Failure::malformed(format!(
                "{reference} is a name, and nobody's signature is asked for: whoever has the registry would choose what \
                 runs"
            ))
            .hint("name it by its digest, REGISTRY/REPOSITORY@sha256:…, or say with --signer whose signature counts"));
        }
        Ok(())
    }
}

/// A key in a file.
pub struct AtHand(Kek);

impl AtHand {
    /// What is in the packet.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn unwrap(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let packet = Packet::parse(packet).map_err(|error| error.to_string())?;
        self.0.unwrap(&packet).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Opener for AtHand {
    async fn open(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        self.unwrap(packet)
    }
}
