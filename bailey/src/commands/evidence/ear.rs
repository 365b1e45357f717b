//! The verdict as a signed EAT Attestation Result, for relying parties that believe a verifier's key.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use appraisal::{Examined, Policy, UnixTime};
use attestation_result::{Ear, Issue, SigningKey};
use aws_lc_rs::digest::{SHA256, digest};
use clap::{Args, ValueEnum};

use crate::failure::{Failure, Input, Outcome};
use crate::key;

/// How an EAR is written.
#[derive(Args)]
pub struct EarOutput {
    /// Write the verdict, accepted or refused, as a signed EAR; `-` is standard output, and then the verdict for
    /// people goes to standard error
    #[arg(long, value_name = "FILE", requires = "ear_key")]
    ear: Option<PathBuf>,
    /// The private key to sign it with, PEM; made, with its public key in FILE.pub, when there is none
    #[arg(long, value_name = "FILE", requires = "ear")]
    ear_key: Option<PathBuf>,
    /// JSON or CBOR
    #[arg(long, value_enum, default_value_t = Format::Jwt, requires = "ear")]
    ear_format: Format,
    /// The relying party's nonce, hexadecimal, 8 to 64 bytes
    #[arg(long, value_name = "HEX", requires = "ear")]
    ear_nonce: Option<String>,
    /// For how many seconds after the time of the appraisal it is to be believed
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "ear",
          value_parser = clap::value_parser!(u32).range(1..))]
    ear_seconds: u32,
}

/// The two forms of a token.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Jwt,
    Cwt,
}

impl EarOutput {
    /// Whether the token goes to standard output.
    pub fn takes_standard_output(&self) -> bool {
        self.ear.as_deref() == Some(Path::new("-"))
    }

    /// Writes the token, when one is wanted.
    pub fn write(&self, examined: &Examined, evidence: &[u8], policy: &Policy, now: UnixTime) -> Outcome {
        let (Some(path), Some(key_path)) = (&self.ear, &self.ear_key) else { return Ok(()) };
        let issue = Issue {
            developer: "Bailey".into(),
            build: concat!("bailey ", env!("CARGO_PKG_VERSION")).into(),
            issued: now,
            expires: UnixTime(now.0.saturating_add(i64::from(self.ear_seconds))),
            nonce: self.ear_nonce.as_deref().map(nonce).transpose()?,
            evidence_digest: sha256(evidence),
            policy_digest: sha256(&serde_json::to_vec(policy).context("the policy cannot be written")?),
        };
        let file = key::signing_key(key_path)?;
        let key = SigningKey::from_pkcs8(&file.pkcs8)
            .malformed(format!("{} cannot sign results", key_path.display()))?;
        if let Some(public) = file.made {
            eprintln!("made the key {}, and {} for relying parties", key_path.display(), public.display());
        }
        let ear = Ear::new(examined, issue);
        let token = match self.ear_format {
            Format::Jwt => ear.to_jwt(&key).map(|text| format!("{text}\n").into_bytes()),
            Format::Cwt => ear.to_cwt(&key),
        };
        let token = token.context("the result cannot be signed")?;
        if self.takes_standard_output() {
            let mut out = std::io::stdout().lock();
            return Ok(out
                .write_all(&token)
                .and_then(|()| out.flush())
                .context("nobody takes the result")?);
        }
        Ok(std::fs::write(path, token).with_context(|| format!("{} cannot be written", path.display()))?)
    }
}

/// A relying party's nonce, from hexadecimal digits.
pub fn nonce(digits: &str) -> Outcome<Vec<u8>> {
    let bytes = hex::decode(digits).malformed("a nonce is pairs of hexadecimal digits")?;
    match bytes.len() {
        8..=64 => Ok(bytes),
        length => Err(Failure::malformed(format!("the nonce has {length} bytes; 8 to 64 are allowed"))),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest(&SHA256, bytes).as_ref());
    output
}
