//! Clients as they are: psql, psycopg, libpq of its newest version, SQLAlchemy, JDBC, node-postgres. Whichever is not here is
//! not run.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::process::Command;

use super::{Served, served};

const JDBC: &str = "/usr/share/java/postgresql.jar";

/// Certificates and keys of parties, as clients want them.
fn certificates(served: &Served) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: String, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("server.pem".into(), served.server.pem.as_bytes());
    for (party, authority) in served.parties.all() {
        let holder = authority.issue("client");
        write(format!("{party}.pem"), holder.pem.as_bytes());
        write(format!("{party}.key"), holder.key.as_bytes());
        write(
            format!("{party}.pk8"),
            PrivateKeyDer::from_pem_slice(holder.key.as_bytes()).unwrap().secret_der(),
        );
    }
    folder
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn tools(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/sql").join(kind)
}

fn there(program: &str, needed: &Path) -> bool {
    let mut version = std::process::Command::new(program);
    let found = version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let found = found && needed.exists();
    if !found {
        println!("NOT RUN: {program} with {} is not here; mend: cargo xtask tools", needed.display());
    }
    found
}

async fn runs(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn psql(served: &Served, folder: &Path, party: &str) -> Command {
    let mut command = Command::new("psql");
    let path = folder.display();
    command.env("LC_ALL", "C").args(["-X", "-v", "ON_ERROR_STOP=1", "-d"]);
    command.arg(format!(
        "host=localhost port={} dbname=test user={party} sslmode=verify-full sslrootcert={path}/server.pem \
         sslcert={path}/{party}.pem sslkey={path}/{party}.key",
        served.address.port()
    ));
    command
}

#[tokio::test]
async fn psql_runs_with_its_commands_that_show_the_catalog() {
    if !there("psql", Path::new("/")) {
        return;
    }
    let Some(served) = served().await else { return };
    let folder = certificates(&served);
    let mut writing = psql(&served, folder.path(), "bank_b");
    writing.args(["-c", "INSERT INTO notes VALUES (1, 'from psql')"]);
    writing.args(["-c", "BEGIN", "-c", "INSERT INTO notes VALUES (2, 'x')", "-c", "COMMIT"]);
    assert!(runs(writing).await.contains("INSERT 0 1"));
    let rows = folder.path().join("rows.csv");
    fs::write(&rows, "3,three\n4,four\n").unwrap();
    let mut copying = psql(&served, folder.path(), "bank_b");
    copying.args(["-c", &format!("\\copy notes FROM '{}' WITH (FORMAT csv)", rows.display())]);
    assert_eq!(runs(copying).await.trim(), "COPY 2");

    let mut reading = psql(&served, folder.path(), "auditor");
    for show in [
        "\\d",
        "\\dt",
        "\\dv",
        "\\di",
        "\\ds",
        "\\d notes",
        "\\d payments",
        "\\dn",
        "\\l",
        "\\du",
        "\\df",
        "\\dT",
    ] {
        reading.args(["-c", show]);
    }
    reading.args([
        "-c",
        "SELECT count(*) AS rows FROM notes",
        "-c",
        "\\conninfo",
        "-c",
        "SHOW server_version",
    ]);
    let said = runs(reading).await;
    assert!(said.contains("Table \"public.notes\"") && said.contains("notes_pkey"), "{said}");
    assert!(said.contains("party_bank_b") && said.contains("\n    4\n"), "{said}");

    let mut copying = psql(&served, folder.path(), "auditor");
    copying.args(["-c", "\\copy (SELECT body FROM notes ORDER BY id) TO STDOUT"]);
    assert_eq!(runs(copying).await, "from psql\nx\nthree\nfour\n");
    let mut calling = psql(&served, folder.path(), "analyst");
    calling.args(["-At", "-c", "SELECT * FROM algorithm.volume(3)"]);
    assert_eq!(runs(calling).await, "O'Hara \\ \"x\"|12.50\n|-3\n");
    let refused =
        psql(&served, folder.path(), "analyst").args(["-c", "SELECT * FROM notes"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).starts_with("ERROR:  `notes` is no table"));
}

/// A script with packages from `target/tools/sql`; what it needs of them is named.
async fn python(script: &str, packages: &[&str], needed: &str, more: &[&str]) {
    if !there("python3", &tools(needed)) {
        return;
    }
    let Some(served) = served().await else { return };
    let folder = certificates(&served);
    let mut command = Command::new("python3");
    let path = packages.iter().map(|it| tools(it).display().to_string()).collect::<Vec<_>>().join(":");
    command.env("PYTHONPATH", path).arg(scripts().join(script));
    command.arg(served.address.port().to_string()).arg(folder.path()).args(more);
    assert_eq!(runs(command).await.trim(), "done");
}

#[tokio::test]
async fn psycopg_runs_unchanged() {
    python("client.py", &["python"], "python/psycopg", &[]).await;
}

/// TLS without a request before it, the protocol's newest version, requests to end a statement within TLS: libpq 17.
#[tokio::test]
async fn libpq_17_runs_with_direct_tls() {
    python("client.py", &["libpq", "python"], "libpq/psycopg_binary", &["direct"]).await;
}

#[tokio::test]
async fn sqlalchemy_looks_at_the_database_and_runs_unchanged() {
    python("reflection.py", &["python"], "python/sqlalchemy", &[]).await;
}

#[tokio::test]
async fn what_tools_for_analysis_ask_at_their_start_is_answered() {
    python("tools.py", &["python"], "python/psycopg", &[]).await;
}

#[tokio::test]
async fn jdbc_runs_unchanged() {
    if !there("java", Path::new(JDBC)) {
        return;
    }
    let Some(served) = served().await else { return };
    let folder = certificates(&served);
    let mut command = Command::new("java");
    command.args(["-Xshare:auto", "-cp", JDBC]).arg(scripts().join("Client.java"));
    command.arg(served.address.port().to_string()).arg(folder.path());
    assert_eq!(runs(command).await.trim(), "done");
}

#[tokio::test]
async fn node_postgres_runs_unchanged() {
    if !there("node", &tools("node/node_modules/pg")) {
        return;
    }
    let Some(served) = served().await else { return };
    let folder = certificates(&served);
    let mut command = Command::new("node");
    command.env("NODE_PATH", tools("node/node_modules")).arg(scripts().join("client.js"));
    command.arg(served.address.port().to_string()).arg(folder.path());
    assert_eq!(runs(command).await.trim(), "done");
}
