//! A volume of a Keep in a virtual machine: its files are the host's, and cross as requests; no folder is shared, and the
//! guest's kernel reads no file system of the host's.

mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use appraisal::{Policy, Rule};
use attested_tls::{clock, launch::DirectConfiguration};
use deploy::{DeployError, Deployment, Ran, Silent, Streams, Wanted};
use keep_protocol::{
    Sensitive,
    keep::{Head, Outcome, VolumeKey},
};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use vm::{Guest, Happened, Hardware, Launch, Machine, Protection, arguments::STORAGE, authority::Authority};
use vm_image::Image;

use world::{anchor, loopback, parts, value, written};

const PORT: u16 = 7000;

/// Appends its input to `/data/journal`, syncs it, and prints all of it.
const JOURNAL: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_sync" (func $sync (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 32) "data/journal")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 1024))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 12) (i32.const 1) (i64.const 0x52)
                (i64.const 0) (i32.const 1) (i32.const 16))
            (then (call $exit (i32.const 9))))
        (drop (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (if (call $sync (i32.load (i32.const 16))) (then (call $exit (i32.const 10))))
        (i32.store (i32.const 4) (i32.const 8192))
        (drop (call $pread (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

struct Host {
    guest: Guest,
    folder: PathBuf,
    authority: Authority,
    now: OffsetDateTime,
    configuration: Vec<u8>,
    wanted: Wanted,
}

impl Host {
    fn new(image: &Image, folder: &Path) -> Self {
        let unified = written(image, folder);
        let configuration = DirectConfiguration { version: keep_protocol::VERSION }.to_json();
        let registers = image.registers(&unified, Some(&configuration)).expect("registers");
        let now = OffsetDateTime::from_unix_timestamp(clock::system()().0).expect("a time");
        let authority = Authority::open(folder, now).expect("an authority");
        let mut policy = Policy::production();
        policy.boot.secure_boot = Rule::Allow;
        policy.trust_anchors.push(anchor(&authority));
        let wanted = Wanted { policy, measurements: vec![value(registers)] };
        let guest = Guest::open(folder).expect("a guest");
        Self { guest, folder: folder.to_owned(), authority, now, configuration, wanted }
    }

    /// One deployment in a machine of its own, whose volumes lie below `storage`.
    async fn run(
        &self,
        storage: &Path,
        head: Option<Head>,
        input: &'static [u8],
    ) -> (Result<Ran, DeployError>, String) {
        let folder = tempfile::tempdir_in(&self.folder).expect("a folder");
        let launch = Launch {
            guest: &self.guest,
            hardware: Hardware::default(),
            protection: Protection::Tpm,
            configuration: &self.configuration,
            arguments: &[
                "--channel".into(),
                format!("0.0.0.0:{PORT}"),
                "--storage".into(),
                format!("{}:{}", STORAGE.0, STORAGE.1),
            ],
            workload: None,
            ports: &[loopback(PORT)],
            storage: true,
            outgoing: false,
        };
        let mut machine =
            Machine::launch(&launch, folder.path(), &self.authority, self.now).expect("a machine");
        let (hosts, place) = (vm::storage(folder.path()).expect("storage"), storage.to_owned());
        let serving = thread::spawn(move || volume::remote::serve(&hosts, &place));
        let address = machine.address(PORT).expect("an address");
        let mut machine = tokio::task::spawn_blocking(move || {
            let mut console = String::new();
            while !console.contains("WAITING") {
                match machine.next_event().expect("the machine is there") {
                    Happened::Console(bytes) => console.push_str(&String::from_utf8_lossy(&bytes)),
                    Happened::Ended(code) => panic!("it ended with {code:?}:\n{console}"),
                }
            }
            machine
        })
        .await
        .expect("a Keep that waits");
        // On a machine that is busy a handshake can take longer than it may: then the Keep waits for the next client.
        let mut attempts = 0;
        let keep = loop {
            let stream = TcpStream::connect(address).await.expect("a connection");
            match deploy::verify(stream, clock::system(), &self.wanted, &mut Silent).await {
                Ok(keep) => break keep,
                Err(DeployError::Keep(error)) if error.refused().is_none() && attempts < 20 => attempts += 1,
                Err(error) => panic!("{error:#?}"),
            }
        };
        let config = format!(
            "{}[[volumes]]\nname = \"data\"\npath = \"/data\"\nsize = \"1MiB\"\n",
            keep_config::WITHOUT_A_FILE
        );
        let key = VolumeKey { key: Sensitive::new(vec![7; 32]), head, name: "data".into() };
        let workload = wat::parse_str(JOURNAL).expect("a module").into();
        let deployment =
            Deployment { workload, config: Some(config), volumes: vec![key], ..Deployment::default() };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let streams = Streams { stdin: Box::new(input), stdout: &mut stdout, stderr: &mut stderr };
        let ran = deploy::run(keep, &deployment, streams, &mut Silent, std::future::pending()).await;
        tokio::task::spawn_blocking(move || {
            while !matches!(machine.next_event().expect("the machine is there"), Happened::Ended(_)) {}
        })
        .await
        .expect("an end");
        serving.join().expect("the host's thread").expect("requests to the end");
        (ran, String::from_utf8(stdout).expect("text"))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let place = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &place);
        } else {
            fs::copy(&entry, place).expect("copied");
        }
    }
}

/// Another bit in each log.
fn alter(storage: &Path) {
    for volume in fs::read_dir(storage).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let files = fs::read_dir(volume).expect("a folder").map(|entry| entry.expect("an entry").path());
        for log in files.filter(|path| path.to_string_lossy().contains("log-")) {
            let mut bytes = fs::read(&log).expect("a log");
            *bytes.last_mut().expect("bytes") ^= 1;
            fs::write(&log, bytes).expect("written");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_a_virtual_machine_outlives_it_and_an_altered_file_is_refused() {
    let Some(parts) = parts() else { return };
    let image = Image::build(&parts).expect("an image");
    let folder = tempfile::tempdir().expect("a folder");
    let host = Host::new(&image, folder.path());
    let [storage, altered] = ["storage", "altered"].map(|name| folder.path().join(name));
    fs::create_dir(&storage).expect("a folder");

    let (ran, printed) = host.run(&storage, None, b"one ").await;
    let ran = ran.expect("a run");
    assert_eq!((ran.outcome, printed.as_str()), (Outcome::Exit { code: 0 }, "one "));
    let head = ran.volumes[0].head;
    copy(&storage, &altered);
    alter(&altered);

    let (again, refused) =
        tokio::join!(host.run(&storage, Some(head), b"two "), host.run(&altered, Some(head), b"three "));
    assert_eq!((again.0.expect("a run").outcome, again.1.as_str()), (Outcome::Exit { code: 0 }, "one two "));
    assert_eq!(refused.0.expect_err("refused").codes(), ["VOLUMES_MISMATCH", "VOLUME_TAMPERED"]);
    assert_eq!(refused.1, "");
}
