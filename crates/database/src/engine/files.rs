//! What PostgreSQL finds on its disk: the data directory and its configuration, which is ours to the last line.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use super::{EngineError, STANDBY, SUPERUSER, Settings, process};

const DEBIAN: &str = "/usr/lib/postgresql";
const OLDEST: u32 = 15;
/// What remains of a socket's address (107 bytes) beside its name.
const LONGEST_SOCKET: usize = 90;

/// The folder of the newest PostgreSQL of Debian's packages.
///
/// # Errors
/// Where there is none of version 15 or later.
pub fn binaries() -> Result<PathBuf, EngineError> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().filter_map(Result::ok);
    let numbered = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        (version >= OLDEST && folder.join("postgres").is_file()).then_some((version, folder))
    });
    let newest = numbered.max_by_key(|(version, _)| *version);
    newest.map(|(_, folder)| folder).ok_or_else(|| EngineError::Missing(DEBIAN.into()))
}

/// Who PostgreSQL runs as.
#[derive(Debug, Clone, Copy)]
pub(super) enum User {
    /// As us.
    Same,
    /// As its own user.
    Own {
        /// Of the user.
        uid: u32,
        /// Of its group.
        gid: u32,
    },
}

impl User {
    /// Its own user where we are root, and else ours.
    pub(super) fn choose() -> Result<Self, EngineError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Same);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|_| EngineError::NoUser)?;
        let own = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let named = fields.next()? == "postgres";
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (named && uid != 0).then_some(Self::Own { uid, gid })
        });
        own.ok_or(EngineError::NoUser)
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
    let path = path.to_path_buf();
    move |source| EngineError::File { path, source }
}

/// A folder that only PostgreSQL's user enters.
fn own_folder(path: &Path, user: User) -> Result<(), EngineError> {
    fs::create_dir_all(path).map_err(failed(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed(path))?;
    let User::Own { uid, gid } = user else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).map_err(failed(path))?;
    // It must be able to get there.
    if let Some(parent) = path.parent() {
        let found = fs::metadata(parent).map_err(failed(parent))?;
        let mode = found.permissions().mode();
        if found.uid() == 0 && mode & 0o001 == 0 {
            fs::set_permissions(parent, fs::Permissions::from_mode(mode | 0o011)).map_err(failed(parent))?;
        }
    }
    Ok(())
}

/// Owner and permissions of data directory and socket, wherever the data came from.
pub(super) fn prepare(settings: &Settings) -> Result<(), EngineError> {
    let length = settings.socket.as_os_str().len();
    if length > LONGEST_SOCKET {
        return Err(EngineError::SocketPath { path: settings.socket.clone(), length });
    }
    let user = User::choose()?;
    own_folder(&settings.socket, user)?;
    own_folder(&settings.data, user)?;
    // What a crash left of a server that ran here.
    let pid = settings.data.join("postmaster.pid");
    match fs::remove_file(&pid) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&pid)(error)),
        _ => Ok(()),
    }?;
    let User::Own { uid, gid } = user else { return Ok(()) };
    give(&settings.data, uid, gid)
}

/// Gives everything below a folder to a user.
fn give(folder: &Path, uid: u32, gid: u32) -> Result<(), EngineError> {
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let path = entry.path();
        let found = entry.metadata().map_err(failed(&path))?;
        if found.uid() != uid {
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).map_err(failed(&path))?;
        }
        if found.is_dir() {
            give(&path, uid, gid)?;
        }
    }
    Ok(())
}

pub(super) fn initialise(settings: &Settings) -> Result<(), EngineError> {
    prepare(settings)?;
    let initdb = process::command(settings, "initdb", User::choose()?)
        .args(["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C.UTF-8"])
        .args(["--username", SUPERUSER, "--no-sync", "--no-instructions", "-D"])
        .arg(&settings.data)
        .stdin(Stdio::null())
        .output();
    succeeded(settings, "initdb", initdb)?;
    configure(settings)?;
    create_database(settings)
}

