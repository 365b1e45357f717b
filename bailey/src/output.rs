//! Standard output, for people and pipes: when nobody reads any more, we end quietly as other tools do. And files,
//! those with secrets apart.

use std::{
    fmt::Arguments,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::failure::{Input, Outcome};

/// The exit code of a program whose reader went away: 128 + SIGPIPE.
const NOBODY_READS: i32 = 141;

/// Writes to standard output.
pub fn write(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if out.write_fmt(text).and_then(|()| out.flush()).is_err() {
        std::process::exit(NOBODY_READS);
    }
}

/// As `println!`, but without a panic when nobody reads.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// A file that only its owner may read. It is made before it is known what goes into it, so that what cannot be had
/// twice is not lost for want of a place; an existing file is never overwritten, and an empty one not left behind.
pub struct PrivateFile {
    path: PathBuf,
    file: Option<File>,
}

impl PrivateFile {
    /// Makes the file, mode 0600.
    pub fn create(path: &Path) -> Outcome<Self> {
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .malformed(format!("{} cannot be made anew", path.display()))?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Fills the file and waits until it is on the disk.
    pub fn fill(mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What remains is an empty file, which is a nuisance and no danger.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a file that anyone may read.
pub fn public_file(path: &Path, bytes: &[u8]) -> Outcome {
    std::fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(())
}
