//! Volumes whose key and newest state the client has, from one Keep to the next.

use std::{
    fs,
    path::{Path, PathBuf},
};

use attested_tls::clock;
use deploy::{DeployError, Deployment, Ran, Silent, Streams, Watcher};
use keep_config::WITHOUT_A_FILE;
use keep_protocol::{
    Sensitive,
    keep::{Head, Outcome, VolumeHead, VolumeKey},
};
use testkit::tee::NOW;
use tokio::net::TcpStream;

use crate::{
    modules,
    world::{Keep, deployment, wanted},
};

/// A client that holds, or does not.
#[derive(Default)]
struct Holding {
    heads: Vec<Head>,
    refuses: bool,
}

impl Watcher for Holding {
    fn step(&mut self, _: deploy::Step, _: &str) {}

    fn hold(&mut self, told: &VolumeHead) -> std::io::Result<()> {
        if self.refuses {
            return Err(std::io::Error::other("the disk is full"));
        }
        self.heads.push(told.head);
        Ok(())
    }
}

fn with(key: u8, head: Option<Head>, volume: &str, after: &str) -> Deployment {
    let mut deployment = deployment(modules::journal(after));
    let volume = format!("[[volumes]]\nname = \"data\"\npath = \"/data\"\nsize = \"1MiB\"\n{volume}");
    deployment.config = Some(format!("{WITHOUT_A_FILE}{volume}"));
    deployment.volumes = vec![VolumeKey { key: Sensitive::new(vec![key; 32]), head, name: "data".into() }];
    deployment
}

async fn run(
    storage: &Path,
    deployment: &Deployment,
    input: &'static [u8],
    holding: &mut Holding,
) -> (Result<Ran, DeployError>, String) {
    run_in(Keep::start_with(storage).await, deployment, input, holding).await
}

async fn run_in(
    keep: Keep,
    deployment: &Deployment,
    input: &'static [u8],
    holding: &mut Holding,
) -> (Result<Ran, DeployError>, String) {
    let stream = TcpStream::connect(keep.address).await.unwrap();
    let verified = deploy::verify(stream, clock::fixed(NOW), &wanted(), &mut Silent).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams = Streams { stdin: Box::new(input), stdout: &mut stdout, stderr: &mut stderr };
    let ran = deploy::run(verified, deployment, streams, holding, std::future::pending()).await;
    keep.served.await.unwrap();
    (ran, String::from_utf8(stdout).unwrap())
}

/// One deployment that ends well; the newest head.
async fn journal(storage: &Path, head: Option<Head>, input: &'static [u8]) -> (String, Head) {
    let mut holding = Holding::default();
    loop {
        let (ran, printed) = run(storage, &with(7, head, "", ""), input, &mut holding).await;
        // The Keep before has ended, and its last thread has not.
        if matches!(&ran, Err(error) if error.codes().iter().any(|code| code == "VOLUME_IN_USE")) {
            continue;
        }
        let ran = ran.unwrap();
        assert_eq!(ran.outcome, Outcome::Exit { code: 0 });
        let newest = ran.volumes[0].head;
        assert_eq!(holding.heads.last(), Some(&newest), "each was told when it was made");
        return (printed, newest);
    }
}

