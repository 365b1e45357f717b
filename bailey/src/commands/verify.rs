//! `bailey verify`: is this coordinator the code that I expect, on hardware that I accept, with the manifest
//! that I know?

use std::path::{Path, PathBuf};

use appraisal::{Policy, cluster};
use attested_tls::{claims::CoordinatorClaims, clock};
use aws_lc_rs::digest::{SHA256, digest};
use clap::Args;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use crate::{
    client::{Client, Endpoint, Requirements, Verified, VerifyError, verify, verify_with},
    commands::{
        colour,
        evidence::{Nonce, emulated_root, nonce},
        print_json,
        remote::endpoint,
    },
    failure::{Failure, Input, Kind, Outcome},
    heads::{Heads, Held, RequiredAnchor},
    reference::Corims,
};

/// Appraise a coordinator and pin its root.
#[derive(Args)]
pub struct Verify {
    /// The coordinator, such as https://localhost:4433
    url: String,
    #[command(flatten)]
    required: Required,
    /// Require this manifest to be in force
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Write the coordinator's root certificate here, for later commands
    #[arg(long, value_name = "FILE")]
    pin: Option<PathBuf>,
    /// Require that something outside its host would notice an old copy of its state: any, tpm-nv, tpm-nv:KEY, etcd,
    /// peers or clients
    #[arg(long, value_name = "KIND")]
    require_anchor: Vec<RequiredAnchor>,
    /// Write what it proved here, for others to appraise: by `bailey evidence verify`, or on the page in docs/verify
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Ask with this nonce, 64 hex digits, which somebody made who will look at what is saved
    #[arg(long, value_name = "HEX", requires = "save", value_parser = nonce)]
    nonce: Option<Nonce>,
    /// For a program
    #[arg(long)]
    json: bool,
}

/// What a coordinator must be, whatever its manifest.
#[derive(Args)]
pub struct Required {
    /// Reference values of its code, as `bailey measure` prints them
    #[arg(long, value_name = "FILE")]
    reference: PathBuf,
    #[command(flatten)]
    corims: Corims,
    /// The appraisal policy, JSON; without one, the strict policy for production
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Accept the emulated platform whose trust root this is (PEM or DER)
    #[arg(long, value_name = "FILE")]
    emulated_root: Vec<PathBuf>,
    #[command(flatten)]
    heads: Heads,
}

impl Required {
    /// With the manifest that must be in force, by its digest.
    pub fn requirements(&self, manifest: Option<[u8; 32]>) -> Outcome<Requirements> {
        let policy = match &self.policy {
            Some(path) => read(path).and_then(|bytes| {
                serde_json::from_slice(&bytes).malformed(format!("{} is no appraisal policy", path.display()))
            })?,
            None => Policy::production(),
        };
        let roots = self.emulated_root.iter().map(|path| emulated_root(path)).collect::<Outcome<Vec<_>>>()?;
        Ok(Requirements {
            policy: policy.trust_emulated(roots),
            measurements: self.corims.load(&self.reference, clock::system()())?,
            manifest,
        })
    }

    /// Whether a coordinator that was appraised shows the newest state that anyone here saw of it.
    async fn meet(&self, endpoint: &Endpoint, verified: &Verified) -> Outcome {
        let clock = clock::system();
        let Some(seen) = Held::of(&verified.claims, &clock) else { return Ok(()) };
        let root = CertificateDer::from(verified.claims.root.to_vec());
        let client = Client::new(endpoint.clone(), &root, None, &clock)?;
        self.heads.meet(&client, &root, &seen).await
    }

    /// Appraises the coordinator at `url`; a refusal names what was found.
    pub async fn appraised(&self, url: &str, manifest: Option<[u8; 32]>) -> Outcome<Verified> {
        let (required, endpoint) = (self.requirements(manifest)?, endpoint(url)?);
        let verified = verify(&endpoint, &required, &clock::system()).await.map_err(|error| match error {
            VerifyError::Malformed(error) => malformed(error),
            other => Failure { kind: Kind::Refused, error: other.into(), hint: None },
        })?;
        self.meet(&endpoint, &verified).await?;
        Ok(verified)
    }
}

