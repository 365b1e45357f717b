//! A TPM of software for one machine: swtpm, in a process of its own. The host runs it and could read its keys.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tpm_anchor::Address;

use crate::{VmError, file};

/// Where guests have their attestation key; as in `attester::hardware::tpm`.
const ATTESTATION_KEY: u32 = 0x8101_0002;
const PATIENCE: Duration = Duration::from_secs(20);
const STATE: &str = "tpm";
const SOCKET: &str = "tpm.sock";

/// Makes a new TPM below `folder`, with an attestation key, and gives the key's point.
pub(crate) fn provision(folder: &Path) -> Result<[u8; 64], VmError> {
    let state = folder.join(STATE);
    fs::create_dir_all(&state).map_err(file(&state))?;
    let socket = folder.join(SOCKET);
    let server = format!("type=unixio,path={}", socket.display());
    let mut swtpm =
        start(folder, &["--server", &server, "--flags", "not-need-init,startup-clear", "--terminate"])?;
    let made = ready(&mut swtpm, &socket)
        .and_then(|()| Ok(tpm_anchor::provision(&Address::Unix(socket.clone()), ATTESTATION_KEY)?));
    if made.is_err() {
        let _ = swtpm.kill();
    }
    // It ends with the connection, after it has written what it keeps.
    let _ = swtpm.wait();
    let _ = fs::remove_file(&socket);
    made
}

/// Runs the TPM for QEMU, which ends it when it ends.
pub(crate) fn run(folder: &Path) -> Result<Child, VmError> {
    let socket = folder.join(SOCKET);
    let control = format!("type=unixio,path={}", socket.display());
    let mut swtpm = start(folder, &["--ctrl", &control, "--terminate"])?;
    let begun = Instant::now();
    while !socket.exists() {
        still(&mut swtpm, begun)?;
    }
    Ok(swtpm)
}

fn start(folder: &Path, arguments: &[&str]) -> Result<Child, VmError> {
    let log = folder.join("tpm.log");
    let out = fs::File::create(&log).map_err(file(&log))?;
    Command::new("swtpm")
        .args(["socket", "--tpm2", "--seccomp", "action=kill", "--tpmstate"])
        .arg(format!("dir={},mode=0600", folder.join(STATE).display()))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .spawn()
        .map_err(|source| VmError::Program { program: "swtpm", package: "swtpm", source })
}

fn ready(swtpm: &mut Child, socket: &Path) -> Result<(), VmError> {
    let begun = Instant::now();
    // Its first connection is its last, so it is not tried by connecting.
    while !socket.exists() || !listening(socket) {
        still(swtpm, begun)?;
    }
    Ok(())
}

/// Whether somebody listens, by the kernel's table: flag 0x10000 of a socket says so (Linux, `net/unix/af_unix.c`).
fn listening(socket: &Path) -> bool {
    let Ok(table) = fs::read_to_string("/proc/net/unix") else { return UnixStream::connect(socket).is_ok() };
    let path = socket.to_string_lossy();
    table.lines().any(|line| line.contains(" 00010000 ") && line.ends_with(path.as_ref()))
}

fn still(swtpm: &mut Child, begun: Instant) -> Result<(), VmError> {
    let ended = || VmError::Ended { program: "swtpm", words: "before it listened".into() };
    if swtpm.try_wait().ok().flatten().is_some() || begun.elapsed() > PATIENCE {
        let _ = swtpm.kill();
        let _ = swtpm.wait();
        return Err(ended());
    }
    std::thread::sleep(Duration::from_millis(5));
    Ok(())
}
