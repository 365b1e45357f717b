//! The executable as the platform runs it: read once from the host's file system (no symbolic link, a
//! regular file, not above a size), copied into memory, sealed, and only then measured. What is measured
//! is therefore what runs, whatever happens to the file meanwhile (S-27).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use evidence::{Measurement, Platform};
use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags};

use crate::control::{Refusal, RefusalCode};
use crate::measure;

/// The largest executable, in bytes. Our own binaries in their debug builds have a third of it.
pub(super) const MAX_EXECUTABLE: u64 = 512 * 1024 * 1024;

/// The lowest descriptor number of an image. Between fork and exec the numbers up to 3 are given new
/// meanings, and the image must still be found under its own.
const LOWEST_DESCRIPTOR: i32 = 16;

/// A sealed copy of an executable, and its measurement.
pub(super) struct Image {
    memory: OwnedFd,
    measurement: Measurement,
}

impl Image {
    /// Copies, seals and measures the file at `path`.
    pub(super) fn load(path: &Path, platform: Platform, limit: u64) -> Result<Self, Refusal> {
        let file = open(path, limit)?;
        let memory = seal(path, file, limit)?;
        if !is_program(&memory).map_err(failed)? {
            let path = path.display();
            let reason = format!(
                "{path} is no ELF program of this machine; scripts are refused, since their interpreter would go unmeasured"
            );
            return Err(Refusal::new(RefusalCode::ExecutableInvalid, reason));
        }
        let code = SealedCode { memory: &memory, position: 0 };
        let measurement = measure::measure_from(code).map_err(failed)?.of(platform).clone();
        Ok(Self { memory: memory.into(), measurement })
    }

    pub(super) fn measurement(&self) -> &Measurement {
        &self.measurement
    }

    /// The sealed memory, to be handed to a jail.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.memory.try_clone()
    }

    /// Where a forked child finds it to execute.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.memory.as_raw_fd()))
    }
}

/// Whether the kernel will take it for a program: 64-bit little-endian ELF, executable or position-independent,
/// for this architecture, with its program headers inside the file (ELF-64 Object File Format, §2).
///
/// `execvp`, which the standard library uses, hands what the kernel does not take to `/bin/sh`. That shell
/// would find its script closed (the image is close-on-exec), but it is not to be started at all.
fn is_program(code: &File) -> io::Result<bool> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: u16 = 56;
    let size = code.metadata()?.len();
    let mut header = [0; HEADER];
    if size < header.len() as u64 {
        return Ok(false);
    }
    code.read_exact_at(&mut header, 0)?;
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let start = header.iter().skip(32).take(8).rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let length = u64::from(half(56)) * u64::from(PROGRAM_HEADER);
    let machine = match std::env::consts::ARCH {
        "x86_64" => Some(62),
        "aarch64" => Some(183),
        _ => None,
    };
    Ok(header.starts_with(b"\x7fELF\x02\x01\x01")
        && [2, 3].contains(&half(16))
        && machine.is_none_or(|machine| machine == half(18))
        && half(54) == PROGRAM_HEADER
        && length > 0
        && start.checked_add(length).is_some_and(|end| end <= size))
}

/// Reads sealed memory from its beginning, wherever the writing has left its own position.
struct SealedCode<'a> {
    memory: &'a File,
    position: u64,
}

impl Read for SealedCode<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.memory.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

fn open(path: &Path, limit: u64) -> Result<File, Refusal> {
    let unreadable = |what: &dyn std::fmt::Display| {
        Refusal::new(RefusalCode::ExecutableUnreadable, format!("{}: {what}", path.display()))
    };
    // Non-blocking, so that a FIFO in the file's place cannot hold us up before it is found out.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::LOOP => unreadable(&"is a symbolic link, which is not followed"),
        error => unreadable(&io::Error::from(error)),
    })?;
    let status = rustix::fs::fstat(&file).map_err(|error| unreadable(&io::Error::from(error)))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(unreadable(&"is no regular file"));
    }
    // For a quick answer; what counts is the limit while copying, since the file may grow.
    if u64::try_from(status.st_size).is_ok_and(|size| size > limit) {
        return Err(unreadable(&format_args!("is larger than {limit} bytes")));
    }
    Ok(file.into())
}

