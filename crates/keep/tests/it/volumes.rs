//! A component's files on a volume and in memory, through `wasi:filesystem`, from one Keep to the next.

use std::{path::Path, sync::Arc};

use keep::admission::Admission;
use keep_config::KeepConfig;
use volume::{Folder, MemoryAnchor, Options, Volume, VolumeKey};

use crate::{client::Client, pki::Root, running::Running, workloads};

const CONFIG: &str = r#"
    [[volumes]]
    name = "data"
    path = "/data"
    size = "1MiB"
    [[tmpfs]]
    path = "/tmp"
    size = "1MiB"
"#;

pub fn open(folder: &Path, anchor: &MemoryAnchor) -> Arc<Volume> {
    let options = Options { size: 1 << 20, read_only: false };
    loop {
        match Volume::open(Folder::new(folder), &VolumeKey::new([9; 32]), anchor.clone(), &options) {
            // The Keep before has ended, and its last thread has not.
            Err(volume::Error::InUse) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return Arc::new(opened.unwrap()),
        }
    }
}

/// Asks one Keep after the other, in its own life.
async fn ask(volume: Arc<Volume>, paths: &[&str]) -> Vec<String> {
    let config = Some(Arc::new(KeepConfig::parse(CONFIG).unwrap()));
    let volumes = [("data".to_owned(), volume)].into();
    let admission = Admission { config, volumes, ..Admission::default() };
    let root = Root::new();
    let keep = Running::start(workloads::probe(), admission, root.public("probe")).await;
    let mut client = Client::to(&keep, &root).await;
    let mut answers = Vec::new();
    for path in paths {
        answers.push(client.get(path).await.text);
    }
    keep.stop().await;
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_wrote_to_a_volume_is_there_for_the_next_keep() {
    let (folder, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let paths = [
        "/write?p=/data/canary-name",
        "/mkdir?p=/data/folder",
        "/write?p=/data/folder/inner",
        "/write?p=/tmp/gone",
        "/read?p=/tmp/gone",
        "/list?p=/data",
        "/write?p=/etc",
        "/rename?p=/data/canary-name",
    ];
    let answers = ask(open(folder.path(), &anchor), &paths).await;
    assert_eq!(answers[4..6], ["\"x\"", "\"canary-name,folder\""]);
    assert!(answers[6].contains("ReadOnlyFilesystem"), "{answers:?}");
    assert!(answers[7].contains("error"), "out of the volume: {answers:?}");

    let paths = [
        "/read?p=/data/canary-name",
        "/size?p=/data/folder/inner",
        "/list?p=/tmp",
        "/remove?p=/data/canary-name",
    ];
    let answers = ask(open(folder.path(), &anchor), &paths).await;
    assert_eq!(answers[..3], ["\"x\"", "1", "\"\""]);
    let answers = ask(open(folder.path(), &anchor), &["/list?p=/data"]).await;
    assert_eq!(answers, ["\"folder\""]);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
    }
}

/// S-26: a host that alters data of a volume that is open gets no byte of it to the program.
#[tokio::test(flavor = "multi_thread")]
async fn s26_altered_data_never_reaches_the_program() {
    let (folder, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    ask(open(folder.path(), &anchor), &["/write?p=/data/f"]).await;
    let volume = open(folder.path(), &anchor);
    let data = folder.path().join("data");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&data, bytes).unwrap();
    let answers = ask(volume, &["/read?p=/data/f", "/list?p=/data"]).await;
    assert!(answers[0].contains("error"), "{answers:?}");
    assert_eq!(answers[1], "\"f\"");
}
