//! `bailey database verify`: is this database the code that I expect, on hardware that I accept, under the manifest that
//! I agreed to?

use std::path::{Path, PathBuf};

use appraisal::Policy;
use attested_tls::{
    claims::{DatabaseAnchor, DatabaseClaims, DatabaseMode},
    clock,
};
use clap::Args;
use serde_json::json;

use crate::{
    client::{Endpoint, VerifyError},
    commands::{
        colour,
        evidence::emulated_root,
        print_json,
        remote::endpoint,
        verify::{read, sha256},
    },
    database::{Held, Requirements, Verified, verify},
    failure::{Failure, Input, Kind, Outcome},
    output::public_file,
    reference::Corims,
};

/// Appraise a database, pin its root, and say how to connect to it.
#[derive(Args)]
pub struct Verify {
    /// Its API, such as https://localhost:4434
    url: String,
    #[command(flatten)]
    required: Required,
    /// Require this manifest to be in force, and no successor of the first one
    #[arg(long, value_name = "FILE")]
    in_force: Option<PathBuf>,
    /// Write the database's root certificate here, for SQL clients
    #[arg(long, value_name = "FILE")]
    pin: Option<PathBuf>,
    /// Where SQL clients connect, HOST:PORT: a hint that decides nothing
    #[arg(long, value_name = "HOST:PORT")]
    sql: Option<String>,
    /// For a program
    #[arg(long)]
    json: bool,
}

/// What a database must be, whatever happened since it began.
#[derive(Args)]
pub struct Required {
    /// Reference values of its code, as `bailey measure` prints them
    #[arg(long, value_name = "FILE")]
    reference: PathBuf,
    #[command(flatten)]
    corims: Corims,
    /// The first manifest, exact bytes: the database must have begun with it
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The appraisal policy, JSON; without one, the strict policy for production
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Accept the emulated platform whose trust root this is (PEM or DER)
    #[arg(long, value_name = "FILE")]
    emulated_root: Vec<PathBuf>,
    /// The root certificate of the mesh that it is a Marble of, as `bailey verify --pin` wrote it; without one, it must
    /// be a Marble of none
    #[arg(long, value_name = "FILE")]
    mesh_root: Option<PathBuf>,
    /// Keep the newest state that was seen in this file, and refuse an older one
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
}

impl Required {
    fn requirements(&self, in_force: Option<&Path>) -> Outcome<Requirements> {
        let policy = match &self.policy {
            Some(path) => serde_json::from_slice(&read(path)?)
                .malformed(format!("{} is no appraisal policy", path.display()))?,
            None => Policy::production(),
        };
        let roots = self.emulated_root.iter().map(|path| emulated_root(path)).collect::<Outcome<Vec<_>>>()?;
        Ok(Requirements {
            policy: policy.trust_emulated(roots),
            measurements: self.corims.load(&self.reference, clock::system()())?,
            first: Some(sha256(&read(&self.manifest)?)),
            manifest: in_force.map(read).transpose()?.map(|bytes| sha256(&bytes)),
            mesh: self.mesh_root.as_deref().map(root_digest).transpose()?,
        })
    }

    /// Appraises the database at `url`.
    pub async fn appraised(&self, url: &str) -> Outcome<Verified> {
        let (required, endpoint) = (self.requirements(None)?, endpoint(url)?);
        let verified = verify(&endpoint, &required, &clock::system()).await.map_err(failure)?;
        self.meet(&verified.claims, &endpoint).await?;
        Ok(verified)
    }

    async fn meet(&self, claims: &DatabaseClaims, endpoint: &Endpoint) -> Outcome {
        match &self.head {
            Some(file) => Held::meet(file, claims, endpoint, &clock::system()).await,
            None => Ok(()),
        }
    }
}

