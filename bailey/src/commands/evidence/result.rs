//! `bailey evidence result`: reading and checking what a verifier signed.

use std::path::{Path, PathBuf};

use appraisal::UnixTime;
use attestation_result::{InvalidToken, Token, VerifyingKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::Value as Json;

use super::against::{When, read};
use super::ear::nonce;
use crate::commands::print_json;
use crate::failure::{Failure, Input, Outcome};
use crate::key;

/// Look at an attestation result (EAR), or check it.
#[derive(Subcommand)]
pub enum Command {
    /// Print what a result claims, believing nothing
    Show(Show),
    /// Check who signed a result, and when, and that its verdict is no refusal
    Verify(Verify),
}

/// Print what a result claims, believing nothing.
#[derive(Args)]
pub struct Show {
    /// An EAR: JWT or CWT
    file: PathBuf,
    /// For a program
    #[arg(long)]
    json: bool,
}

/// Check a result.
#[derive(Args)]
pub struct Verify {
    /// An EAR: JWT or CWT
    file: PathBuf,
    /// The verifier's public key, PEM or DER
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The nonce that it must carry, hexadecimal
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    #[command(flatten)]
    when: When,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        match self {
            Self::Show(show) => show.run(),
            Self::Verify(verify) => verify.run(),
        }
    }
}

impl Show {
    fn run(self) -> Outcome {
        let claims = token(&self.file)?.unverified_claims();
        let claims = claims.malformed(format!("{} cannot be read", self.file.display()))?;
        if self.json {
            return print_json(&claims);
        }
        crate::say!(
            "{} (read, not verified: `bailey evidence result verify` does that)",
            self.file.display()
        );
        print(&claims);
        Ok(())
    }
}

impl Verify {
    fn run(self) -> Outcome {
        let refused = |error: &dyn std::fmt::Display| {
            Failure::refused(format!("{} is not to be believed: {error}", self.file.display()))
        };
        let key = key::public_key(&self.key)?;
        let key = VerifyingKey::from_spki(key.spki())
            .ok_or_else(|| Failure::malformed(format!("{} is no public key", self.key.display())))?;
        let claims = key.verify(&token(&self.file)?, self.when.now()?).map_err(|error| match error {
            InvalidToken::Malformed(_) => Failure::malformed(format!("{}: {error}", self.file.display())),
            error => refused(&error),
        })?;
        if let Some(digits) = &self.nonce {
            let expected = URL_SAFE_NO_PAD.encode(nonce(digits)?);
            if claims["eat_nonce"].as_str() != Some(expected.as_str()) {
                return Err(refused(&"it does not carry the expected nonce"));
            }
        }
        if self.json {
            print_json(&claims)?;
        } else {
            crate::say!("{}: signed by the holder of {}", self.file.display(), self.key.display());
            print(&claims);
        }
        // Whatever is not said to be good is not.
        match claims["ear_status"].as_str() {
            Some("affirming" | "warning") => Ok(()),
            status => Err(Failure::refused(format!(
                "{}: the verifier says {}",
                self.file.display(),
                status.unwrap_or("nothing")
            ))),
        }
    }
}

fn token(path: &Path) -> Outcome<Token> {
    Token::parse(&read(path)?).malformed(format!("{} cannot be read", path.display()))
}

fn print(claims: &Json) {
    let time = |name: &str| {
        claims[name].as_i64().map_or_else(|| "nothing".to_owned(), |time| UnixTime(time).to_string())
    };
    crate::say!("status    {}", claims["ear_status"].as_str().unwrap_or("none"));
    crate::say!("issued    {}", time("iat"));
    crate::say!("expires   {}", time("exp"));
    let verifier = &claims["ear_verifier_id"];
    let part = |name: &str| verifier[name].as_str().unwrap_or("?").to_owned();
    crate::say!("verifier  {}, {}", part("developer"), part("build"));
    if let Some(nonce) = claims["eat_nonce"].as_str() {
        crate::say!("nonce     {nonce}");
    }
    for (label, submodule) in claims["submods"].as_object().into_iter().flatten() {
        crate::say!("{label}: {}", submodule["ear_status"].as_str().unwrap_or("none"));
        for (aspect, value) in submodule["ear_trustworthiness_vector"].as_object().into_iter().flatten() {
            crate::say!("  {aspect} {value}");
        }
        let verifier = &submodule["ear_verifier_claims"];
        if let Some(status) = verifier["tcb"]["status"].as_str() {
            crate::say!("  TCB {status}");
        }
        for list in ["reasons", "warnings"] {
            let codes: Vec<_> =
                verifier[list].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            if !codes.is_empty() {
                crate::say!("  {list} {}", codes.join(", "));
            }
        }
    }
}
