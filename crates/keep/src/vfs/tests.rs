use volume::tree::TreeError;

use super::*;

const RW: Open =
    Open { create: false, exclusive: false, truncate: false, directory: false, read: true, write: true };
const NEW: Open = Open { create: true, ..RW };
const READ: Open = Open { write: false, ..RW };

fn vfs(files: &[&str], tmpfs: u64, max_open: u32) -> (Arc<Vfs>, Handle) {
    let files =
        files.iter().map(|path| ((*path).to_owned(), Zeroizing::new(path.as_bytes().to_vec()))).collect();
    let vfs = Vfs::new(files, vec![("/tmp".to_owned(), Source::Tmpfs(tmpfs))], max_open).unwrap();
    let root = vfs.root().unwrap();
    (vfs, root)
}

fn content(root: &Handle, path: &str) -> Vec<u8> {
    let handle = root.open_at(path, READ).unwrap();
    let mut bytes = vec![0; usize::try_from(handle.stat().unwrap().size).unwrap()];
    let read = handle.read_at(0, &mut bytes).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

#[test]
fn no_path_leads_above_its_directory() {
    let (_vfs, root) = vfs(&["/d/e/f", "/top"], 0, 100);
    let d = root.open_at("d", RW).unwrap();
    assert_eq!(d.stat_at("..").err(), Some(Error::Outside));
    assert_eq!(d.stat_at("e/../../top").err(), Some(Error::Outside));
    assert_eq!(d.stat_at("/top").err(), Some(Error::Outside));
    assert_eq!(root.stat_at("tmp/../../x").err(), Some(Error::Outside));
    assert_eq!(root.stat_at("d/e/f/..").err(), Some(TreeError::NotDirectory.into()));
    assert_eq!(root.stat_at("d/e/f/").err(), Some(TreeError::NotDirectory.into()));
    assert_eq!(root.stat_at("d/x").err(), Some(TreeError::Absent.into()));
    assert_eq!(root.stat_at("d/../top").unwrap().node, root.stat_at("./top").unwrap().node);
    let tmp = root.open_at("tmp", RW).unwrap();
    for path in ["..", "../top", "x/../.."] {
        assert!(tmp.open_at(path, NEW).is_err(), "{path}");
    }
    assert_eq!(tmp.rename_at("../top", &tmp, "x").err(), Some(Error::Outside));
}

#[test]
fn files_of_the_configuration_are_read_only() {
    let (_vfs, root) = vfs(&["/etc/conf"], 0, 100);
    assert_eq!(content(&root, "etc/conf"), b"/etc/conf");
    assert_eq!(root.open_at("etc/conf", RW).err(), Some(Error::ReadOnly));
    assert_eq!(root.open_at("etc/new", NEW).err(), Some(Error::ReadOnly));
    assert_eq!(root.open_at("etc/conf", Open { truncate: true, ..READ }).err(), Some(Error::ReadOnly));
    assert_eq!(root.unlink_at("etc/conf"), Err(Error::ReadOnly));
    assert_eq!(root.create_directory_at("x"), Err(Error::ReadOnly));
    assert_eq!(root.remove_directory_at("tmp"), Err(Error::ReadOnly));
    assert_eq!(root.set_times_at("etc/conf", Some(Time(1)), None), Err(Error::ReadOnly));
    assert_eq!(root.rename_at("etc/conf", &root, "tmp/conf"), Err(Error::CrossDevice));
}

#[test]
fn what_was_not_opened_for_writing_is_not_written() {
    let (_vfs, root) = vfs(&[], 100, 100);
    root.open_at("tmp/f", NEW).unwrap().append(b"x").unwrap();
    let f = root.open_at("tmp/f", READ).unwrap();
    assert_eq!(f.write_at(0, b"y"), Err(Error::BadDescriptor));
    assert_eq!(f.append(b"y"), Err(Error::BadDescriptor));
    assert_eq!(f.set_size(0), Err(Error::BadDescriptor));
    let tmp = root.open_at("tmp", READ).unwrap();
    assert_eq!(tmp.open_at("f", RW).err(), Some(Error::BadDescriptor));
    assert_eq!(tmp.open_at("g", NEW).err(), Some(Error::BadDescriptor));
    assert_eq!(tmp.unlink_at("f"), Err(Error::BadDescriptor));
    assert_eq!(tmp.create_directory_at("d"), Err(Error::BadDescriptor));
    assert_eq!(root.rename_at("tmp/f", &tmp, "g"), Err(Error::BadDescriptor));
    let write_only = root.open_at("tmp/f", Open { read: false, ..RW }).unwrap();
    assert_eq!(write_only.read_at(0, &mut [0]), Err(Error::BadDescriptor));
}

#[test]
fn a_tmpfs_holds_no_more_than_its_size() {
    let (_vfs, root) = vfs(&[], 10, 100);
    let f = root.open_at("tmp/f", NEW).unwrap();
    f.write_at(0, b"12345678").unwrap();
    assert_eq!(f.append(b"901"), Err(Error::NoSpace));
    f.append(b"90").unwrap();
    assert_eq!(f.set_size(1 << 60), Err(Error::NoSpace));
    assert_eq!(f.write_at(u64::MAX, b"x"), Err(Error::TooLarge));
    root.unlink_at("tmp/f").unwrap();
    assert_eq!(root.open_at("tmp/g", NEW).unwrap().append(b"x"), Err(Error::NoSpace), "f is still open");
    drop(f);
    root.open_at("tmp/g", RW).unwrap().append(b"x").unwrap();
}

#[test]
fn a_tmpfs_reads_back_what_was_written() {
    let (_vfs, root) = vfs(&[], 1000, 100);
    root.create_directory_at("tmp/d/").unwrap();
    let f = root.open_at("tmp/d/f", NEW).unwrap();
    f.write_at(3, b"abc").unwrap();
    f.append(b"d").unwrap();
    assert_eq!(content(&root, "tmp/d/f"), b"\0\0\0abcd");
    assert_eq!(
        root.open_at("tmp/d/f", Open { exclusive: true, ..NEW }).err(),
        Some(TreeError::Exists.into())
    );
    root.rename_at("tmp/d/f", &root.open_at("tmp", RW).unwrap(), "g").unwrap();
    assert_eq!(root.open_at("tmp", READ).unwrap().entries().unwrap().len(), 2);
    root.remove_directory_at("tmp/d").unwrap();
    root.open_at("tmp/g", Open { truncate: true, ..RW }).unwrap();
    assert_eq!(f.stat().unwrap().size, 0);
}

#[test]
fn so_many_files_are_open_at_a_time() {
    let (_vfs, root) = vfs(&["/f"], 0, 3);
    let open: Vec<_> = (0..2).map(|_| root.open_at("f", READ).unwrap()).collect();
    assert_eq!(root.open_at("f", READ).err(), Some(Error::TooManyOpen));
    drop(open);
    root.open_at("f", READ).unwrap();
}
