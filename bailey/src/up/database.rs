//! A database on this machine: a folder says which parties there are, their CAs and certificates are made here, and the
//! database is launched on the emulated platform and verified.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use attested_tls::{clock, launch::DatabaseConfiguration};
use aws_lc_rs::digest::{SHA256, digest};
use evidence::Platform;
use host::Restart;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde::Deserialize;
use time::Duration;

use super::{
    Facts, Log, Machine, Observer, Programs, free_address,
    ledger::{Ledger, MeshPlan},
};
use crate::{
    authority::Authority,
    client::Endpoint,
    commands::measure::reference_values,
    database::{Requirements, Verified, verify},
    failure::{Failure, Input, Outcome},
    identity,
};

/// The name of the file in a database's folder.
pub const FILE: &str = "database.toml";
/// How long the certificates last that are made for people here.
const LIFETIME: Duration = Duration::days(365);
const PROCESS: &str = "database";
const PROGRAMS: &[&str] = &["bailey", "bailey-emulator", "bailey-database"];
const WITH_MESH: &[&str] = &["bailey", "bailey-emulator", "bailey-database", "bailey-coordinator"];

/// What a folder says, with paths resolved. Nobody trusts it: the manifest decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabasePlan {
    /// The manifest's template: `${anchor.PARTY}` stands for the certificate of a party's CA, `${holder.NAME}` for the
    /// public key of a holder of a recovery share, both PEM.
    manifest: PathBuf,
    /// As what kind of TEE.
    platform: Platform,
    /// Names in its certificate; measured.
    names: Vec<String>,
    /// Where SQL clients connect; any free port if missing.
    sql: Option<SocketAddr>,
    /// Where the API is; any free port if missing.
    api: Option<SocketAddr>,
    /// People and devices of each party, whose certificates are made here.
    parties: BTreeMap<String, Vec<String>>,
    /// Holders of recovery shares, whose keys are made here.
    #[serde(default)]
    holders: Vec<String>,
    /// The mesh that it is a Marble of; of none if missing.
    mesh: Option<MeshPlan>,
}

impl DatabasePlan {
    /// Reads `database.toml` in a folder.
    pub fn load(folder: &Path) -> Outcome<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path)
            .malformed(format!("{} cannot be read", path.display()))
            .map_err(|failure| failure.hint("examples/database/banks has one"))?;
        let mut plan: Self = toml::from_str(&text).malformed(format!("{} is malformed", path.display()))?;
        let mut names = plan.parties.keys().chain(plan.parties.values().flatten()).chain(&plan.holders);
        if let Some(name) = names.find(|name| !is_file_name(name)) {
            return Err(Failure::malformed(format!("{}: {name:?} is no name of a file", path.display())));
        }
        plan.manifest = folder.join(&plan.manifest);
        if let Some(mesh) = &mut plan.mesh {
            mesh.manifest = folder.join(&mesh.manifest);
        }
        Ok(plan)
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name != "ca"
        && name.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | '-'))
}

/// A database that runs, and was verified.
pub struct RunningDatabase {
    /// Platform and host agent.
    pub machine: Machine,
    /// What it proved.
    pub verified: Verified,
    /// Where its API is.
    pub api: Endpoint,
    /// Where SQL clients connect.
    pub sql: SocketAddr,
    /// Its measured launch configuration. Other instances of the same database have the same.
    pub configuration: Vec<u8>,
    /// Where the coordinator of its mesh is, if it is a Marble.
    pub coordinator: Option<String>,
}