/// In single-user mode: nobody is there yet who could seal a commit.
fn create_database(settings: &Settings) -> Result<(), EngineError> {
    let program = || settings.binaries.join("postgres");
    let mut child = process::command(settings, "postgres", User::choose()?)
        .args(["--single", "-j", "-c", "synchronous_standby_names=", "-D"])
        .arg(&settings.data)
        .arg("postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| EngineError::Program { program: program(), source })?;
    let statements = format!(
        "CREATE DATABASE {};\n\nREVOKE ALL ON DATABASE postgres FROM PUBLIC;\n\nREVOKE ALL ON DATABASE template1 FROM PUBLIC;\n\n",
        quoted(&settings.database)
    );
    if let Some(mut input) = child.stdin.take() {
        // That it did not read shows in how it ends.
        let _ = input.write_all(statements.as_bytes());
    }
    let output = child.wait_with_output();
    let failed =
        output.as_ref().is_ok_and(|it| [b"ERROR:", b"FATAL:"].iter().any(|word| contains(&it.stderr, *word)));
    if failed {
        let said = output.map(|it| said(&it)).unwrap_or_default();
        return Err(EngineError::Failed { program: "postgres --single", said });
    }
    succeeded(settings, "postgres", output)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|it| it == word)
}

fn succeeded(
    settings: &Settings,
    program: &'static str,
    output: std::io::Result<Output>,
) -> Result<(), EngineError> {
    let output =
        output.map_err(|source| EngineError::Program { program: settings.binaries.join(program), source })?;
    if output.status.success() { Ok(()) } else { Err(EngineError::Failed { program, said: said(&output) }) }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.trim().chars().take(2000).collect()
}

/// An SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf`: nothing of what was there counts.
pub(super) fn configure(settings: &Settings) -> Result<(), EngineError> {
    let mut text = String::new();
    for (name, value) in parameters(settings) {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    let access = "local all all trust\nlocal replication bailey trust\n";
    for (name, text) in [
        ("postgresql.conf", text.as_str()),
        ("postgresql.auto.conf", ""),
        ("pg_hba.conf", access),
        ("pg_ident.conf", ""),
    ] {
        let path = settings.data.join(name);
        fs::write(&path, text).map_err(failed(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed(&path))?;
        if let User::Own { uid, gid } = User::choose()? {
            chown(&path, Some(uid), Some(gid)).map_err(failed(&path))?;
        }
    }
    Ok(())
}

fn parameters(settings: &Settings) -> Vec<(String, String)> {
    let standby = if settings.synchronous { STANDBY } else { "" };
    let socket = settings.socket.to_string_lossy().into_owned();
    let sizes = [
        ("shared_buffers", format!("{}kB", settings.shared_buffers >> 10)),
        ("temp_file_limit", format!("{}kB", settings.temporary >> 10)),
        ("max_connections", settings.connections.to_string()),
        ("unix_socket_directories", socket),
        ("synchronous_standby_names", standby.into()),
    ];
    let fixed = FIXED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let sizes = sizes.into_iter().map(|(name, value)| (name.to_owned(), value));
    fixed.chain(sizes).chain(settings.parameters.iter().cloned()).collect()
}

const FIXED: [(&str, &str); 31] = [
    ("listen_addresses", ""),
    ("port", "5432"),
    ("unix_socket_permissions", "0700"),
    // The sealer makes commits durable. A page in memory is never torn; while a base backup is taken, PostgreSQL writes
    // whole pages all the same.
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "replica"),
    ("wal_compression", "off"),
    ("max_wal_senders", "8"),
    ("max_replication_slots", "8"),
    // The sealer says nothing while it waits for disk and anchor; its end closes the socket.
    ("wal_sender_timeout", "0"),
    // Log that a sealer which stalls would hold in memory.
    ("max_slot_wal_keep_size", "1GB"),
    // After a start the sealer reads again from the beginning of a file of log.
    ("wal_keep_size", "64MB"),
    ("max_wal_size", "512MB"),
    ("synchronous_commit", "on"),
    ("max_prepared_transactions", "0"),
    // In the data directory, where nothing is left of them when it goes.
    ("dynamic_shared_memory_type", "mmap"),
    ("ssl", "off"),
    ("jit", "off"),
    ("local_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("shared_preload_libraries", ""),
    ("idle_in_transaction_session_timeout", "10min"),
    ("lc_messages", "C"),
    ("TimeZone", "UTC"),
    ("log_timezone", "UTC"),
    // Messages quote values of rows, and the console is the host's.
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("log_min_messages", "fatal"),
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "terse"),
    ("log_checkpoints", "off"),
];
