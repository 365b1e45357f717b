//! Clients of SQL databases that the tests of the confidential database run: psycopg, a libpq of the newest version and
//! SQLAlchemy from PyPI, node-postgres from npm, below `target/tools/sql`, in the versions (and with the digests) that `crates/database/tests/clients` states.
//! psql and the JDBC driver are Debian's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::shell::{available, root, run, step};

/// The JDBC driver, and Debian's package of it.
pub const JDBC: (&str, &str) = ("/usr/share/java/postgresql.jar", "libpostgresql-jdbc-java");

/// A kind of client: what installs it, the file that says which version, its folder. The libpq comes compiled, for some
/// versions of Python only, and so in a folder of its own: the others do not wait for it.
const CLIENTS: [(&str, &str, &str); 3] = [
    ("python3", "requirements.txt", "python"),
    ("python3", "requirements-libpq.txt", "libpq"),
    ("npm", "package-lock.json", "node"),
];

/// Sees to it that the clients are there, where that needs nobody's permission. Quick when they are.
pub fn provide() {
    for (program, list, name) in CLIENTS {
        let folder = root().join("target/tools/sql").join(name);
        let wanted = fs::read_to_string(stated().join(list)).unwrap_or_default();
        let ready = fs::read_to_string(folder.join("installed")).is_ok_and(|stamp| stamp == wanted);
        if ready || !available(program) {
            continue;
        }
        step("installing clients of databases below target/tools/sql");
        if let Err(error) = install(program, list, &folder, &wanted) {
            eprintln!("the {name} client could not be installed: {error:#}");
        }
    }
}

fn stated() -> PathBuf {
    root().join("crates/database/tests/clients")
}

/// Installs aside and then moves, so that a failure leaves nothing half done.
fn install(program: &str, list: &str, folder: &Path, wanted: &str) -> Result<()> {
    let making = folder.with_extension("new");
    let _ = fs::remove_dir_all(&making);
    fs::create_dir_all(&making)?;
    let mut command = Command::new(program);
    if program == "npm" {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(stated().join(file), making.join(file))?;
        }
        command.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]);
        command.current_dir(&making);
    } else {
        command.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-compile",
        ]);
        command.args([
            "--only-binary",
            ":all:",
            "--root-user-action",
            "ignore",
            "--require-hashes",
            "--target",
        ]);
        command.arg(&making).arg("-r").arg(stated().join(list));
    }
    run(&mut command)?;
    fs::write(making.join("installed"), wanted)?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(making, folder)?;
    Ok(())
}
