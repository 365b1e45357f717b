//! Failover by the programs themselves: the primary's process is killed under load, its replica is told to take over by
//! the signal that `docs/database.md` names, and nothing that a client was told is lost.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use attested_tls::{claims::DatabaseAnchor, clock};
use bailey::{
    database::{Requirements, verify},
    up::{DatabasePlan, Log, RunningDatabase, free_address},
};
use evidence::Platform;
use host::Restart;
use testkit::copying::Copying;

use crate::{
    database_marble::{Silent, programs},
    text,
};

const WRITERS: i64 = 4;
/// Commits that were acknowledged before the primary is killed.
const BUSY: usize = 60;

const MANIFEST: &str = r#"
Name: ledger
Parties:
  bank: { Anchors: ["${anchor.bank}"] }
Schema: CREATE TABLE notes (id bigint NOT NULL);
Tables:
  notes: { Owner: bank, Writers: [bank], Readers: [bank] }
Updates: { Approvers: [bank], Threshold: 1 }
MaxSize: 256MiB
"#;

fn plan(folder: &Path) -> DatabasePlan {
    let mesh = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/database/mesh/mesh.yaml");
    let text = format!(
        "manifest = \"manifest.yaml\"\nplatform = \"snp\"\nnames = [\"localhost\"]\n\
         [mesh]\nmanifest = {mesh:?}\nmarble = \"ledger\"\nplatform = \"tdx\"\n[parties]\nbank = [\"clerk\"]\n"
    );
    fs::write(folder.join("manifest.yaml"), MANIFEST).unwrap();
    fs::write(folder.join("database.toml"), text).unwrap();
    DatabasePlan::load(folder).unwrap()
}

/// One instance, as its operator starts it.
struct Instance {
    log: Log,
    sql: SocketAddr,
    api: SocketAddr,
}

impl Instance {
    fn launch(database: &RunningDatabase, name: &str, state: &Path, more: &[String]) -> Self {
        let machine = &database.machine;
        let (sql, api) = (free_address().unwrap(), free_address().unwrap());
        let mut arguments: Vec<String> = [
            ("--state", state.display().to_string()),
            ("--sql-address", sql.to_string()),
            ("--api-address", api.to_string()),
            ("--coordinator", database.coordinator.clone().unwrap()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect();
        arguments.extend_from_slice(more);
        let (log, program) = (Log::of(machine, name), machine.programs().path("bailey-database").unwrap());
        let configuration = database.configuration.clone();
        machine.launch(name, Platform::Snp, &program, configuration, arguments, Restart::Never).unwrap();
        Self { log, sql, api }
    }

    async fn says(&self, code: &str) {
        let over = ["the database ends", "the database is not taken over"];
        let said = |line: &serde_json::Value| {
            line["code"] == code || over.iter().any(|message| line["message"] == *message)
        };
        let line = self.log.until(said).await.unwrap();
        assert_eq!(line["code"], code, "{line}");
    }

    /// Appraises it as any client would, and gives the file that its root is in.
    async fn verified(&self, database: &RunningDatabase) -> PathBuf {
        let machine = &database.machine;
        let DatabaseAnchor::Coordinator { root } = database.verified.claims.anchor else { panic!("no mesh") };
        let required = Requirements {
            policy: machine.policy().unwrap(),
            measurements: machine
                .programs()
                .measure("bailey-database", Some(&database.configuration))
                .unwrap(),
            first: Some(database.verified.claims.first.into_array()),
            manifest: None,
            mesh: Some(root.into_array()),
        };
        let endpoint = format!("https://localhost:{}", self.api.port()).parse().unwrap();
        let verified = verify(&endpoint, &required, &clock::system()).await.unwrap();
        let root = evidence::pem::encode(&evidence::CertificateDer(verified.claims.root.to_vec()));
        let path = machine.folder().join("replica-root.pem");
        fs::write(&path, root).unwrap();
        path
    }
}

/// The process itself, whatever it is in the middle of.
fn signal(database: &RunningDatabase, process: &str, signal: &str) {
    let known = database.machine.status().unwrap();
    let pid = known.iter().find(|it| it.name.as_str() == process).and_then(host::Status::pid);
    let pid = pid.expect("it runs").to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
}

/// psql as somebody of a party.
pub fn psql(
    folder: &Path,
    sql: SocketAddr,
    root: &Path,
    dbname: &str,
    (party, name): (&str, &str),
) -> Command {
    let of = folder.join("parties").join(party).display().to_string();
    let mut command = Command::new("psql");
    command.env("LC_ALL", "C").args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]);
    command.arg(format!(
        "host=localhost port={} dbname={dbname} user={party} sslmode=verify-full sslrootcert={} \
         sslcert={of}/{name}.pem sslkey={of}/{name}.key",
        sql.port(),
        root.display()
    ));
    command
}

