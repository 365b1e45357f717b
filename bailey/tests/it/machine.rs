//! A Keep in a virtual machine by the words of `docs/vm-guest.md`: image, agent, client, and the end of the agent between them.

use std::path::Path;

use serde_json::{Value, json};

use crate::{bailey, host::Agent, text};

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "from a machine\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 15))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// The folder, and the agent of now.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub agent: Option<Agent>,
}

impl Site {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), agent: None }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The image, of this build's programs.
    pub fn image(&self) -> String {
        let programs = Path::new(env!("CARGO_BIN_EXE_bailey")).parent().unwrap();
        let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/vm");
        for there in [&programs.join("bailey-keep"), &programs.join("bailey-init"), &parts.join("kernel")] {
            let mend = "cargo xtask tools, cargo build --workspace";
            assert!(there.is_file(), "{} is missing: {mend}", there.display());
        }
        let program = |name: &str| programs.join(name).display().to_string();
        let (image, parts) = (self.path("keep.image"), parts.display().to_string());
        let (keep, init) = (program("bailey-keep"), program("bailey-init"));
        done(&["image", "build", &parts, "--keep", &keep, "--init", &init, "--out", &image]);
        image
    }
}

/// What a command says that succeeds.
pub fn done(arguments: &[&str]) -> String {
    let output = bailey(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

impl Drop for Site {
    fn drop(&mut self) {
        // With the agent's machines.
        let directory = self.folder.path().join("host").display().to_string();
        bailey(&["host", "stop", "--directory", &directory]);
    }
}

#[test]
#[ignore = "boots a machine, a minute or two: cargo xtask soak"]
fn soak_a_keep_in_a_machine_outlives_its_agent_and_serves_a_client() {
    let mut site = Site::new();
    let folder = site.folder.path().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    let (image, configuration) = (site.image(), path("direct.json"));
    std::fs::write(&configuration, r#"{"direct":{"version":1}}"#).unwrap();
    let measured = done(&["image", "measure", &image, "--configuration", &configuration, "--json"]);
    std::fs::write(path("reference.json"), measured).unwrap();
    std::fs::write(path("app.wasm"), wat::parse_str(HELLO).unwrap()).unwrap();

    let token = done(&["host", "token"]);
    let word = |line: usize| token.lines().nth(line).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    std::fs::write(path("token"), word(0)).unwrap();
    let config = json!({
        "directory": "host",
        "backends": [{"vm": {"name": "vm", "capacity": 1, "keep": {
            "executable": "keep.image", "configuration": {"file": "direct.json"},
        }}}],
        "api": {"listen": "127.0.0.1:0"},
        "tenants": [{"name": "acme", "tokens": [word(1)]}],
        "keeps": {"warm": 1},
    });
    let directory = path("host");
    let warm = || -> Vec<Value> {
        let listed = done(&["host", "list", "--json", "--directory", &directory]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed["host"]["backends"][0]["failure"], Value::Null, "{listed}");
        listed["host"]["keeps"].as_array().unwrap().iter().map(|keep| keep["name"].clone()).collect()
    };
    site.agent = Some(Agent::start(&folder, &config).0);
    let before = loop {
        let warm = warm();
        if !warm.is_empty() {
            break warm;
        }
    };
    // Killed: it has no say in it.
    site.agent = None;
    let (agent, address) = Agent::start(&folder, &config);
    site.agent = Some(agent);
    assert_eq!(warm(), before, "the machine was adopted, and no other launched");

    let authority = std::fs::read_to_string(path("tpm-authority/tpm-authority.pem")).unwrap();
    let policy = json!({
        "trust_anchors": [{"name": "this host", "certificate": authority}],
        "boot": {"secure_boot": "allow"},
    });
    std::fs::write(path("policy.json"), policy.to_string()).unwrap();
    let url = format!("https://{}", address.replace("127.0.0.1", "localhost"));
    let (app, ca, token) = (path("app.wasm"), path("host/api.crt"), path("token"));
    let (reference, policy) = (path("reference.json"), path("policy.json"));
    let how = ["--host-ca", &ca, "--token", &token, "--reference", &reference, "--policy", &policy];
    let said = done(&[&["deploy", &app, "--host", &url][..], &how].concat());
    assert_eq!(said, "from a machine\n");
}
