//! All that is asked of the kernel: files below a root, and the calls of two devices.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::ioctl;

/// Where the kernel's files are: below `/`, or below another folder in tests.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Those of this machine.
    pub fn system() -> Self {
        Self::below("/")
    }

    /// Those below a folder.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    fn device(&self, path: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.at(path))
    }
}

/// The answer of a call of `/dev/sev-guest`, beside what it wrote.
pub(super) struct Exit {
    pub(super) result: io::Result<()>,
    /// `exitinfo2`: the firmware's error, and in the upper half the host's.
    pub(super) info: u64,
    /// How many bytes the host's certificates need.
    pub(super) needed: usize,
}

/// The kernel, or one that is played. Paths are absolute.
pub(super) trait Kernel: Send + Sync {
    /// At most `limit` bytes; more are an error.
    fn read(&self, path: &str, limit: usize) -> io::Result<Vec<u8>>;

    /// All of them in one call: files of the kernel take what they are given at once.
    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    fn make_directory(&self, path: &str) -> io::Result<()>;

    fn remove_directory(&self, path: &str) -> io::Result<()>;

    fn exists(&self, path: &str) -> bool;

    /// `SNP_GET_EXT_REPORT`.
    fn snp_report(
        &self,
        device: &str,
        request: &[u8; ioctl::SNP_REPORT_REQUEST],
        response: &mut [u8; ioctl::SNP_REPORT_RESPONSE],
        certificates: &mut [u8],
    ) -> io::Result<Exit>;

    /// `SNP_GET_DERIVED_KEY`.
    fn snp_key(
        &self,
        device: &str,
        request: &[u8; ioctl::SNP_KEY_REQUEST],
        response: &mut [u8; ioctl::SNP_KEY_RESPONSE],
    ) -> io::Result<Exit>;

    /// `TDX_CMD_GET_REPORT0`.
    fn tdx_report(&self, device: &str, report_data: &[u8; 64]) -> io::Result<[u8; ioctl::TDX_REPORT]>;
}

impl Kernel for Paths {
    fn read(&self, path: &str, limit: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.at(path))?;
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        file.take(most).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than it can be"));
        }
        Ok(bytes)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.at(path))?;
        if file.write(bytes)? == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::WriteZero, "not all of it was taken"))
        }
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        std::fs::create_dir(self.at(path))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir(self.at(path))
    }

    fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    fn snp_report(
        &self,
        device: &str,
        request: &[u8; ioctl::SNP_REPORT_REQUEST],
        response: &mut [u8; ioctl::SNP_REPORT_RESPONSE],
        certificates: &mut [u8],
    ) -> io::Result<Exit> {
        Ok(ioctl::snp_report(&self.device(device)?, request, response, certificates))
    }

    fn snp_key(
        &self,
        device: &str,
        request: &[u8; ioctl::SNP_KEY_REQUEST],
        response: &mut [u8; ioctl::SNP_KEY_RESPONSE],
    ) -> io::Result<Exit> {
        Ok(ioctl::snp_key(&self.device(device)?, request, response))
    }

    fn tdx_report(&self, device: &str, report_data: &[u8; 64]) -> io::Result<[u8; ioctl::TDX_REPORT]> {
        ioctl::tdx_report(&self.device(device)?, report_data)
    }
}
