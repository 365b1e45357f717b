//! A registry: the distribution project's own (Debian's `docker-registry`), over TLS, in a process of its own that ends
//! with the value.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Who may push and pull where credentials are wanted.
pub const USER: (&str, &str) = ("tester", "correct horse");
/// The same, as `htpasswd -B` writes it.
const HTPASSWD: &str = "tester:$2b$04$EbmyYGrnEnYMKeLYDKf2peNcQ09eip./7aNcClESkQ0otUkr.dMlO\n";

/// A running registry.
pub struct Registry {
    process: Child,
    _folder: TempDir,
    /// `localhost:PORT`.
    pub host: String,
    /// The certificate that it is known by, DER.
    pub root: Vec<u8>,
    /// The same, PEM.
    pub root_pem: String,
}

impl Registry {
    /// A registry for everybody; `None`, told loudly, where it is not installed.
    #[must_use]
    pub fn open() -> Option<Self> {
        Self::start("")
    }

    /// A registry that knows [`USER`] and nobody else.
    #[must_use]
    pub fn private() -> Option<Self> {
        Self::start("auth: {htpasswd: {realm: tests, path: htpasswd}}\n")
    }

    fn start(auth: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The second is this host to a virtual machine.
        let names = ["localhost", "10.0.2.2"].map(str::to_owned);
        let certified = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
        write("cert.pem", &certified.cert.pem());
        write("key.pem", &certified.signing_key.serialize_pem());
        write("htpasswd", HTPASSWD);
        let port = crate::port::free();
        let configuration = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: data}}}}\n{auth}http: {{addr: \
             'localhost:{port}', tls: {{certificate: cert.pem, key: key.pem}}}}\n"
        );
        write("config.yml", &configuration);
        let mut command = Command::new("docker-registry");
        command.args(["serve", "config.yml"]).current_dir(folder.path()).stdin(Stdio::null());
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(process) = started else {
            eprintln!("\n*** NOT RUN: there is no docker-registry: cargo xtask tools ***\n");
            return None;
        };
        let registry = Self {
            process,
            _folder: folder,
            host: format!("localhost:{port}"),
            root: certified.cert.der().to_vec(),
            root_pem: certified.cert.pem(),
        };
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < until, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
