//! A platform, and an agent in a process of its own that can be killed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use emulator::daemon::Daemon;
use host::{Action, Reply, Status};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;

pub const LONG: Duration = Duration::from_secs(60);
pub const TOKENS: [&str; 2] = ["token-of-acme-0123456789", "token-of-zeta-0123456789"];

pub struct Site {
    agents: Vec<Child>,
    _daemon: Daemon,
    pub directory: TempDir,
    port: u16,
}

impl Site {
    /// A platform and a configuration, changed by `change`; no agent yet.
    pub fn prepare(change: impl FnOnce(&mut Value)) -> Self {
        // All tests' platforms have the same keys, which are generated once.
        static KEYS: OnceLock<Vec<u8>> = OnceLock::new();
        let start = |directory: &Path| {
            Daemon::start(&testkit::binary("bailey-emulator"), directory, Stdio::null()).unwrap()
        };
        let keys = KEYS.get_or_init(|| {
            let first = tempfile::tempdir().unwrap();
            start(first.path());
            std::fs::read(first.path().join("platform.json")).unwrap()
        });
        let directory = tempfile::tempdir().unwrap();
        let platform = directory.path().join("platform");
        std::fs::create_dir(&platform).unwrap();
        std::fs::set_permissions(&platform, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(platform.join("platform.json"), keys).unwrap();
        std::fs::set_permissions(platform.join("platform.json"), PermissionsExt::from_mode(0o600)).unwrap();
        let daemon = start(&platform);
        let mut config = configuration(&platform);
        change(&mut config);
        std::fs::write(directory.path().join("host.json"), config.to_string()).unwrap();
        Self { agents: Vec::new(), _daemon: daemon, directory, port: 0 }
    }

    pub fn start(change: impl FnOnce(&mut Value)) -> Self {
        let mut site = Self::prepare(change);
        site.start_agent(&[]);
        site
    }

    pub fn host(&self) -> PathBuf {
        self.directory.path().join("host")
    }

    /// Starts an agent, and waits until it answers.
    pub fn start_agent(&mut self, words: &[&str]) -> u32 {
        let before = self.agents.len();
        let log = std::fs::File::create(self.directory.path().join(format!("agent-{before}.log"))).unwrap();
        let file = self.directory.path().join("host.json");
        let program = testkit::example("agent");
        let agent = Command::new(program).arg(file).args(words).stdout(log).spawn().unwrap();
        let pid = agent.id();
        self.agents.push(agent);
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.directory.path().join(format!("agent-{before}.log")));
            let line = text.unwrap().lines().find_map(|line| line.strip_prefix("ready ")?.parse().ok());
            if let Some(port) = line {
                self.port = port;
                return pid;
            }
            let ended = self.agents[before].try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < LONG, "no agent: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the last agent as nothing else could: it has no say in it.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agents.pop().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    pub fn agent(&mut self, index: usize) -> &mut Child {
        &mut self.agents[index]
    }

    pub fn client(&self, token: Option<&str>) -> Client {
        Client::new(self.port, token)
    }

    pub fn ask(&self, action: &Action) -> Reply {
        host::ask(&self.host(), action).unwrap()
    }

    pub fn processes(&self) -> Vec<Status> {
        match self.ask(&Action::Status {}) {
            Reply::Processes { processes } => processes,
            reply => panic!("{reply:?}"),
        }
    }

    /// Waits until the processes are as they should be.
    pub fn await_processes(&self, are: impl Fn(&[Status]) -> bool) -> Vec<Status> {
        let began = Instant::now();
        loop {
            let processes = self.processes();
            if are(&processes) {
                return processes;
            }
            assert!(began.elapsed() < LONG, "{processes:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = host::ask(&self.host(), &Action::Shutdown {});
        for agent in &mut self.agents {
            let _ = agent.wait();
        }
    }
}

fn sha256(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()))
}

fn configuration(platform: &Path) -> Value {
    let executable = std::fs::canonicalize(std::env::current_exe().unwrap()).unwrap();
    let root = rustix::process::geteuid().is_root();
    json!({
        "directory": "host",
        "backends": [{"process": {
            "name": "emulated", "platform": platform, "tees": ["snp", "tdx"], "capacity": 6,
            "isolation": "available",
            "users": if root { json!({"first": 265_000, "count": 16}) } else { Value::Null },
            "keep": {
                "executable": executable, "configuration": {"text": "{\"direct\":{\"version\":1}}"},
                "arguments": ["--ignored", "--exact", "echo", "--nocapture"],
            },
        }}],
        "api": {"listen": "127.0.0.1:0", "metrics": "127.0.0.1:0"},
        "tenants": [
            {"name": "acme", "tokens": [sha256(TOKENS[0])], "quota": {"keeps": 2}},
            {"name": "zeta", "tokens": [sha256(TOKENS[1])]},
        ],
        "keeps": {"warm": 1, "memory_mib": 256},
    })
}

pub fn exists(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

pub fn await_gone(pid: u32) {
    let began = Instant::now();
    while exists(pid) {
        assert!(began.elapsed() < LONG, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}