impl Verify {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let endpoint = endpoint(&self.url)?;
        let manifest = self.manifest.as_deref().map(read).transpose()?.map(|bytes| sha256(&bytes));
        let required = self.required.requirements(manifest)?;
        let clock = clock::system();
        let answer = match &self.nonce {
            Some(Nonce(nonce)) => verify_with(&endpoint, &required, **nonce, &clock).await,
            None => verify(&endpoint, &required, &clock).await,
        };
        match answer {
            Ok(verified) => {
                self.require_anchor.iter().try_for_each(|anchor| anchor.check(&verified.claims))?;
                self.required.meet(&endpoint, &verified).await?;
                self.accepted(&verified)
            }
            Err(error) => self.refused(error),
        }
    }

    fn accepted(&self, verified: &Verified) -> Outcome {
        if let Some(path) = &self.pin {
            let pem = evidence::pem::encode(&evidence::CertificateDer(verified.claims.root.to_vec()));
            std::fs::write(path, pem).map_err(|error| {
                Failure::refused(format!("{} cannot be written: {error}", path.display()))
            })?;
        }
        if let Some(path) = &self.save {
            std::fs::write(path, verified.file.to_json()).map_err(|error| {
                Failure::refused(format!("{} cannot be written: {error}", path.display()))
            })?;
        }
        if self.json {
            return print_json(
                &json!({ "verdict": verified.verdict, "coordinator": claims_json(&verified.claims) }),
            );
        }
        crate::output::write(format_args!("{}{}", verified.verdict.render(colour()), covered(verified)));
        if let Some(path) = &self.pin {
            crate::say!("root pinned in {}", path.display());
        }
        Ok(())
    }

    fn refused(&self, error: VerifyError) -> Outcome {
        match error {
            VerifyError::Refused(refused) => {
                if self.json {
                    print_json(&json!({ "verdict": refused.verdict() }))?;
                } else {
                    crate::output::write(format_args!("{}", refused.verdict().render(colour())));
                }
                let codes: Vec<_> = refused.codes().iter().map(ToString::to_string).collect();
                Err(Failure::refused(format!("the coordinator is refused: {}", codes.join(", "))))
            }
            VerifyError::Malformed(error) => Err(malformed(error)),
            other => Err(Failure { kind: Kind::Refused, error: other.into(), hint: None }),
        }
    }
}

fn malformed(error: anyhow::Error) -> Failure {
    let error = error.context("the coordinator's Evidence is malformed");
    Failure { kind: Kind::Malformed, error, hint: None }
}

/// What the Evidence covers, as a person reads it.
pub fn covered(verified: &Verified) -> String {
    let mut facts = cluster::facts(&verified.claims, &crypto_aws_lc::AwsLc);
    facts.push(("nonce", hex::encode(verified.file.nonce)));
    let mut said = "the Evidence covers, beside the key of this connection:\n".to_owned();
    for (name, value) in facts {
        said.push_str(&format!("  {name:<12} {value}\n"));
    }
    said
}

fn claims_json(claims: &CoordinatorClaims) -> serde_json::Value {
    json!({
        "root_sha256": hex::encode(sha256(&claims.root)),
        "owner": hex::encode(claims.owner.as_slice()),
        "mode": claims.mode,
        "epoch": claims.epoch,
        "manifest_sha256": claims.manifest.as_ref().map(|digest| hex::encode(digest.as_slice())),
        "log_head": hex::encode(claims.log_head.as_slice()),
        "log_length": claims.log_length,
        "transparency": claims.transparency.as_ref().map(|head| json!({
            "size": head.size, "root": hex::encode(head.root.as_slice()), "key": hex::encode(head.key.as_slice()),
        })),
        "anchors": claims.anchors.iter().map(|anchor| json!({
            "kind": anchor.kind, "key": anchor.key.as_ref().map(|key| hex::encode(key.as_slice())),
        })).collect::<Vec<_>>(),
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub(super) fn read(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path).malformed(format!("{} cannot be read", path.display()))
}
