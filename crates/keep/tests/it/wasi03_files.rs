//! Files of a component of WASI 0.3: the same tree as for all others.

use std::sync::Arc;

use keep::{
    command::{Ended, Which},
    runtime::Kind,
    world::Given,
};
use volume::{MemoryAnchor, Volume};
use zeroize::Zeroizing;

use crate::{
    run::{Finished, Run},
    volumes, workloads,
};

const CONFIG: &str = "[[files]]\nkind = \"stdout\"\n";
const TMPFS: &str = "[[tmpfs]]\npath = \"/tmp\"\nsize = \"1MiB\"\n";
const VOLUME: &str = "[[volumes]]\nname = \"data\"\npath = \"/data\"\nsize = \"1MiB\"\n";

/// Runs the command of `tests/command03` with these words.
pub fn command(words: &str) -> Run {
    let words: Vec<String> = words.split(' ').map(|word| format!("{word:?}")).collect();
    Run::of_workload(workloads::command03()).config(&format!("args = [{}]\n{CONFIG}", words.join(", ")))
}

/// What it printed, by line; it must have ended by itself.
pub fn lines(finished: &Finished) -> Vec<&str> {
    assert_eq!(finished.ended, Ended::Exit(0), "{finished:?}");
    finished.stdout.lines().collect()
}

fn given(volume: Arc<Volume>) -> Given {
    let files = [("/etc/app.toml".to_owned(), Zeroizing::new(b"key = 1".to_vec()))].into();
    Given { files, volumes: [("data".to_owned(), volume)].into(), ..Given::default() }
}

async fn with_volume(volume: Arc<Volume>, words: &str) -> Finished {
    command(words).more(TMPFS).more(VOLUME).given(given(volume)).finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_wasi_03_finds_what_it_wrote_to_a_volume_in_the_next_keep() {
    assert_eq!(workloads::command03().kind(), Kind::Command03);
    let (folder, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let first = "write /data/a canary ; append /data/a -name ; write-at /data/a X 3 ; read /data/a ; mkdir /data/folder ; \
                 rename /data/a /data/folder/b ; list /data ; list /data/folder ; size /data/folder/b ; \
                 fill /data/large 700000 ; cut /data/large 5 ; size /data/large";
    let run = with_volume(volumes::open(folder.path(), &anchor), first).await;
    let expected =
        ["done", "done", "done", "canXry-name", "done", "done", "folder", "b", "11", "true", "done", "5"];
    assert_eq!(lines(&run), expected);
    let second = "read /data/folder/b ; list /data ; remove /data/folder/b ; rmdir /data/folder ; list /data ; \
                  read /data/folder/b";
    let run = with_volume(volumes::open(folder.path(), &anchor), second).await;
    let read = lines(&run);
    assert_eq!(read[..5], ["canXry-name", "folder,large", "done", "done", "large"]);
    assert!(read[5].contains("NoEntry"), "{read:?}");
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"name" || window == b"canX"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_wasi_03_has_files_in_memory_that_end_with_it() {
    let words =
        "fill /tmp/large 700000 ; list / ; list /tmp ; rename /tmp/large /tmp/other ; size /tmp/other";
    for _ in 0..2 {
        let run = command(words).more(TMPFS).finish().await;
        assert_eq!(lines(&run), ["true", "tmp", "large", "done", "700000"]);
    }
}

/// Also what one stream cannot do is told by its future, and by nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_of_wasi_03_may_not_do_with_files_has_its_code() {
    let (folder, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let cases = [
        ("read ../etc/passwd", "NotPermitted"),
        ("read /data/../../etc/passwd", "NotPermitted"),
        ("read /etc/passwd", "NoEntry"),
        ("read /etc", "IsDirectory"),
        ("list /etc/app.toml", "NotDirectory"),
        ("write /etc/app.toml x", "ReadOnly"),
        ("write /etc/new x", "ReadOnly"),
        ("write-read-only /etc/app.toml", "ReadOnly"),
        ("write-read-only /tmp/a", "BadDescriptor"),
        ("fill /tmp/large 1048577", "InsufficientSpace"),
        ("fill /data/large 1048577", "InsufficientSpace"),
        ("write-at /tmp/a x 18446744073709551615", "FileTooLarge"),
        ("cut /tmp/a 18446744073709551615", "FileTooLarge"),
        ("cut /tmp/a 1048577", "InsufficientSpace"),
        ("rename /tmp/a /data/a", "CrossDevice"),
        ("link /tmp/a /tmp/b", "Unsupported"),
        ("mkdir /tmp", "ReadOnly"),
        ("mkdir /data/full", "Exist"),
        ("rmdir /data/full", "NotEmpty"),
    ];
    let words: Vec<&str> = cases.iter().map(|(words, _)| *words).collect();
    let words = format!("write /tmp/a x ; mkdir /data/full ; write /data/full/a x ; {}", words.join(" ; "));
    let run = with_volume(volumes::open(folder.path(), &anchor), &words).await;
    let answers = lines(&run);
    for ((words, code), answer) in cases.iter().zip(&answers[3..]) {
        assert!(answer.starts_with("error ") && answer.contains(code), "{words}: {answer}");
    }
    // Configured files are read as ever.
    let run = with_volume(volumes::open(folder.path(), &anchor), "read /etc/app.toml ; read /tmp/a").await;
    assert_eq!(lines(&run)[0], "key = 1");
}

/// S-26: no altered byte reaches a program of 0.3 either.
#[tokio::test(flavor = "multi_thread")]
async fn s26_altered_data_never_reaches_a_program_of_wasi_03() {
    let (folder, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    with_volume(volumes::open(folder.path(), &anchor), "write /data/f x").await;
    let volume = volumes::open(folder.path(), &anchor);
    let data = folder.path().join("data");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&data, bytes).unwrap();
    let run = with_volume(volume, "read /data/f ; list /data").await;
    assert_eq!(lines(&run), ["error ErrorCode::Io", "f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_ends_a_program_of_wasi_03_with_its_reason() {
    let limits = [
        ("spin", "[limits]\ncpu = \"100ms\"", Which::Cpu),
        ("wait 60000", "[limits]\nwall = \"200ms\"", Which::Wall),
        ("flood", "[limits]\noutput = \"64KiB\"", Which::Output),
        ("hog", "[limits]\nmemory = \"16MiB\"", Which::Memory),
        (
            "open /tmp",
            "[limits]\nopen-files = 20\n[[tmpfs]]\npath = \"/tmp\"\nsize = \"1MiB\"",
            Which::OpenFiles,
        ),
        ("list /", "[limits]\nopen-files = 0\n", Which::OpenFiles),
    ];
    for (words, limit, which) in limits {
        let run = command(words).more(limit).finish().await;
        assert_eq!(run.ended, Ended::Limit(which), "{words}: {run:?}");
        if which == Which::Output {
            assert_eq!(run.stdout.len(), 64 << 10);
        }
    }
}
