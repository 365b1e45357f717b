//! A TPM of software, a real one in all but the hardware: swtpm, in a process of its own that ends with the value.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A running TPM.
pub struct Swtpm {
    process: Option<Child>,
    folder: TempDir,
}

impl Swtpm {
    /// A new TPM; `None`, told loudly, where swtpm is not installed.
    pub fn start() -> Option<Self> {
        let swtpm = Self { process: None, folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::create_dir(swtpm.state()).expect("a folder for the TPM's state");
        swtpm.run()
    }

    /// The same TPM after its machine was off and on.
    pub fn restart(mut self) -> Self {
        self.stop();
        self.run().expect("swtpm was there before")
    }

    /// A TPM as `saved` has it.
    pub fn restored(mut self, saved: &Path) -> Self {
        self.stop();
        copy(saved, &self.state());
        self.run().expect("swtpm was there before")
    }

    /// A copy of all that it keeps.
    pub fn saved(&self) -> TempDir {
        let saved = tempfile::tempdir().expect("a temporary folder");
        copy(&self.state(), saved.path());
        saved
    }

    /// As the coordinator takes it from its host.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("tpm.sock")
    }

    fn run(mut self) -> Option<Self> {
        let socket = self.socket();
        let _ = std::fs::remove_file(&socket);
        let spawned = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--log", "level=0"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.state().display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = spawned else {
            eprintln!("\n*** NOT RUN: swtpm is absent: apt-get install swtpm ***\n");
            return None;
        };
        self.process = Some(process);
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "swtpm does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(self)
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.stop();
    }
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).expect("the TPM's state") {
        let file = file.expect("a file of the TPM's state");
        if !file.file_name().to_string_lossy().starts_with(".lock") {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy of the TPM's state");
        }
    }
}
