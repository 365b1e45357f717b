//! A Marble by the programs themselves: `bailey-keep --package` fetches what its manifest lets it run, and with
//! `--volumes` what it stored is there for its next Keep, and nothing older.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use bailey::{
    commands::manifest,
    identity,
    up::{CoordinatorPlan, Keep, KeepOutcome, KeepPlan, Log, Machine, Mesh, Programs},
};
use evidence::Platform;
use host::Restart;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use testkit::registry::Registry;

use crate::{bailey, text};

/// Appends `x` to `/data/journal`, and prints all of it.
const JOURNAL: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 32) "data/journal") (data (i32.const 60) "x")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 60))
        (i32.store (i32.const 4) (i32.const 1))
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 12) (i32.const 1) (i64.const 0x42)
                (i64.const 0) (i32.const 1) (i32.const 16))
            (then (call $exit (i32.const 9))))
        (drop (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 1024))
        (drop (call $pread (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

const CONFIG: &str = r#"
    [[files]]
    kind = "stdin"
    [[files]]
    kind = "stdout"
    [[files]]
    kind = "stderr"
    [[volumes]]
    name = "data"
    path = "/data"
    size = "1MiB"
    [log]
    to = "host"
"#;

fn programs() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_bailey")).parent().unwrap().to_owned();
    let names = ["bailey-keep", "bailey-emulator", "bailey-coordinator", "bailey-guest"];
    let built = names.iter().all(|name| folder.join(name).is_file());
    if !built {
        println!("NOT RUN: {} are not built: cargo build --workspace", names.join(", "));
    }
    built.then_some(folder)
}

/// A registry for everybody with signed packages of one repository.
struct Shelf {
    registry: Registry,
    folder: PathBuf,
}

impl Shelf {
    fn package(&self, command: &str, words: &[&str]) -> String {
        let root = self.folder.join("root.pem");
        std::fs::write(&root, &self.registry.root_pem).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bailey"))
            .args(["package", command])
            .args(words)
            .arg("--root-ca")
            .arg(root)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    fn push(&self, version: &str) -> String {
        let file = self.folder.join("journal.wasm");
        std::fs::write(&file, wat::parse_str(JOURNAL).unwrap()).unwrap();
        self.package("push", &[&file.display().to_string(), &format!("{}:{version}", self.repository())])
    }

    fn repository(&self) -> String {
        format!("{}/team/journal", self.registry.host)
    }
}

fn manifest_of(machine: &Machine, shelf: &Shelf, signer: &KeyPair) -> Vec<u8> {
    let measured = machine.programs().measure("bailey-keep", None).unwrap();
    let keep = measured.iter().find(|value| value.platform == Platform::Snp).unwrap();
    let measurement = keep.measurement.as_ref().unwrap().to_string();
    let manifest = json!({
        "Packages": { "keep": { "Measurements": { "Snp": measurement } } },
        "Platforms": { "Snp": {
            "MinimumTcb": { "Bootloader": 1, "Snp": 1, "Microcode": 1 },
            "EmulatedRoots": [machine.root_pem(Platform::Snp).unwrap()],
        } },
        "WorkloadSigners": { "release": { "Key": signer.public_key_pem() } },
        "Registries": { &shelf.registry.host: { "RootCA": shelf.registry.root_pem } },
        "Marbles": { "job": {
            "Package": "keep",
            "Workload": {
                "Repository": shelf.repository(), "Signers": ["release"], "MinimumVersion": "1.0.0",
                "Config": CONFIG,
            },
        } },
    });
    serde_json::to_vec(&manifest).unwrap()
}

struct World {
    machine: Machine,
    mesh: Mesh,
}

impl World {
    async fn launch(&self, package: &str) -> Result<String, Vec<String>> {
        let plan = KeepPlan {
            platform: Platform::Snp,
            marble: None,
            workload: PathBuf::new(),
            package: Some(package.parse().unwrap()),
            listen: None,
            peers: Vec::new(),
        };
        let (name, peers) = ("job".to_owned(), std::collections::BTreeMap::new());
        let keep = Keep { name, plan, program: None, peers, restart: Restart::Never };
        // The one before has ended, and is forgotten; before the first there is none.
        let _ = self.machine.stop("job");
        let log = Log::of(&self.machine, "job");
        if let KeepOutcome::Refused { codes, .. } = self.mesh.launch(&self.machine, &keep).await.unwrap() {
            return Err(codes);
        }
        let ended = log.until(|line| line["code"] == "WORKLOAD_ENDED").await.unwrap();
        assert_eq!(ended["exit"], 0);
        let printed = log.until(|line| line["code"] == "WORKLOAD_OUTPUT").await.unwrap();
        Ok(printed["line"].as_str().unwrap().to_owned())
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marble_takes_its_package_and_finds_its_volume() {
    let Some(beside) = programs() else { return };
    let Some(registry) = Registry::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let signer = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let key = folder.path().join("key.pem");
    std::fs::write(&key, signer.serialize_pem()).unwrap();
    let shelf = Shelf { registry, folder: folder.path().to_owned() };
    let first = shelf.push("1.0.0");
    shelf.package("sign", &[&first, "--key", &key.display().to_string()]);
    let unsigned = shelf.push("1.1.0");

    let home = folder.path().join("machine");
    std::fs::create_dir(&home).unwrap();
    let machine = Machine::start(&home, Programs::in_folder(beside)).unwrap();
    let owner = identity::create(&folder.path().join("people"), "owner").unwrap();
    let plan = CoordinatorPlan {
        platform: Platform::Sgx,
        names: vec!["localhost".into()],
        listen: None,
        mesh: None,
        marbles: None,
        metrics: None,
        broker: None,
        tpm: None,
        etcd: None,
    };
    let digest = identity::key_digest(&owner).unwrap();
    let (mesh, _) = Mesh::found(&machine, "coordinator", &plan, digest).await.unwrap();
    let client = mesh.client(Some(&owner)).unwrap();
    manifest::set(&client, &manifest_of(&machine, &shelf, &signer)).await.unwrap();
    let world = World { machine, mesh };

    assert_eq!(world.launch(&first).await, Ok("x".to_owned()));
    let volumes = home.join("volumes/job");
    copy(&volumes, &folder.path().join("old"));
    assert_eq!(world.launch(&first).await, Ok("xx".to_owned()), "what it stored is there");
    let refused = world.launch(&unsigned).await.unwrap_err();
    assert_eq!(refused, ["WORKLOAD_UNSIGNED"]);

    // Another version, by the command: what the manifest allows runs, and an older one does not any more.
    let newer = shelf.push("1.2.0");
    shelf.package("sign", &[&newer, "--key", &key.display().to_string()]);
    let agent = home.join("host").display().to_string();
    let deploy = |package: &str| bailey(&["deploy", package, "--process", "job", "--directory", &agent]);
    let deployed = deploy(&newer);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    assert_eq!(text(&deployed.stdout), format!("job runs {newer}\n"));
    for (package, code) in [(&first, "WORKLOAD_VERSION_ROLLED_BACK"), (&unsigned, "WORKLOAD_UNSIGNED")] {
        let refused = deploy(package);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(code) && said.contains("what ran before is launched again"), "{said}");
    }
    world.machine.stop("job").unwrap();

    std::fs::remove_dir_all(&volumes).unwrap();
    copy(&folder.path().join("old"), &volumes);
    let refused = world.launch(&newer).await.unwrap_err();
    assert_eq!(refused, ["VOLUME_ROLLED_BACK"], "the coordinator knows a newer one");
}
