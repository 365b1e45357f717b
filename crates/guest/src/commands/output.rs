//! Standard output, and files for secrets.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use aws_lc_rs::rand;

use super::Failure;

/// One line.
pub(super) fn say(line: &impl std::fmt::Display) -> Result<(), Failure> {
    put(format!("{line}\n").as_bytes())
}

/// Bytes as they are.
pub(super) fn put(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::system("writing to standard output", error))
}

/// A secret, to standard output or into a file.
pub(super) fn give(secret: &[u8], file: Option<&Path>) -> Result<(), Failure> {
    match file {
        None => put(secret),
        Some(path) => write(path, secret).map_err(|error| Failure::file(path, error)),
    }
}

/// Whole or not at all, of mode 0600 from its first byte. What was there is replaced, a link and not what it points to.
fn write(path: &Path, secret: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path does not end in a name"))?;
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(io::Error::other)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", hex::encode(random)));
    let beside = path.with_file_name(beside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(secret).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // There may be nothing to take away.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_with_secrets_are_for_their_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs::write(&path, "before").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        give(b"secret", Some(&path)).expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"secret");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
        assert!(give(b"secret", Some(&folder.path().join("none/secret"))).is_err());
    }
}
