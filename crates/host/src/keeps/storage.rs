//! How much a tenant has stored.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes on the disk of the files below a tenant's folder, each volume in a folder of its own. What is gone meanwhile, is
/// gone; links are not followed.
pub(super) fn used(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for volume in entries(folder)? {
        for file in entries(&volume?.path())? {
            match file?.path().symlink_metadata() {
                Ok(file) => total += file.blocks() * 512,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(total)
}

fn entries(folder: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<fs::DirEntry>>>> {
    match fs::symlink_metadata(folder) {
        Ok(data) if data.is_dir() => Ok(Box::new(fs::read_dir(folder)?)),
        Ok(_) => Ok(Box::new(std::iter::empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_counts_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(used(&folder.path().join("none")).unwrap(), 0);
        for name in ["a", "b"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("data"), vec![1; 64 << 10]).unwrap();
        }
        std::os::unix::fs::symlink("/", folder.path().join("c")).unwrap();
        std::os::unix::fs::symlink("/proc/kcore", folder.path().join("a/d")).unwrap();
        let used = used(folder.path()).unwrap();
        assert!((128 << 10..256 << 10).contains(&used), "{used}");
    }
}
