//! A volume whose files are at the other end of a stream: the same volume, and two sides of which each may lie.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    thread,
};

use volume::{
    Error, Folder, Host, Kind, MemoryAnchor, Options, Time, Volume,
    remote::{Link, Remote, serve},
    tree::ROOT,
};

use crate::plain::{NOW, key};

/// A link to a host that answers for this folder, until the link is dropped.
fn link(folder: &Path) -> (Arc<Link>, thread::JoinHandle<std::io::Result<()>>) {
    let (ours, hosts) = UnixStream::pair().unwrap();
    let folder = folder.to_owned();
    (Link::new(ours), thread::spawn(move || serve(&hosts, &folder)))
}

fn open(host: impl Host + 'static, anchor: &MemoryAnchor) -> Result<Volume, Error> {
    Volume::open(host, &key(), anchor.clone(), &Options::default())
}

fn place(folder: &Path) -> std::path::PathBuf {
    let id: String = key().id().iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join(id)
}

#[test]
fn a_volume_over_a_stream_is_the_same_volume() {
    let (folder, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let content: Vec<u8> = (0..700_000_u32).map(|index| (index % 251) as u8).collect();
    let (there, serving) = link(folder.path());
    let volume = open(Remote::new(Arc::clone(&there), &key()), &anchor).unwrap();
    let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    volume.write_at(file, 0, &content, NOW).unwrap();
    volume.commit().unwrap();
    // Nobody else has it, over this link, another, or none.
    assert!(matches!(open(Remote::new(Arc::clone(&there), &key()), &anchor), Err(Error::InUse)));
    assert!(matches!(open(Folder::new(&place(folder.path())), &anchor), Err(Error::InUse)));
    drop(volume);

    let volume = open(Remote::new(Arc::clone(&there), &key()), &anchor).unwrap();
    let read = |volume: &Volume| {
        let file = volume.lookup(ROOT, "f").unwrap();
        let mut read = vec![0; content.len()];
        assert_eq!(volume.read_at(file, 0, &mut read).unwrap(), content.len());
        read
    };
    assert!(read(&volume) == content);
    volume.write_at(volume.lookup(ROOT, "f").unwrap(), 3, b"more", Time(2)).unwrap();
    volume.commit().unwrap();
    drop((volume, there));
    // The end of the link is the end of its locks.
    serving.join().unwrap().unwrap();
    let volume = open(Folder::new(&place(folder.path())), &anchor).unwrap();
    assert_eq!(read(&volume)[..8], [0, 1, 2, b'm', b'o', b'r', b'e', 7]);
}

#[test]
fn s26_what_is_altered_behind_a_stream_is_found() {
    let (folder, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let (there, _serving) = link(folder.path());
    let volume = open(Remote::new(Arc::clone(&there), &key()), &anchor).unwrap();
    let file = volume.create(ROOT, "f", Kind::File, NOW).unwrap();
    volume.write_at(file, 0, b"kept", NOW).unwrap();
    volume.commit().unwrap();
    drop(volume);
    let path = fs::read_dir(place(folder.path())).unwrap().map(|entry| entry.unwrap().path());
    let log = path.into_iter().find(|path| path.to_string_lossy().contains("log-")).unwrap();
    let mut bytes = fs::read(&log).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&log, bytes).unwrap();
    let error = open(Remote::new(there, &key()), &anchor).unwrap_err();
    assert_eq!(error.code(), "VOLUME_TAMPERED");
}

/// A host whose answer to everything is this, after which it is gone.
fn lying(answer: Vec<u8>) -> Arc<Link> {
    let (ours, mut hosts) = UnixStream::pair().unwrap();
    thread::spawn(move || {
        let mut request = [0; 30];
        let _ = hosts.read(&mut request);
        let _ = hosts.write_all(&answer);
    });
    Link::new(ours)
}

#[test]
fn a_host_that_lies_over_a_stream_is_a_disk_that_fails() {
    for answer in [
        vec![],
        vec![1, 0],
        vec![0, 0, 0, 0],
        vec![0xff, 0xff, 0xff, 0xff, 0],
        vec![1, 0, 0, 0, 77],
        vec![2, 0, 0, 0, 1, 0],
        vec![5, 0, 0, 0, 0, 0xff, 0xfe, 0xfd, b'\n'],
        [&[0xff, 0xff, 1, 0, 0][..], &[b'x'; 0x1_ffff]].concat(),
    ] {
        let remote = Remote::new(lying(answer.clone()), &key());
        assert!(remote.list().is_err(), "{answer:?}");
        // A link that broke stays so.
        assert!(remote.list().is_err() && remote.open("data", true).is_err());
    }
    // More than was asked for.
    let remote = Remote::new(lying([&[20, 0, 0, 0, 0][..], &[1; 19]].concat()), &key());
    assert!(remote.open("data", true).is_err());
}

/// A frame: operation, volume, offset, name, bytes.
fn request(operation: u8, offset: u64, name: &str, bytes: &[u8]) -> Vec<u8> {
    let head = [&[operation][..], &[7; 16], &offset.to_le_bytes(), &[u8::try_from(name.len()).unwrap()]];
    let body = [&head.concat()[..], name.as_bytes(), bytes].concat();
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &body].concat()
}

const LENGTH: u8 = 1;
const CREATE: u8 = 2;
const REMOVE: u8 = 3;
const READ: u8 = 7;
const WRITE: u8 = 8;

/// The Keep's side is anyone's: the tenant's folder, the files of volumes, and nothing else.
#[test]
fn s43_a_guest_reaches_the_files_of_volumes_and_nothing_else() {
    let above = tempfile::tempdir().unwrap();
    fs::write(above.path().join("secret"), "other tenant").unwrap();
    let folder = above.path().join("acme");
    fs::create_dir(&folder).unwrap();
    let (mut guest, host) = UnixStream::pair().unwrap();
    let at = folder.clone();
    let serving = thread::spawn(move || serve(&host, &at));
    let mut ask = |request: &[u8]| {
        guest.write_all(request).unwrap();
        let mut length = [0; 4];
        guest.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        guest.read_exact(&mut answer).unwrap();
        answer
    };
    assert_eq!(ask(&request(CREATE, 0, "data", b"")), [0]);
    assert_eq!(ask(&request(WRITE, 0, "data", b"mine")), [0]);
    assert_eq!(ask(&request(READ, 1, "data", &2_u32.to_le_bytes())), b"\0in");
    let refused = 4;
    for name in [
        "",
        "..",
        "../secret",
        "../../secret",
        "data/",
        "./data",
        "lock",
        "log-",
        "log-000000000000000g",
        "DATA",
    ] {
        for operation in [LENGTH, CREATE, REMOVE, READ, WRITE] {
            let answer = ask(&request(operation, 0, name, &4_u32.to_le_bytes()));
            assert_eq!(answer, [refused], "{operation} {name:?}");
        }
    }
    assert_eq!(ask(&request(WRITE, 1 << 40, "data", b"far")), [refused]);
    assert_eq!(ask(&request(READ, 0, "data", b"")), [1]);
    let read = ask(&request(READ, 0, "data", &u32::MAX.to_le_bytes()));
    assert_eq!(read, b"\0mine");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "one volume, and nothing beside it");
    assert_eq!(fs::read_to_string(above.path().join("secret")).unwrap(), "other tenant");
    // What is no request ends it.
    guest.write_all(&(1_u32 << 30).to_le_bytes()).unwrap();
    assert!(serving.join().unwrap().is_err());
}