impl RunningDatabase {
    /// Starts it below `folder`, where an earlier start may have left its state, and tells each step.
    pub async fn start(
        plan: &DatabasePlan,
        folder: &Path,
        programs: Programs,
        observer: &mut dyn Observer,
    ) -> Outcome<Self> {
        let facts = people(plan, folder)?;
        let manifest = folder.join("manifest.yaml");
        if !manifest.exists() {
            let template = fs::read_to_string(&plan.manifest)
                .malformed(format!("{} cannot be read", plan.manifest.display()))?;
            fs::write(&manifest, facts.fill(&template)?).context("the manifest cannot be written")?;
        }
        let text = fs::read(&manifest).context("the manifest cannot be read")?;
        let mut first = [0; 32];
        first.copy_from_slice(digest(&SHA256, &text).as_ref());
        let digest = hex::encode(first);
        observer.done(
            "parties",
            &format!("{} with CAs of their own; manifest {}…", plan.parties.len(), &digest[..12]),
        );

        observer.begins("platform");
        let machine =
            Machine::start_with(folder, programs, plan.mesh.as_ref().map_or(PROGRAMS, |_| WITH_MESH))?;
        observer.done("platform", "an emulated TEE platform with its own roots, and an untrusted host agent");

        let ledger = match &plan.mesh {
            None => None,
            Some(mesh) => {
                observer.begins("coordinator");
                let ledger = Ledger::start(mesh, &machine, folder, first).await?;
                let told = format!(
                    "verified, with a manifest that has the database as Marble {}: it gives it its key",
                    mesh.marble
                );
                observer.done("coordinator", &told);
                Some(ledger)
            }
        };

        observer.begins("database");
        let marble = ledger.as_ref().map(|ledger| ledger.configuration.clone());
        let configuration =
            DatabaseConfiguration { manifest: first, names: plan.names.clone(), tpm: None, marble }.to_json();
        let program = machine.programs().path("bailey-database")?;
        let sql = plan.sql.map_or_else(free_address, Ok).context("no port could be had")?;
        let api = plan.api.map_or_else(free_address, Ok).context("no port could be had")?;
        let state = folder.join("state");
        fs::create_dir_all(&state).context("the folder for its state cannot be made")?;
        let path = |path: &Path| path.display().to_string();
        let arguments = [
            ["--state".to_owned(), path(&state)],
            ["--manifest".to_owned(), path(&manifest)],
            ["--sql-address".to_owned(), sql.to_string()],
            ["--api-address".to_owned(), api.to_string()],
        ];
        let coordinator = ledger.iter().map(|ledger| ["--coordinator".to_owned(), ledger.address.clone()]);
        let log = Log::of(&machine, PROCESS);
        machine.launch(
            PROCESS,
            plan.platform,
            &program,
            configuration.clone(),
            arguments.into_iter().chain(coordinator).flatten().collect(),
            Restart::Never,
        )?;
        let line = log
            .until(|line| {
                matches!(line["code"].as_str(), Some("SERVING" | "RECOVERY_PENDING"))
                    || line["message"] == "the database ends"
            })
            .await
            .context("the database did not start")?;
        if line["message"] == "the database ends" {
            let reason = line["reason"].as_str().unwrap_or("it gave no reason");
            return Err(Failure::refused(format!("the database did not start: {reason}")));
        }
        let endpoint: Endpoint = format!("https://localhost:{}", api.port()).parse()?;
        let required = Requirements {
            policy: machine.policy()?,
            measurements: machine.programs().measure("bailey-database", Some(&configuration))?,
            first: Some(first),
            manifest: None,
            mesh: ledger.as_ref().map(|ledger| ledger.root),
        };
        let verified = verify(&endpoint, &required, &clock::system())
            .await
            .map_err(|error| Failure::refused(format!("the database is refused: {error}")))?;
        verifying(&machine, folder, &program, &configuration, plan.platform, &verified)?;
        observer.done(
            "database",
            &format!("verified: this program, this manifest, on an emulated {}", plan.platform),
        );
        let coordinator = ledger.map(|ledger| ledger.address);
        Ok(Self { machine, verified, api: endpoint, sql, configuration, coordinator })
    }
}

