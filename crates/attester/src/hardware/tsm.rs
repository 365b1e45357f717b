//! Reports by configfs-tsm (Linux, `Documentation/ABI/testing/configfs-tsm-report`): a folder is made, `inblob` written,
//! `outblob` read. Each write raises `generation`; if it rose by more than ours, another process wrote to the same
//! folder, and the report may be its.

use std::sync::atomic::{AtomicU64, Ordering};

use evidence::MAX_EVIDENCE;

use super::kernel::Kernel;
use crate::AttesterError;

const REPORTS: &str = "/sys/kernel/config/tsm/report";
/// `provider` of TDX.
pub(super) const TDX: &str = "tdx_guest";
/// `provider` of SNP.
pub(super) const SNP: &str = "sev_guest";
/// `provider` of CCA.
pub(super) const CCA: &str = "arm_cca_guest";
/// A name, or a number.
const SHORT: usize = 64;
const TRIES: usize = 5;

/// What the kernel gave.
pub(super) struct Report {
    pub(super) outblob: Vec<u8>,
    /// Of SNP: the host's table of certificates.
    pub(super) auxblob: Vec<u8>,
}

/// A folder of ours, while it is needed.
struct Folder<'k> {
    kernel: &'k dyn Kernel,
    path: String,
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        let _ = self.kernel.remove_directory(&self.path);
    }
}

impl<'k> Folder<'k> {
    fn make(kernel: &'k dyn Kernel) -> Result<Self, AttesterError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("{REPORTS}/bailey-{}-{count}", std::process::id());
        kernel.make_directory(&path).map_err(system("asking the kernel for a report"))?;
        Ok(Self { kernel, path })
    }

    fn read(&self, name: &str, limit: usize) -> std::io::Result<Vec<u8>> {
        self.kernel.read(&format!("{}/{name}", self.path), limit)
    }

    fn word(&self, name: &str) -> Result<String, AttesterError> {
        let word = self.read(name, SHORT).map_err(system("reading what the kernel says of its reports"))?;
        let word = String::from_utf8(word).map_err(|_| AttesterError::UnexpectedResponse)?;
        Ok(word.trim_end_matches('\n').to_owned())
    }

    fn generation(&self) -> Result<u64, AttesterError> {
        self.word("generation")?.parse().map_err(|_| AttesterError::UnexpectedResponse)
    }
}

fn system(attempt: &'static str) -> impl Fn(std::io::Error) -> AttesterError {
    move |source| AttesterError::System { attempt, source }
}

/// Who makes reports; `None` where nobody does.
pub(super) fn provider(kernel: &dyn Kernel) -> Result<Option<String>, AttesterError> {
    if !kernel.exists(REPORTS) {
        return Ok(None);
    }
    match Folder::make(kernel) {
        Ok(folder) => folder.word("provider").map(Some),
        // configfs is there and no driver is (`tsm_report_make_item`).
        Err(AttesterError::System { source, .. })
            if source.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A report over 64 bytes, by the provider that is expected.
pub(super) fn report(
    kernel: &dyn Kernel,
    expected: &'static str,
    inblob: &[u8; 64],
) -> Result<Report, AttesterError> {
    for _ in 0..TRIES {
        let folder = Folder::make(kernel)?;
        let provider = folder.word("provider")?;
        if provider != expected {
            return Err(AttesterError::OtherProvider { expected, seen: provider });
        }
        let before = folder.generation()?;
        let written = kernel.write(&format!("{}/inblob", folder.path), inblob);
        written.map_err(system("handing report data to the kernel"))?;
        let outblob = match folder.read("outblob", MAX_EVIDENCE) {
            Ok(outblob) => outblob,
            // What the kernel itself says when `generation` changed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(system("reading a report")(error)),
        };
        // Only SNP has it, and only where the host gave certificates.
        let auxblob = folder.read("auxblob", MAX_EVIDENCE).unwrap_or_default();
        if folder.generation()? == before + 1 {
            return Ok(Report { outblob, auxblob });
        }
    }
    Err(AttesterError::Raced)
}