/// What it prints.
pub fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Inserts one note after the other until nobody answers. Those that it was told are there.
fn writes(mut psql: Command, first: i64, told: Arc<AtomicUsize>) -> JoinHandle<BTreeSet<i64>> {
    thread::spawn(move || {
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut psql = psql.spawn().unwrap();
        let (mut typing, screen) = (psql.stdin.take().unwrap(), psql.stdout.take().unwrap());
        let types = thread::spawn(move || {
            (first..).all(|id| writeln!(typing, "INSERT INTO notes VALUES ({id});").is_ok())
        });
        let lines = BufReader::new(screen).lines().map_while(Result::ok);
        // Each has its answer before the next is sent, so the order is known.
        let acknowledged = lines.filter(|line| line == "INSERT 0 1").zip(first..).map(|(_, id)| {
            told.fetch_add(1, SeqCst);
            id
        });
        let acknowledged = acknowledged.collect();
        psql.wait().unwrap();
        types.join().unwrap();
        acknowledged
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_by_sigusr1_when_the_process_of_the_primary_was_killed_under_load() {
    let Some(programs) = programs() else { return };
    if Command::new("psql").arg("--version").output().is_err() {
        println!("NOT RUN: there is no psql; mend: apt-get install postgresql-client");
        return;
    }
    let (folder, plans) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, plan) = (folder.path(), plan(plans.path()));
    let primary = RunningDatabase::start(&plan, here, programs, &mut Silent).await.unwrap();
    let (state, copied) = (here.join("state"), here.join("replica"));
    let copying = Copying::from(&state.join("log"), &copied.join("log"));
    let reads = free_address().unwrap().to_string();
    let replica = Instance::launch(&primary, "replica", &copied, &["--follow".into(), reads]);
    replica.says("FOLLOWING").await;

    let (told, root) = (Arc::new(AtomicUsize::new(0)), here.join("root.pem"));
    let clerk = |sql, root: &Path| psql(here, sql, root, "ledger", ("bank", "clerk"));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| writes(clerk(primary.sql, &root), writer * 1_000_000, Arc::clone(&told)))
        .collect();
    let busy = async {
        while told.load(SeqCst) < BUSY {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), busy).await.expect("they write");
    signal(&primary, "database", "KILL");
    let acknowledged: BTreeSet<i64> =
        tokio::task::block_in_place(|| writers.into_iter().flat_map(|it| it.join().unwrap()).collect());
    assert!(acknowledged.len() >= BUSY);
    signal(&primary, "replica", "USR1");
    replica.says("TAKEN_OVER").await;
    replica.says("SERVING").await;
    drop(copying);

    let root = replica.verified(&primary).await;
    let write = |id: i64| {
        let mut psql = clerk(replica.sql, &root);
        psql.args(["-c", &format!("INSERT INTO notes VALUES ({id})")]);
        assert_eq!(printed(psql).trim(), "INSERT 0 1");
    };
    write(-1);
    // The former one is started again, and its copy of the log is not the newest any more.
    let _ = primary.machine.stop("database");
    let former = Instance::launch(&primary, "database", &state, &[]);
    let ended = former.log.until(|line| line["message"] == "the database ends").await.unwrap();
    let code = ended["code"].as_str().unwrap_or_default();
    assert!(["LOG_ROLLED_BACK", "LOG_FORKED"].contains(&code), "{ended}");
    write(-2);
    let mut reading = clerk(replica.sql, &root);
    reading.args(["-c", "SELECT id FROM notes"]);
    let present: BTreeSet<i64> = printed(reading).lines().map(|id| id.parse().unwrap()).collect();
    let lost: Vec<_> = acknowledged.iter().chain(&[-1, -2]).filter(|id| !present.contains(id)).collect();
    assert!(lost.is_empty(), "{} acknowledged notes are lost: {lost:?}", lost.len());
    primary.machine.shut_down().unwrap();
}
