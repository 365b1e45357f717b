//! Whose signatures count, as people say it.

use std::path::PathBuf;

use appraisal::UnixTime;
use clap::Args;
use reference_statements::{PublicKey, Signer, Signers, TrustRoot};

use crate::failure::{Input, Outcome};

/// Whose signatures count.
#[derive(Args)]
pub struct Known {
    /// A public key whose signatures count, PEM
    #[arg(long = "signer", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// An identity whose Sigstore signatures count, as its certificate has it
    #[arg(long, value_name = "IDENTITY", requires_all = ["issuer", "trusted_root"])]
    identity: Option<String>,
    /// Who vouched for the identity: the OpenID provider's URL
    #[arg(long, value_name = "URL", requires = "identity")]
    issuer: Option<String>,
    /// The Sigstore instance's trusted_root.json
    #[arg(long, value_name = "FILE", requires = "identity")]
    trusted_root: Option<PathBuf>,
}

impl Known {
    /// By names that say where they are from.
    pub(super) fn signers(&self) -> Outcome<Signers> {
        let mut signers = Vec::new();
        for file in &self.keys {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file).malformed(format!("{name} cannot be read"))?;
            let key = PublicKey::from_pem(&text).malformed(format!("{name} is no public key"))?;
            signers.push((name, Signer::Key { key, log: None }));
        }
        if let (Some(identity), Some(issuer), Some(file)) = (&self.identity, &self.issuer, &self.trusted_root)
        {
            let name = file.display().to_string();
            let json = std::fs::read_to_string(file).malformed(format!("{name} cannot be read"))?;
            // Whoever gives the file says with it that it is good now.
            let root = TrustRoot::from_json(&json, UnixTime(i64::MAX));
            let root = root.malformed(format!("{name} cannot be used"))?;
            let signer = Signer::Sigstore { identity: identity.clone(), issuer: issuer.clone(), root };
            signers.push((identity.clone(), signer));
        }
        Ok(signers.into_iter().collect())
    }
}
