//! People, their files, a coordinator, and `bailey` between them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
};

use appraisal::ReferenceFile;
use attested_tls::{clock, launch::CoordinatorConfiguration};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use coordinator::service::{Coordinator, HostHints, Listeners};
use emulator::vendor;
use evidence::{CertificateDer, Platform};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::tee::EmulatedTee;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Programs look at the clock, so their machine is of today.
pub fn machine() -> Arc<vendor::Platform> {
    static MACHINE: OnceLock<Arc<vendor::Platform>> = OnceLock::new();
    MACHINE
        .get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            Arc::new(vendor::Platform::open(directory.path(), time::OffsetDateTime::now_utc()).unwrap())
        })
        .clone()
}

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Standard output of a command that succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Standard error of a command that failed like this.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.err
    }
}

/// A folder with everyone's files.
pub struct Bench {
    pub folder: TempDir,
    owner: attested_tls::key::SpkiDigest,
}

/// A coordinator that serves until it is dropped.
pub struct Serving {
    pub url: String,
    pub mesh: std::net::SocketAddr,
    pub state: PathBuf,
    stop: CancellationToken,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bench {
    /// With keys and certificates of the owner and of two users.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let owner = bailey::identity::create(folder.path(), "owner").unwrap();
        for user in ["ann", "ben"] {
            bailey::identity::create(folder.path(), user).unwrap();
        }
        let intel = evidence::pem::encode(&CertificateDer(machine().roots().intel.0.to_vec()));
        std::fs::write(folder.path().join("emulated.pem"), intel).unwrap();
        Self { owner: bailey::identity::key_digest(&owner).unwrap(), folder }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), contents).unwrap();
        self.path(name)
    }

    /// A coordinator of this code, on the state of another one or its own; its reference values in
    /// `reference.json`, its root in `root.pem`.
    pub async fn serve(&self, code: &[u8], state: Option<&Path>) -> Serving {
        let configuration =
            CoordinatorConfiguration { owner: self.owner, names: vec!["localhost".into()], tpm: None };
        let tee = EmulatedTee::launch_on(machine(), Platform::Tdx, code, &configuration.to_json());
        let reference = ReferenceFile { reference_values: vec![tee.reference()] };
        self.write("reference.json", serde_json::to_vec(&reference).unwrap());
        let directory = self.folder.path().join(format!("state-{}", String::from_utf8_lossy(code)));
        std::fs::create_dir_all(&directory).unwrap();
        if let Some(other) = state {
            std::fs::copy(other.join("state.redb"), directory.join("state.redb")).unwrap();
        }
        let hints = HostHints { state: directory.clone(), endorsements: Vec::new(), ..HostHints::default() };
        let coordinator = Coordinator::open(tee, configuration, &hints, clock::system()).unwrap();
        let (client, mesh) = (listener().await, listener().await);
        let url = format!("https://localhost:{}", client.local_addr().unwrap().port());
        let mesh_address = mesh.local_addr().unwrap();
        let stop = CancellationToken::new();
        let listeners = Listeners { client, mesh, marbles: None, metrics: None, broker: None };
        tokio::spawn(coordinator.serve(listeners, stop.clone()));
        // What the user of a test remembers is not asked here.
        let nothing = tempfile::tempdir().unwrap().path().join("heads").display().to_string();
        self.appraise(&url, &["verify", &url, "--pin", &self.path("root.pem"), "--heads", &nothing]).ok();
        Serving { url, mesh: mesh_address, state: directory, stop }
    }

    /// A command that appraises the coordinator.
    pub fn appraise(&self, url: &str, arguments: &[&str]) -> Said {
        assert!(arguments.contains(&url), "{arguments:?}");
        let (reference, root) = (self.path("reference.json"), self.path("emulated.pem"));
        bailey(&[arguments, &["--reference", &reference, "--emulated-root", &root]].concat())
    }

    /// A command on the pinned coordinator, for nobody in particular.
    pub fn ask(&self, serving: &Serving, arguments: &[&str]) -> Said {
        bailey(&[arguments, &["--coordinator", &serving.url, "--root", &self.path("root.pem")]].concat())
    }

    /// A command on the pinned coordinator, as a person.
    pub fn act(&self, serving: &Serving, who: &str, arguments: &[&str]) -> Said {
        let (cert, key) = (self.path(&format!("{who}.pem")), self.path(&format!("{who}.key")));
        self.ask(serving, &[arguments, &["--cert", &cert, "--key", &key]].concat())
    }

    /// A manifest under which both users may do everything that a user may.
    pub fn manifest(&self) -> Value {
        let user = |name: &str| json!({ "Certificate": self.read(&format!("{name}.pem")), "Roles": ["admin", "all", "raise"] });
        json!({
            "Packages": {
                "keep": { "Measurements": { "Tdx": "2b".repeat(48) } },
                "signed": { "SignerID": "5a".repeat(32), "ProductID": 1, "SecurityVersion": 3 },
            },
            "Platforms": { "Tdx": {}, "Sgx": {} },
            "Marbles": { "tally": { "Package": "keep" }, "native": { "Package": "signed" } },
            "Secrets": {
                "word": { "Type": "plain", "UserDefined": true },
                "other": { "Type": "plain", "UserDefined": true },
                "cert": { "Type": "cert-ecdsa", "Size": 256, "UserDefined": true },
                "made": { "Type": "cert-ecdsa", "Size": 256, "Shared": true },
            },
            "Users": { "ann": user("ann"), "ben": user("ben") },
            "Roles": {
                "admin": { "ResourceType": "Manifest", "Actions": ["UpdateManifest"] },
                "all": {
                    "ResourceType": "Secrets", "ResourceNames": ["word", "other", "cert"],
                    "Actions": ["ReadSecret", "WriteSecret"],
                },
                "raise": {
                    "ResourceType": "Packages", "ResourceNames": ["signed"], "Actions": ["UpdateSecurityVersion"],
                },
            },
        })
    }

    /// Makes an RSA key of a recovery holder, `NAME.rsa.pem`; gives the public key in PEM.
    pub fn holder(&self, name: &str) -> String {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        self.write(&format!("{name}.rsa.pem"), bailey::recovery::pem("PRIVATE KEY", private.as_ref()));
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        bailey::recovery::pem("PUBLIC KEY", public.as_ref())
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub fn bailey(arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailey"));
    let output = command.args(arguments).env("XDG_DATA_HOME", env!("CARGO_TARGET_TMPDIR")).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

pub fn mode(path: &str) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
