//! A database governed from the command line, as its parties do it: verified, called, changed together, its audit log
//! held against heads that were kept, and opened on another machine by holders of shares.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use bailey::up::{DatabasePlan, RunningDatabase};
use serde_json::Value;

use crate::{
    database_failover::{printed, psql},
    database_marble::{Silent, programs},
    text,
};

/// Whoever types, in the folder of a database that runs.
struct Place<'a> {
    folder: &'a Path,
    api: String,
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Exit code, standard output and error.
    fn typed(&self, who: Option<(&str, &str)>, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bailey"));
        command.current_dir(self.folder).arg("database").args(arguments);
        command.env("BAILEY_DATABASE_API", &self.api).env("PGSSLROOTCERT", self.path("pinned.pem"));
        if let Some((party, name)) = who {
            let of = self.path("parties").join(party);
            command.env("PGSSLCERT", of.join(format!("{name}.pem")));
            command.env("PGSSLKEY", of.join(format!("{name}.key")));
        }
        let output = command.output().expect("bailey runs");
        (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
    }

    fn good(&self, who: Option<(&str, &str)>, arguments: &[&str]) -> String {
        let (code, said, error) = self.typed(who, arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        said
    }

    fn verify(&self, more: &[&str]) -> (i32, String, String) {
        let fixed =
            ["verify", &self.api, "--reference", "reference.json", "--emulated-root", "emulated-root.pem"];
        self.typed(None, &[&fixed[..], &["--manifest", "manifest.yaml"], more].concat())
    }
}

const CLERK: Option<(&str, &str)> = Some(("north", "clerk"));
const OTHER: Option<(&str, &str)> = Some(("south", "clerk"));
const INSPECTOR: Option<(&str, &str)> = Some(("regulator", "inspector"));
const ADA: Option<(&str, &str)> = Some(("analyst", "ada"));

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_governed_from_the_command_line() {
    let Some(programs) = programs() else { return };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/database/banks");
    let plan = DatabasePlan::load(&example).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start =
        async || RunningDatabase::start(&plan, folder.path(), programs.clone(), &mut Silent).await.unwrap();
    let database = start().await;
    let place = Place { folder: folder.path(), api: database.api.to_string() };
    tokio::task::block_in_place(|| governed(&place, &database.sql.to_string()));
    database.machine.shut_down().unwrap();

    // Another machine: what was sealed to this one does not open there, and two of three holders open it.
    std::fs::remove_dir_all(place.path("platform")).unwrap();
    let database = start().await;
    let place = Place { folder: folder.path(), api: database.api.to_string() };
    tokio::task::block_in_place(|| recovered(&place));
    database.machine.shut_down().unwrap();
}

/// Verified, called, changed together, audited.
fn governed(place: &Place<'_>, sql: &str) {
    let (code, said, error) = place.verify(&["--pin", "pinned.pem", "--sql", sql, "--head", "seen.head"]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("sslmode=verify-full sslrootcert=pinned.pem"), "{said}");
    let other = place.path("other.yaml");
    std::fs::write(&other, "Name: other\n").unwrap();
    let fixed =
        ["verify", &place.api, "--reference", "reference.json", "--emulated-root", "emulated-root.pem"];
    let (code, ..) = place.typed(None, &[&fixed[..], &["--manifest", "other.yaml"]].concat());
    assert_eq!(code, 1, "another manifest than the one that it began with");

    let (code, _, error) = place.typed(CLERK, &["call", "volume"]);
    assert_eq!(code, 1, "{error}");
    place.good(ADA, &["call", "volume", "--receipt", "answer.json"]);
    let receipt = ["receipt", "verify", "answer.json", "--root", "pinned.pem", "--manifest", "manifest.yaml"];
    assert!(place.good(None, &receipt).contains("volume()"));

    let manifest = place.good(None, &["manifest"]);
    assert_eq!(manifest.trim_end(), std::fs::read_to_string(place.path("manifest.yaml")).unwrap().trim_end());
    let history = format!("{manifest}\nHistory: 1GiB\n");
    std::fs::write(place.path("next.yaml"), history).unwrap();
    let (code, _, error) = place.typed(ADA, &["propose", "next.yaml"]);
    assert!(code == 1 && error.contains("NOT_AN_APPROVER"), "{error}");
    let proposed: Value =
        serde_json::from_str(&place.good(CLERK, &["propose", "next.yaml", "--json"])).unwrap();
    let digest = proposed["Proposal"].as_str().unwrap();
    assert!(place.good(OTHER, &["proposals", digest]).contains("1024 MiB of the log"));
    place.good(CLERK, &["approve", digest]);
    place.good(OTHER, &["approve", digest]);
    assert!(place.good(None, &["manifest"]).contains("History: 1GiB"));
    let (code, _, error) = place.typed(INSPECTOR, &["reject", digest]);
    assert!(code == 1 && error.contains("PROPOSAL_ACTIVE"), "{error}");

    goes_back(place, sql);

    place.good(INSPECTOR, &["audit", "head", "kept.head"]);
    let (code, _, error) = place.typed(ADA, &["audit", "export", "log.jsonl"]);
    assert_eq!(code, 1, "the manifest names who reads it: {error}");
    place.good(INSPECTOR, &["audit", "export", "log.jsonl"]);
    let shown =
        place.good(None, &["audit", "show", "log.jsonl", "--head", "kept.head", "--root", "pinned.pem"]);
    for word in ["volume", "NOT_AN_APPROVER", "PROPOSAL_ACTIVE", "record"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let (code, _, error) = place.verify(&["--head", "seen.head", "--in-force", "next.yaml"]);
    assert_eq!(code, 0, "{error}");
}

/// The whole database to a point in time: proposed, approved by those it takes, done.
fn goes_back(place: &Place<'_>, sql: &str) {
    let root = place.path("pinned.pem");
    let inserts = |day: &str| {
        let mut psql = psql(place.folder, sql.parse().unwrap(), &root, "banks", ("north", "clerk"));
        let row = format!("INSERT INTO transfers (payer, payee, amount, day) VALUES ('a', 'b', 1, '{day}')");
        psql.args(["-c", &row]);
        assert_eq!(printed(psql).trim(), "INSERT 0 1");
    };
    inserts("2026-01-01");
    let (code, _, error) = place.verify(&["--head", "then.head"]);
    assert_eq!(code, 0, "{error}");
    let then: Value = serde_json::from_slice(&std::fs::read(place.path("then.head")).unwrap()).unwrap();
    let record = then["sequence"].to_string();
    inserts("2026-01-02");
    let (code, _, error) = place.typed(CLERK, &["propose", "--restore", "all"]);
    assert!(code == 2 && error.contains("--at TIME or --record NUMBER"), "{error}");
    let propose = ["propose", "--restore", "all", "--record", &record, "--json"];
    let (code, _, error) = place.typed(ADA, &propose);
    assert!(code == 1 && error.contains("NOT_AN_APPROVER"), "{error}");
    let proposed: Value = serde_json::from_str(&place.good(CLERK, &propose)).unwrap();
    let digest = proposed["Proposal"].as_str().unwrap();
    let shown = place.good(INSPECTOR, &["proposals", digest]);
    for words in
        ["the whole database becomes that of record", "transfers: 2 rows when it was proposed, 1 then"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    place.good(CLERK, &["approve", digest]);
    assert!(place.good(OTHER, &["approve", digest]).contains("pending"), "the owner has not agreed");
    assert!(place.good(INSPECTOR, &["approve", digest]).contains("active"));
    let again: Value = serde_json::from_str(&place.good(CLERK, &propose)).unwrap();
    let digest = again["Proposal"].as_str().unwrap();
    let shown = place.good(INSPECTOR, &["proposals", digest]);
    assert!(shown.contains("transfers: 1 rows when it was proposed, 1 then"), "{shown}");
    place.good(INSPECTOR, &["reject", digest]);
}

fn recovered(place: &Place<'_>) {
    let (code, said, error) = place.verify(&[]);
    assert!(code == 0 && said.contains("it waits for recovery"), "{said}{error}");
    for (holder, answer) in [("north", "still missing: 1"), ("south", "the database opened its state")] {
        let key = format!("holders/{holder}.key");
        let fixed =
            ["recover", &place.api, "--reference", "reference.json", "--emulated-root", "emulated-root.pem"];
        let more = ["--manifest", "manifest.yaml", "--holder", holder, "--key", &key];
        let said = place.good(None, &[&fixed[..], &more].concat());
        assert!(said.contains(answer), "{said}");
    }
}
