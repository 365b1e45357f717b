//! What the host supplies (S-24): three files by QEMU's fw_cfg (`Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg`), and a disk
//! with the workload. All of it is hostile until it is measured, or its digest is known.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use crate::InitError;

/// Where the kernel shows what the host supplies.
pub const FOLDER: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/io.bailey";
/// No honest launch configuration is longer; as in `attested_tls::launch`.
pub const LONGEST_CONFIGURATION: usize = 256 * 1024;
/// Some certificates.
pub const LONGEST_ENDORSEMENTS: usize = 64 * 1024;
/// All arguments together.
pub const LONGEST_ARGUMENTS: usize = 64 * 1024;
const MOST_ARGUMENTS: usize = 1024;
/// The largest workload that a Keep takes.
pub const LARGEST_WORKLOAD: u64 = 256 * 1024 * 1024;

/// The launch configuration: absent where the host supplies none.
///
/// # Errors
/// [`InitError::Host`] when it is too long, or cannot be read.
pub fn configuration(folder: &Path) -> Result<Option<Vec<u8>>, InitError> {
    read(folder, "configuration", LONGEST_CONFIGURATION)
}

/// The Keep's arguments: a JSON list of strings.
///
/// # Errors
/// [`InitError::Host`] when they are too long or too many, or no such list, or one has a NUL.
pub fn arguments(folder: &Path) -> Result<Vec<String>, InitError> {
    const WHAT: &str = "arguments";
    let refused = |reason: String| InitError::Host { what: WHAT, reason };
    let Some(bytes) = read(folder, WHAT, LONGEST_ARGUMENTS)? else { return Ok(Vec::new()) };
    let arguments: Vec<String> =
        serde_json::from_slice(&bytes).map_err(|error| refused(format!("no list of strings: {error}")))?;
    if arguments.len() > MOST_ARGUMENTS {
        return Err(refused(format!("{} of them; at most {MOST_ARGUMENTS} are allowed", arguments.len())));
    }
    if arguments.iter().any(|argument| argument.contains('\0')) {
        return Err(refused("one has a NUL".into()));
    }
    Ok(arguments)
}

/// What vouches for the TPM's attestation key: whoever verifies Evidence judges it.
///
/// # Errors
/// [`InitError::Host`] when it is too long, or cannot be read.
pub fn endorsements(folder: &Path) -> Result<Option<Vec<u8>>, InitError> {
    read(folder, "endorsements", LONGEST_ENDORSEMENTS)
}

/// Copies the workload from the host's disk to `file`, which the host cannot change any more (S-27): what is checked is
/// what is used. The disk begins with the length of the workload, 8 bytes little-endian; disks have whole blocks.
///
/// # Errors
/// [`InitError::Host`] when the length is not that of a workload on this disk.
pub fn workload(disk: &Path, file: &Path) -> Result<(), InitError> {
    let refused = |reason: String| InitError::Host { what: "the disk with the workload", reason };
    let failed = |error: io::Error| refused(error.to_string());
    let mut disk = File::open(disk).map_err(failed)?;
    let mut length = [0; 8];
    disk.read_exact(&mut length).map_err(failed)?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_WORKLOAD {
        return Err(refused(format!("{length} bytes; at most {LARGEST_WORKLOAD} are allowed")));
    }
    let mut out = File::create(file).map_err(InitError::system("storing the workload"))?;
    let copied = io::copy(&mut disk.take(length), &mut out).map_err(failed)?;
    out.flush().map_err(InitError::system("storing the workload"))?;
    if copied != length {
        return Err(refused(format!("it says {length} bytes, and has {copied}")));
    }
    Ok(())
}

fn read(folder: &Path, what: &'static str, longest: usize) -> Result<Option<Vec<u8>>, InitError> {
    let path = folder.join(what).join("raw");
    let refused = |reason: String| InitError::Host { what, reason };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(longest as u64 + 1).read_to_end(&mut bytes).map_err(|error| refused(error.to_string()))?;
    if bytes.len() > longest {
        return Err(refused(format!("longer than {longest} bytes")));
    }
    Ok(Some(bytes))
}

/// The disk with the workload, if there is one.
pub(crate) fn disk() -> Option<std::path::PathBuf> {
    // The image's own disk is in the machine, too; the host numbers the other one.
    let named =
        |path: &Path| fs::read_to_string(path.join("serial")).is_ok_and(|serial| serial.trim() == "workload");
    let mut found = fs::read_dir("/sys/block").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let device = found.find(|path| named(path))?;
    Some(Path::new("/dev").join(device.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supplied(what: &str, bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(what)).unwrap();
        fs::write(folder.path().join(what).join("raw"), bytes).unwrap();
        folder
    }

    #[test]
    fn s24_arguments_are_a_bounded_list_of_strings() {
        let read = |bytes: &[u8]| arguments(supplied("arguments", bytes).path());
        assert_eq!(read(br#"["--listen", "0.0.0.0:1"]"#).unwrap(), ["--listen", "0.0.0.0:1"]);
        let nothing = tempfile::tempdir().unwrap();
        assert!(arguments(nothing.path()).unwrap().is_empty());
        let long = format!("[\"{}\"]", "x".repeat(LONGEST_ARGUMENTS));
        let many = format!("[\"\"{}]", ",\"\"".repeat(MOST_ARGUMENTS));
        for wrong in ["", "{}", "[1]", "[\"a\\u0000b\"]", "[\"a\"] x", &long, &many] {
            assert!(matches!(read(wrong.as_bytes()), Err(InitError::Host { what: "arguments", .. })));
        }
    }

    #[test]
    fn s24_a_configuration_is_bounded() {
        let read = |length: usize| configuration(supplied("configuration", &vec![1; length]).path());
        assert_eq!(read(LONGEST_CONFIGURATION).unwrap().unwrap().len(), LONGEST_CONFIGURATION);
        assert!(matches!(read(LONGEST_CONFIGURATION + 1), Err(InitError::Host { .. })));
        assert!(configuration(tempfile::tempdir().unwrap().path()).unwrap().is_none());
    }

    #[test]
    fn s27_the_workload_is_copied_and_has_the_length_that_its_disk_says() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, file) = (folder.path().join("disk"), folder.path().join("workload"));
        let copied = |length: u64, rest: &[u8]| {
            fs::write(&disk, [&length.to_le_bytes()[..], rest].concat()).unwrap();
            workload(&disk, &file).map(|()| fs::read(&file).unwrap())
        };
        assert_eq!(copied(3, b"abc\0\0\0").unwrap(), b"abc");
        for (length, rest) in [(4, &b"abc"[..]), (LARGEST_WORKLOAD + 1, b"abc"), (u64::MAX, b"")] {
            assert!(matches!(copied(length, rest), Err(InitError::Host { .. })), "{length}");
        }
        fs::write(&disk, b"short").unwrap();
        assert!(workload(&disk, &file).is_err());
    }
}
