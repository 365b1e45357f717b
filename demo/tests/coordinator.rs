//! `bailey coordinator start` as its user runs it: started, verified, given a manifest, asked for its metrics, stopped
//! with Ctrl-C, started again on the same folder.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use bailey::up::free_address;
use serde_json::{Value, json};

struct Started {
    process: Child,
    told: Value,
    metrics: SocketAddr,
}

fn start(folder: &Path) -> Started {
    let addresses: Vec<_> = (0..4).map(|_| free_address().unwrap()).collect();
    let mut command = Command::new(testkit::binary("bailey"));
    command.args(["coordinator", "start", "--json", "--folder"]).arg(folder);
    for (flag, address) in
        ["--client-address", "--marble-address", "--mesh-address", "--metrics-address"].iter().zip(&addresses)
    {
        command.arg(flag).arg(address.to_string());
    }
    let mut process = command.stdout(Stdio::piped()).spawn().expect("bailey starts");
    let mut told = String::new();
    let mut lines = BufReader::new(process.stdout.take().unwrap());
    while serde_json::from_str::<Value>(&told).is_err() {
        assert_ne!(lines.read_line(&mut told).unwrap(), 0, "it ended after {told:?}");
    }
    Started { process, told: serde_json::from_str(&told).unwrap(), metrics: addresses[3] }
}

impl Started {
    fn text(&self, field: &str) -> &str {
        self.told[field].as_str().unwrap()
    }

    fn bailey(&self, arguments: &[&str]) -> String {
        let output = Command::new(testkit::binary("bailey")).args(arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.into_owned()
    }

    /// As the root that is appraised now says.
    fn verify(&self, root: &str) -> String {
        let emulated = format!("{}/sgx-root.pem", self.text("emulated_roots"));
        let url = self.text("coordinator");
        self.bailey(&[
            "verify",
            url,
            "--reference",
            self.text("reference"),
            "--emulated-root",
            &emulated,
            "--pin",
            root,
        ])
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

#[test]
fn a_coordinator_is_started_verified_and_started_again() {
    for name in ["bailey", "bailey-emulator", "bailey-coordinator", "bailey-keep"] {
        testkit::binary(name);
    }
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("coordinator");
    let root = temporary.path().join("root.pem").display().to_string();
    let manifest = temporary.path().join("manifest.json");
    let text = json!({
        "Packages": { "backend": { "SignerID": "5a".repeat(32), "ProductID": 1337, "SecurityVersion": 1 } },
        "Marbles": { "api": { "Package": "backend" } },
    });
    std::fs::write(&manifest, text.to_string()).unwrap();

    let started = start(&folder);
    let said = started.verify(&root);
    assert!(said.contains("EMULATED SGX") && said.contains("accepting the owner's manifest"), "{said}");
    let (cert, key) = (&started.told["owner"]["certificate"], &started.told["owner"]["key"]);
    started.bailey(&[
        "manifest",
        "set",
        manifest.to_str().unwrap(),
        "--coordinator",
        started.text("coordinator"),
        "--root",
        &root,
        "--cert",
        cert.as_str().unwrap(),
        "--key",
        key.as_str().unwrap(),
    ]);
    assert!(started.scrape().contains("coordinator_state 3"));
    started.stop();

    let again = start(&folder);
    let status = again.bailey(&["status", "--coordinator", again.text("coordinator"), "--root", &root]);
    assert!(status.starts_with("running"), "the root that was pinned before is still the mesh's: {status}");
    assert!(again.verify(&root).contains("(epoch 1)"));
    again.stop();
}