async fn refused(storage: &Path, deployment: &Deployment) -> Vec<String> {
    let (ran, printed) = run(storage, deployment, b"x", &mut Holding::default()).await;
    assert_eq!(printed, "");
    ran.unwrap_err().codes()
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The one volume's folder.
fn folder(storage: &Path) -> PathBuf {
    let folders: Vec<_> = fs::read_dir(storage).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1);
    folders[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_wrote_is_there_for_its_next_deployment() {
    let storage = tempfile::tempdir().unwrap();
    let (printed, first) = journal(storage.path(), None, b"canary ").await;
    assert_eq!(printed, "canary ");
    let (printed, second) = journal(storage.path(), Some(first), b"again ").await;
    assert_eq!(printed, "canary again ");
    assert!(second.sequence > first.sequence);
    for file in fs::read_dir(folder(storage.path())).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"), "the host reads it");
    }
    // Read-only, nothing moves.
    let deployment = with(7, Some(second), "read-only = true\n", "");
    let (ran, _) = run(storage.path(), &deployment, b"", &mut Holding::default()).await;
    let ran = ran.unwrap();
    assert!(matches!(ran.outcome, Outcome::Exit { code } if code >= 20), "{ran:?}");
    assert_eq!(ran.volumes, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_an_older_copy_is_refused_by_what_the_client_holds() {
    let (storage, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, first) = journal(storage.path(), None, b"one ").await;
    copy(&folder(storage.path()), &old.path().join("old"));
    let (_, second) = journal(storage.path(), Some(first), b"two ").await;
    let now = folder(storage.path());
    copy(&now, &old.path().join("new"));
    copy(&old.path().join("old"), &now);
    assert_eq!(
        refused(storage.path(), &with(7, Some(second), "", "")).await,
        ["VOLUMES_MISMATCH", "VOLUME_ROLLED_BACK"]
    );
    fs::remove_dir_all(&now).unwrap();
    assert_eq!(refused(storage.path(), &with(7, Some(second), "", "")).await[1], "VOLUME_MISSING");
    copy(&old.path().join("new"), &now);
    // A client that remembers too little does not go on from there either.
    assert_eq!(refused(storage.path(), &with(7, None, "", "")).await[1], "VOLUME_UNANCHORED");
    assert_eq!(refused(storage.path(), &with(7, Some(first), "", "")).await[1], "VOLUME_AHEAD_OF_ANCHOR");
    // Another key is another volume, in a folder of its own.
    assert_eq!(journal(storage.path(), Some(second), b"three").await.0, "one two three");
}

/// A commit counts once the client holds it: a client that cannot, ends the deployment, and goes on later.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_until_the_client_holds_it() {
    let storage = tempfile::tempdir().unwrap();
    let (_, first) = journal(storage.path(), None, b"one ").await;
    let mut refuses = Holding { refuses: true, ..Holding::default() };
    let (ran, _) = run(storage.path(), &with(7, Some(first), "", ""), b"two ", &mut refuses).await;
    assert_eq!(ran.unwrap_err().codes(), ["VOLUME_NOT_HELD"]);
    assert_eq!(journal(storage.path(), Some(first), b"three").await.0, "one three");
}

/// A client that is lost between two commits finds what it holds, and what was told last.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_lost_loses_nothing_that_it_holds() {
    let storage = tempfile::tempdir().unwrap();
    let (_, first) = journal(storage.path(), None, b"one ").await;
    let keep = Keep::start_with(storage.path()).await;
    let stream = TcpStream::connect(keep.address).await.unwrap();
    let verified = deploy::verify(stream, clock::fixed(NOW), &wanted(), &mut Silent).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut holding = Holding::default();
    {
        let input = Box::new(&b"two "[..]);
        let streams = Streams { stdin: input, stdout: &mut stdout, stderr: &mut stderr };
        let deployment = with(7, Some(first), "", modules::FOREVER);
        let running = deploy::run(verified, &deployment, streams, &mut holding, std::future::pending());
        // Long enough for its sync; then the client is gone without a word.
        let ended = tokio::time::timeout(std::time::Duration::from_secs(2), running).await;
        assert!(ended.is_err(), "{ended:?}");
    }
    keep.served.await.unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), "one two ", "it had synced");
    let newest = *holding.heads.last().unwrap();
    assert_eq!(journal(storage.path(), Some(newest), b"three").await.0, "one two three");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_those_of_the_configuration_and_need_storage() {
    let storage = tempfile::tempdir().unwrap();
    let whole = with(7, None, "", "");
    let none = Deployment { volumes: Vec::new(), ..whole.clone() };
    assert_eq!(refused(storage.path(), &none).await, ["VOLUMES_MISMATCH", "VOLUME_NOT_GIVEN"]);
    let unused = Deployment { config: Some(WITHOUT_A_FILE.into()), ..whole.clone() };
    assert_eq!(refused(storage.path(), &unused).await, ["VOLUMES_MISMATCH", "VOLUME_UNUSED"]);
    let nowhere = crate::world::run(&whole, b"").await;
    assert_eq!(nowhere.codes(), ["VOLUMES_MISMATCH", "VOLUMES_NOWHERE"]);
    // A host whose folder cannot be written says so, and nothing is lost.
    let file = storage.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(refused(&file, &whole).await, ["VOLUMES_MISMATCH", "HOST_DISK_FAILED"]);
}