fn seal(path: &Path, file: File, limit: u64) -> Result<File, Refusal> {
    let memory = anonymous_memory().map_err(|error| failed(error.into()))?;
    let mut memory = File::from(memory);
    let copied = io::copy(&mut file.take(limit + 1), &mut memory).map_err(|error| {
        Refusal::new(RefusalCode::ExecutableUnreadable, format!("{}: {error}", path.display()))
    })?;
    if copied > limit {
        return Err(Refusal::new(
            RefusalCode::ExecutableUnreadable,
            format!("{} is larger than {limit} bytes", path.display()),
        ));
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals).map_err(|error| failed(error.into()))?;
    Ok(memory)
}

fn anonymous_memory() -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux before 6.3 does not know the flag, and needs none.
    let memory = match rustix::fs::memfd_create("bailey-measured", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("bailey-measured", flags)?,
        result => result?,
    };
    rustix::io::fcntl_dupfd_cloexec(&memory, LOWEST_DESCRIPTOR)
}

fn failed(error: io::Error) -> Refusal {
    Refusal::new(RefusalCode::PlatformFailed, format!("the executable could not be copied: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn load(path: &Path, limit: u64) -> Result<Image, RefusalCode> {
        Image::load(path, Platform::Snp, limit).map_err(|refusal| refusal.code)
    }

    /// The smallest thing that is taken for a program: a header and one program header.
    fn program() -> Vec<u8> {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let mut code = own[..120].to_vec();
        code[32..40].copy_from_slice(&64u64.to_le_bytes());
        code[56..58].copy_from_slice(&1u16.to_le_bytes());
        code
    }

    fn write(directory: &Path, name: &str, code: &[u8]) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, code).unwrap();
        path
    }

    #[test]
    fn s27_a_symbolic_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let program = write(directory.path(), "program", &program());
        assert!(load(&program, 120).is_ok());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        assert_eq!(load(&link, 120).err(), Some(RefusalCode::ExecutableUnreadable));
    }

    #[test]
    fn s27_only_regular_files_up_to_a_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let unreadable = Some(RefusalCode::ExecutableUnreadable);
        assert_eq!(load(&write(directory.path(), "large", &program()), 119).err(), unreadable);
        assert_eq!(load(directory.path(), 120).err(), unreadable);
        assert_eq!(load(&directory.path().join("missing"), 120).err(), unreadable);
        assert_eq!(load(Path::new("/dev/zero"), 120).err(), unreadable);
    }

    #[test]
    fn what_the_kernel_would_hand_to_a_shell_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let load = |code: &[u8]| load(&write(directory.path(), "code", code), 1000).err();
        let refused = Some(RefusalCode::ExecutableInvalid);
        assert_eq!(load(&program()), None);
        assert_eq!(load(b"#!/bin/sh\n"), refused);
        assert_eq!(load(&program()[..119]), refused);
        // Magic, class, byte order, type, machine, size and number of program headers, where they begin.
        for at in [0, 4, 5, 16, 18, 54, 56, 39] {
            let mut changed = program();
            changed[at] = if at == 56 { 0 } else { 0x7e };
            assert_eq!(load(&changed), refused, "byte {at}");
        }
    }

    #[test]
    fn s27_what_was_measured_can_no_longer_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(directory.path(), "program", &program());
        let image = load(&path, 120).unwrap();
        std::fs::write(&path, b"after").unwrap();
        let mut memory = File::from(image.memory.try_clone().unwrap());
        let mut code = vec![0; 120];
        memory.read_exact_at(&mut code, 0).unwrap();
        assert_eq!(code, program());
        assert_eq!(image.measurement(), &measure::measure(&program()).snp);
        assert_eq!(memory.write(b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(memory.set_len(1).is_err());
        assert!(memory.set_len(200).is_err());
    }
}