impl Verify {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let endpoint = endpoint(&self.url)?;
        let required = self.required.requirements(self.in_force.as_deref())?;
        match verify(&endpoint, &required, &clock::system()).await {
            Ok(verified) => {
                self.required.meet(&verified.claims, &endpoint).await?;
                self.accepted(&verified)
            }
            Err(VerifyError::Refused(refused)) => {
                if self.json {
                    print_json(&json!({ "verdict": refused.verdict() }))?;
                } else {
                    crate::output::write(format_args!("{}", refused.verdict().render(colour())));
                }
                let codes: Vec<_> = refused.codes().iter().map(ToString::to_string).collect();
                Err(Failure::refused(format!("the database is refused: {}", codes.join(", "))))
            }
            Err(error) => Err(failure(error)),
        }
    }

    fn accepted(&self, verified: &Verified) -> Outcome {
        let claims = &verified.claims;
        if let Some(path) = &self.pin {
            let pem = evidence::pem::encode(&evidence::CertificateDer(claims.root.to_vec()));
            public_file(path, pem.as_bytes())?;
        }
        let connect = self.connection(claims);
        if self.json {
            let mut text = json!({ "verdict": verified.verdict, "database": to_json(claims) });
            text["connect"] = json!(connect);
            return print_json(&text);
        }
        crate::output::write(format_args!("{}{}", verified.verdict.render(colour()), covered(claims)));
        if let Some(path) = &self.pin {
            crate::say!("root pinned in {}", path.display());
        }
        match connect {
            Some(connect) => {
                crate::say!("\nconnect with your own certificate and key:\n  psql \"{connect}\"")
            }
            None if claims.state.is_none() => {
                crate::say!("\nit waits for recovery: `bailey database recover`");
            }
            None => crate::say!("\nwith --pin FILE and --sql HOST:PORT this prints how to connect"),
        }
        Ok(())
    }

    /// As libpq takes it (PostgreSQL manual, §34.1.1).
    fn connection(&self, claims: &DatabaseClaims) -> Option<String> {
        let (state, pin) = (claims.state.as_ref()?, self.pin.as_ref()?);
        let (host, port) = self.sql.as_ref()?.rsplit_once(':')?;
        Some(connection(host, port, &state.name, pin))
    }
}

/// A connection string of libpq, for a client that adds its certificate and key.
pub fn connection(host: &str, port: &str, name: &str, root: &Path) -> String {
    format!(
        "host={host} port={port} dbname={name} sslmode=verify-full sslrootcert={} sslcert=YOURS.pem sslkey=YOURS.key",
        root.display()
    )
}

/// SHA-256 of a mesh's root certificate.
fn root_digest(path: &Path) -> Outcome<[u8; 32]> {
    match evidence::pem::certificates(&read(path)?).as_deref() {
        Ok([root]) => Ok(sha256(&root.0)),
        _ => Err(Failure::malformed(format!("{} is not one certificate in PEM", path.display()))),
    }
}

fn failure(error: VerifyError) -> Failure {
    match error {
        VerifyError::Malformed(error) => Failure {
            kind: Kind::Malformed,
            error: error.context("the database's Evidence is malformed"),
            hint: None,
        },
        other => Failure { kind: Kind::Refused, error: other.into(), hint: None },
    }
}

fn facts(claims: &DatabaseClaims) -> Vec<(&'static str, String)> {
    let mode = match claims.mode {
        DatabaseMode::Recovering => "waits for recovery",
        DatabaseMode::Running => "serves",
        DatabaseMode::Replica => "serves readers, from another one's log",
    };
    let anchor = match &claims.anchor {
        DatabaseAnchor::Receipts => "none but the heads that its clients hold (--head)".to_owned(),
        DatabaseAnchor::TpmNv { key } => format!(
            "a TPM's non-volatile memory{}",
            key.as_ref().map(|key| format!(", key {}", hex::encode(key.as_slice()))).unwrap_or_default()
        ),
        DatabaseAnchor::Coordinator { root } => {
            format!("the coordinator of the mesh with the root {}", hex::encode(root.as_slice()))
        }
    };
    let mut facts = vec![
        ("root", hex::encode(sha256(&claims.root))),
        ("first", hex::encode(claims.first.as_slice())),
        ("mode", mode.to_owned()),
    ];
    if let Some(state) = &claims.state {
        facts.push(("database", state.name.clone()));
        facts.push(("manifest", hex::encode(state.manifest.as_slice())));
        facts.push(("epoch", state.epoch.to_string()));
        facts.push((
            "log",
            format!("{} records, {}", state.log_sequence, hex::encode(state.log_head.as_slice())),
        ));
    }
    facts.push(("engine", format!("{}, {}", claims.engine, hex::encode(claims.engine_digest.as_slice()))));
    facts.push(("anchor", anchor));
    facts
}

/// What the Evidence covers, as a person reads it.
pub fn covered(claims: &DatabaseClaims) -> String {
    let mut said = "the Evidence covers, beside the key of this connection:\n".to_owned();
    for (name, value) in facts(claims) {
        said.push_str(&format!("  {name:<12} {value}\n"));
    }
    said
}

/// The same for a program.
pub fn to_json(claims: &DatabaseClaims) -> serde_json::Value {
    json!({
        "root_sha256": hex::encode(sha256(&claims.root)),
        "first_manifest_sha256": hex::encode(claims.first.as_slice()),
        "mode": claims.mode,
        "state": claims.state.as_ref().map(|state| json!({
            "name": state.name, "manifest_sha256": hex::encode(state.manifest.as_slice()), "epoch": state.epoch,
            "log_records": state.log_sequence, "log_head": hex::encode(state.log_head.as_slice()),
        })),
        "engine": claims.engine,
        "engine_sha256": hex::encode(claims.engine_digest.as_slice()),
        "anchor": claims.anchor,
    })
}
