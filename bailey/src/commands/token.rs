//! `bailey token`: attestation tokens that a mesh's broker gives its guests, for who is shown one.

use std::path::{Path, PathBuf};

use appraisal::UnixTime;
use attestation_result::{
    Tier,
    coco::{Emulation, InvalidTrust, Untrusted, Verified, Verifier},
};
use clap::{Args, Subcommand};
use evidence::pem;
use serde_json::{Value as Json, json};

use super::evidence::{When, read};
use crate::{
    commands::print_json,
    failure::{Failure, Input, Outcome},
};

/// Attestation tokens, for who is shown one.
#[derive(Subcommand)]
pub enum Command {
    /// Check a guest's token by the mesh's root certificate or its published keys, and print what it says
    Verify(Verify),
}

/// Check a guest's token, and print what it says.
#[derive(Args)]
pub struct Verify {
    /// The token, as it is or as the broker and CoCo's attestation agent write it: {"token": "…"}
    file: PathBuf,
    #[command(flatten)]
    trusted: Trusted,
    /// Whose tokens the keys of --jwks sign, such as urn:bailey:mesh:…
    #[arg(long, value_name = "ISSUER", requires = "jwks")]
    issuer: Option<String>,
    /// For whom it must be: what you are called in the manifest's `Broker.Tokens.Audiences`
    #[arg(long, value_name = "AUDIENCE")]
    audience: String,
    /// Believe it also if it is about an emulated TEE
    #[arg(long)]
    emulated: bool,
    #[command(flatten)]
    when: When,
    /// For a program
    #[arg(long)]
    json: bool,
}

/// By what.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Trusted {
    /// The mesh's root certificate (PEM or DER), from `bailey certificate root`
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The mesh's keys, pinned, from https://BROKER/.well-known/jwks.json
    #[arg(long, value_name = "FILE", requires = "issuer")]
    jwks: Option<PathBuf>,
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        match self {
            Self::Verify(verify) => verify.run(),
        }
    }
}

impl Verify {
    fn run(self) -> Outcome {
        let token = token(&self.file)?;
        let emulation = if self.emulated { Emulation::Accepted } else { Emulation::Refused };
        let verifier = self.verifier()?.emulation(emulation);
        let verified = verifier.verify(&token, self.when.now()?).map_err(|why| self.refused(&why))?;
        if self.json {
            return print_json(&as_json(&verified));
        }
        crate::say!("{}: issued by {}", self.file.display(), verifier.issuer());
        print(&verified);
        Ok(())
    }

    fn verifier(&self) -> Outcome<Verifier> {
        let invalid = |path: &Path, fault: InvalidTrust| {
            Failure::malformed(format!("{} cannot be trusted: {fault}", path.display()))
        };
        match (&self.trusted.root, &self.trusted.jwks, &self.issuer) {
            (Some(path), ..) => {
                let certificates = pem::certificates(&read(path)?);
                let certificates = certificates.malformed(format!("{} cannot be read", path.display()))?;
                let [root] = certificates.as_slice() else {
                    return Err(Failure::malformed(format!("{} is not one certificate", path.display()))
                        .hint("the mesh's root alone is needed: `bailey certificate root`"));
                };
                Verifier::with_root(root.0.clone(), &self.audience).map_err(|fault| invalid(path, fault))
            }
            (None, Some(path), Some(issuer)) => {
                let jwks = read(path)?;
                Verifier::with_jwks(&jwks, issuer, &self.audience).map_err(|fault| invalid(path, fault))
            }
            // The command line demands one of them.
            _ => Err(Failure::malformed("neither a root nor keys to verify by")),
        }
    }

    fn refused(&self, why: &Untrusted) -> Failure {
        let sentence = format!("{} is not to be believed: {why} ({})", self.file.display(), why.code());
        match why {
            Untrusted::Malformed(_) | Untrusted::TooLong { .. } => Failure::malformed(sentence),
            Untrusted::Emulated => {
                Failure::refused(sentence).hint("anyone can make one. To believe it all the same: --emulated")
            }
            Untrusted::Expired { .. } => {
                Failure::refused(sentence).hint("the guest gets another by attesting again")
            }
            Untrusted::Audience { .. } => {
                Failure::refused(sentence).hint("the manifest names audiences in Broker.Tokens.Audiences")
            }
            Untrusted::Chain(_) | Untrusted::Issuer { .. } => Failure::refused(sentence).hint(
                "a mesh that was recovered has another root: `bailey certificate root` appraises it anew",
            ),
            Untrusted::Key => Failure::refused(sentence)
                .hint("keys change with each manifest: fetch /.well-known/jwks.json anew, or use --root"),
            _ => Failure::refused(sentence),
        }
    }
}

fn token(path: &Path) -> Outcome<String> {
    let no_token = || Failure::malformed(format!("{} holds no token", path.display()));
    let text = String::from_utf8(read(path)?).map_err(|_| no_token())?;
    if !text.trim_start().starts_with('{') {
        return Ok(text.trim().to_owned());
    }
    let answer: Json = serde_json::from_str(&text).malformed(format!("{} cannot be read", path.display()))?;
    answer["token"].as_str().map(str::to_owned).ok_or_else(no_token)
}

fn as_json(verified: &Verified) -> Json {
    let (issue, mesh) = (verified.issue(), verified.mesh());
    json!({
        "issuer": issue.issuer,
        "audiences": issue.audiences,
        "subject": issue.subject,
        "packages": mesh.packages,
        "tee": issue.about.tee,
        "platform": issue.about.platform,
        "emulated": mesh.emulated,
        "status": verified.status(),
        "init_data": issue.about.init_data,
        "manifest": mesh.manifest,
        "epoch": mesh.epoch,
        "attested": issue.about.attested,
        "issued": issue.issued,
        "expires": issue.expires,
        "key": verified.key(),
        "claims": verified.claims(),
    })
}

fn print(verified: &Verified) {
    let (issue, mesh) = (verified.issue(), verified.mesh());
    let about = &issue.about;
    let packages = if mesh.packages.is_empty() { "none".to_owned() } else { mesh.packages.join(", ") };
    let place = about.platform.map_or_else(|| about.tee.clone(), |platform| platform.to_string());
    let real = if mesh.emulated { ", emulated: it proves nothing" } else { "" };
    let status = match verified.status() {
        Tier::Affirming => "affirming",
        Tier::Warning => "warning",
        Tier::None | Tier::Contraindicated => "none",
    };
    crate::say!("packages   {packages}");
    crate::say!("platform   {place}{real}");
    crate::say!("status     {status}");
    if let Some(init_data) = &about.init_data {
        crate::say!("init-data  {init_data}");
    }
    crate::say!("manifest   sha256:{}, epoch {}", mesh.manifest, mesh.epoch);
    crate::say!("who        {}", issue.subject);
    crate::say!("key        {}", Json::Object(verified.key().clone()));
    crate::say!("for        {}", issue.audiences.join(", "));
    crate::say!("attested   {}", about.attested);
    let seconds = |time: UnixTime| time.0;
    let lifetime = seconds(issue.expires) - seconds(issue.issued);
    crate::say!("until      {} ({lifetime} seconds after it was issued)", issue.expires);
}
