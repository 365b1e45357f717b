//! A database as a Marble by the programs themselves: `bailey database up` of `examples/database/mesh`, and its state is
//! there for the next start.

use std::path::Path;

use attested_tls::{claims::DatabaseAnchor, clock};
use bailey::{
    client::VerifyError,
    database::{Requirements, verify},
    up::{DatabasePlan, Observer, Programs, RunningDatabase},
};

pub struct Silent;

impl Observer for Silent {
    fn begins(&mut self, _title: &str) {}
    fn done(&mut self, _title: &str, _proven: &str) {}
}

pub fn programs() -> Option<Programs> {
    let folder = Path::new(env!("CARGO_BIN_EXE_bailey")).parent().unwrap().to_owned();
    let names = ["bailey-database", "bailey-emulator", "bailey-coordinator"];
    if !names.iter().all(|name| folder.join(name).is_file()) {
        println!("NOT RUN: {} are not built: cargo build --workspace", names.join(", "));
        return None;
    }
    if !Path::new("/usr/lib/postgresql").is_dir() {
        println!("NOT RUN: there is no PostgreSQL of version 15 or later; mend: cargo xtask tools");
        return None;
    }
    Some(Programs::in_folder(folder))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_a_marble_of_a_coordinator_by_the_programs_themselves() {
    let Some(programs) = programs() else { return };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/database/mesh");
    let plan = DatabasePlan::load(&example).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start =
        async || RunningDatabase::start(&plan, folder.path(), programs.clone(), &mut Silent).await.unwrap();
    let database = start().await;
    let first = database.verified.claims.clone();
    assert!(matches!(first.anchor, DatabaseAnchor::Coordinator { .. }));
    let required = Requirements {
        policy: database.machine.policy().unwrap(),
        measurements: database.machine.programs().measure("bailey-database", None).unwrap(),
        first: None,
        manifest: None,
        mesh: None,
    };
    let refused = verify(&database.api, &required, &clock::system()).await.map(|_| ());
    assert!(matches!(refused, Err(VerifyError::Mesh { expected: None, seen: Some(_) })), "{refused:?}");
    database.machine.shut_down().unwrap();
    assert!(!folder.path().join("state/key").exists(), "its key is the coordinator's");

    let database = start().await;
    let second = &database.verified.claims;
    assert_eq!((&second.root, second.anchor), (&first.root, first.anchor));
    let records = |claims: &attested_tls::claims::DatabaseClaims| claims.state.clone().unwrap().log_sequence;
    assert!(records(second) > records(&first), "the log goes on");
    database.machine.shut_down().unwrap();
}