/// What others need who verify it: reference values, the platform's root, and the root that came of it.
fn verifying(
    machine: &Machine,
    folder: &Path,
    program: &Path,
    configuration: &[u8],
    platform: Platform,
    verified: &Verified,
) -> Result<()> {
    let code = fs::read(program).context("the program cannot be read")?;
    let values = reference_values("bailey-database", &code, Some(configuration));
    fs::write(folder.join("reference.json"), serde_json::to_vec_pretty(&values)?)?;
    fs::write(folder.join("emulated-root.pem"), machine.root_pem(platform)?)?;
    let root = evidence::pem::encode(&evidence::CertificateDer(verified.claims.root.to_vec()));
    fs::write(folder.join("root.pem"), root)?;
    Ok(())
}

/// CAs, certificates and keys, those that are there and those that are not.
fn people(plan: &DatabasePlan, folder: &Path) -> Outcome<Facts> {
    let (mut facts, now) = (Facts::default(), clock::system()());
    for (party, names) in &plan.parties {
        let place = folder.join("parties").join(party);
        let authority = match place.join("ca.pem").exists() {
            true => Authority::load(&place.join("ca.pem"), &place.join("ca.key"))?,
            false => Authority::create(&place, party, now)?,
        };
        for name in names.iter().filter(|name| !place.join(format!("{name}.pem")).exists()) {
            let issued = authority.issue(&format!("{name} of {party}"), LIFETIME, now)?;
            identity::write(&place.join(format!("{name}.key")), 0o600, &issued.key)?;
            identity::write(&place.join(format!("{name}.pem")), 0o644, &issued.certificate)?;
        }
        facts.insert(format!("anchor.{party}"), &authority.pem());
    }
    for name in &plan.holders {
        facts.insert(format!("holder.{name}"), &holder(&folder.join("holders"), name)?);
    }
    Ok(facts)
}

/// The public key of a holder, PEM.
fn holder(folder: &Path, name: &str) -> Result<String> {
    let public = folder.join(format!("{name}.pem"));
    if !public.exists() {
        fs::create_dir_all(folder)?;
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?;
        identity::write(&folder.join(format!("{name}.key")), 0o600, &pair.serialize_pem())?;
        identity::write(&public, 0o644, &pair.public_key_pem())?;
    }
    fs::read_to_string(&public).with_context(|| format!("{} cannot be read", public.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_says_what_cannot_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            fs::write(folder.path().join(FILE), text).unwrap();
            DatabasePlan::load(folder.path())
        };
        let good = "manifest = \"m\"\nplatform = \"snp\"\nnames = [\"localhost\"]\n";
        let plan = load(&format!("{good}[parties]\nbank_a = [\"teller\"]")).unwrap();
        assert_eq!(plan.manifest, folder.path().join("m"));
        for bad in [
            "[parties]\n\"../x\" = []",
            "[parties]\na = [\"ca\"]",
            "[parties]\na = [\"x/y\"]",
            "port = 1\n[parties]",
            "",
        ] {
            assert_eq!(load(&format!("{good}{bad}")).unwrap_err().exit_code(), 2, "{bad}");
        }
        fs::remove_file(folder.path().join(FILE)).unwrap();
        assert_eq!(DatabasePlan::load(folder.path()).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn people_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let plan = DatabasePlan {
            manifest: PathBuf::new(),
            platform: Platform::Snp,
            names: Vec::new(),
            sql: None,
            api: None,
            parties: [("bank_a".to_owned(), vec!["teller".to_owned()])].into(),
            holders: vec!["alice".into()],
            mesh: None,
        };
        let template = "${anchor.bank_a} ${holder.alice}";
        let first = people(&plan, folder.path()).unwrap().fill(template).unwrap();
        assert!(first.contains("BEGIN CERTIFICATE") && first.contains("BEGIN PUBLIC KEY"), "{first}");
        let key = fs::read(folder.path().join("parties/bank_a/teller.key")).unwrap();
        assert_eq!(people(&plan, folder.path()).unwrap().fill(template).unwrap(), first);
        assert_eq!(fs::read(folder.path().join("parties/bank_a/teller.key")).unwrap(), key);
    }
}
