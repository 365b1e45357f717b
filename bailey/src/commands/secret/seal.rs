//! `bailey secret seal`: sealed secrets of Confidential Containers, which lie about openly, and open only in a guest that
//! was attested. `bailey-guest unseal` and `run` open them, and so does CoCo's Confidential Data Hub.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rcar::ResourceUri;
use sealed_secret::{KeyId, SigningKey};
use zeroize::Zeroizing;

use crate::{
    commands::verify::read,
    failure::{Failure, Input, Outcome},
    identity, key,
};

/// The length of a key-encrypting key, in bytes.
const KEK: usize = 32;

/// Seal a secret for guests that were attested.
#[derive(Subcommand)]
pub enum Seal {
    /// Seal the name of a resource, which is the secret
    Vault(Vault),
    /// Seal a secret itself, under a key that is a resource
    Envelope(Envelope),
}

/// Prints the sealed secret.
#[derive(Args)]
pub struct Vault {
    /// The resource: kbs:///REPOSITORY/TYPE/TAG
    #[arg(long, value_name = "RESOURCE")]
    resource: ResourceUri,
    #[command(flatten)]
    signer: Signer,
}

/// Prints the sealed secret.
#[derive(Args)]
pub struct Envelope {
    /// The file that holds the secret
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The key, a resource of 32 bytes: kbs:///REPOSITORY/TYPE/TAG
    #[arg(long, value_name = "RESOURCE")]
    key_resource: ResourceUri,
    /// The file that holds this key
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    #[command(flatten)]
    signer: Signer,
}

#[derive(Args)]
struct Signer {
    /// The key that signs (P-256, PKCS #8, PEM); where there is no file, one is made, and its public half beside it
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Where guests find its public half: a resource kbs:///…, or the name of a file in their folder of keys
    #[arg(long, value_name = "RESOURCE|NAME")]
    kid: KeyId,
    /// Write this public half as a JWK here, to be made that resource or file
    #[arg(long, value_name = "FILE")]
    jwk: Option<PathBuf>,
}

impl Seal {
    pub(super) fn run(self) -> Outcome {
        let text = match self {
            Self::Vault(vault) => {
                let key = vault.signer.key()?;
                sealed_secret::vault(&vault.resource, &vault.signer.kid, &key)
            }
            Self::Envelope(envelope) => {
                let kek = kek(&envelope.key_file)?;
                let secret = Zeroizing::new(read(&envelope.file)?);
                let key = envelope.signer.key()?;
                sealed_secret::envelope(&secret, &envelope.key_resource, &kek, &envelope.signer.kid, &key)
            }
        };
        crate::say!("{}", text.malformed("the secret cannot be sealed")?);
        Ok(())
    }
}

impl Signer {
    fn key(&self) -> Outcome<SigningKey> {
        let file = key::signing_key(&self.signing_key)?;
        if let Some(public) = &file.made {
            eprintln!(
                "made a key: {}, and its public half: {}",
                self.signing_key.display(),
                public.display()
            );
        }
        let what = format!("{} is no key that seals", self.signing_key.display());
        let key = SigningKey::from_pkcs8(&file.pkcs8).malformed(what)?;
        if let Some(path) = &self.jwk {
            let jwk = key.verifying_key().to_jwk();
            // There already, where this is not the first secret of the key.
            if !std::fs::read(path).is_ok_and(|seen| seen == jwk.as_bytes()) {
                identity::write(path, 0o644, &jwk)?;
            }
        }
        Ok(key)
    }
}

fn kek(path: &Path) -> Outcome<Zeroizing<[u8; KEK]>> {
    let bytes = Zeroizing::new(read(path)?);
    let key = <[u8; KEK]>::try_from(bytes.as_slice()).map_err(|_| {
        Failure::malformed(format!("{} has {} bytes, and a key has {KEK}", path.display(), bytes.len()))
            .hint(format!("make one: head -c {KEK} /dev/urandom > FILE"))
    })?;
    Ok(Zeroizing::new(key))
}