/// A disk of the host's with little room.
struct Disk(tempfile::TempDir);

fn mount(options: &[&str], path: &Path) -> bool {
    let mount = std::process::Command::new("mount").args(options).arg(path).output();
    mount.is_ok_and(|output| output.status.success())
}

impl Disk {
    fn small() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if mount(&["-t", "tmpfs", "-o", "size=192k", "tmpfs"], folder.path()) {
            return Some(Self(folder));
        }
        println!("NOT RUN: only root can mount a small disk");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_host_is_told_and_nothing_that_was_committed_is_lost() {
    let Some(disk) = Disk::small() else { return };
    let storage = disk.0.path();
    let (_, first) = journal(storage, None, b"one ").await;
    let full = Deployment { workload: modules::fills().into(), ..with(7, Some(first), "", "") };
    let mut holding = Holding::default();
    let (ran, _) = run(storage, &full, b"", &mut holding).await;
    let outcome = ran.unwrap().outcome;
    assert!(matches!(&outcome, Outcome::Failed { code, .. } if code == "STORAGE_FAILED"), "{outcome:?}");
    let newest = holding.heads.last().copied().unwrap_or(first);
    assert!(mount(&["-o", "remount,size=8m"], storage));
    assert_eq!(journal(storage, Some(newest), b"two").await.0, "one two");
}

/// As in a virtual machine: the Keep has no folder of the host's, but a port behind which the host answers for files.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_behind_a_port_is_the_same_volume() {
    let storage = tempfile::tempdir().unwrap();
    let run = async |head: Option<Head>, input: &'static [u8]| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, folder) = (listener.local_addr().unwrap(), storage.path().to_owned());
        let serving =
            std::thread::spawn(move || volume::remote::serve(&listener.accept().unwrap().0, &folder));
        let keep = Keep::start_at(address).await;
        let ran = run_in(keep, &with(7, head, "", ""), input, &mut Holding::default()).await;
        // The Keep's last thread has ended with its link.
        serving.join().unwrap().unwrap();
        ran
    };
    let (ran, printed) = run(None, b"canary ").await;
    assert_eq!(printed, "canary ");
    let first = ran.unwrap().volumes[0].head;
    let (ran, printed) = run(Some(first), b"again ").await;
    assert_eq!(printed, "canary again ");
    let second = ran.unwrap().volumes[0].head;
    let files = fs::read_dir(folder(storage.path())).unwrap().map(|file| file.unwrap().path());
    let log = files.into_iter().find(|path| path.to_string_lossy().contains("log-")).unwrap();
    let mut bytes = fs::read(&log).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&log, bytes).unwrap();
    let (ran, _) = run(Some(second), b"x").await;
    assert_eq!(ran.unwrap_err().codes(), ["VOLUMES_MISMATCH", "VOLUME_TAMPERED"]);

    // Nobody answers.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (ran, _) =
        run_in(Keep::start_at(closed).await, &with(7, None, "", ""), b"", &mut Holding::default()).await;
    assert_eq!(ran.unwrap_err().codes(), ["VOLUMES_MISMATCH", "VOLUMES_NOWHERE"]);
}
