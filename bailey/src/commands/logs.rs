//! `bailey logs`: what workloads printed, as far as it was written for us.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, stdin},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Subcommand;
use owner_log::{LineError, Place, PrivateKey, Reader, Stream};
use zeroize::Zeroizing;

use crate::failure::{Failure, Input, Outcome};

/// A longer line of a log is not one of a Keep's.
const MAX_LINE: u64 = 1 << 20;

/// Read logs of workloads.
#[derive(Subcommand)]
pub enum Command {
    /// Read the lines that a Keep encrypted to its owner, in a Keep's log
    Decrypt {
        /// The private half of the key, from `bailey key log`
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The Marble that printed them; of a direct deployment: main.wasm
        #[arg(long, value_name = "NAME")]
        marble: String,
        /// The Keep's log; standard input, if there is none
        #[arg(value_name = "FILE")]
        log: Option<PathBuf>,
        /// One JSON object a line, for a program
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let Self::Decrypt { key, marble, log, json } = self;
        let mut reader = Reader::new(private_key(&key)?, &marble);
        let input: Box<dyn Read> = match &log {
            Some(path) => Box::new(File::open(path).malformed(format!("{} cannot be read", path.display()))?),
            None => Box::new(stdin()),
        };
        let refused = decrypt(&mut BufReader::new(input), &mut reader, json)?;
        match refused {
            0 => Ok(()),
            count => {
                Err(Failure::refused(format!("{count} sealed line(s) could not be opened [LOG_LINE_FORGED]"))
                    .hint("they are of another Marble or another key, or the host altered them"))
            }
        }
    }
}

/// Shows what can be opened; how many sealed lines cannot.
fn decrypt(input: &mut dyn BufRead, reader: &mut Reader, json: bool) -> Outcome<u64> {
    let mut refused = 0;
    loop {
        let mut line = Vec::new();
        let mut bounded = Read::take(&mut *input, MAX_LINE);
        let read = bounded.read_until(b'\n', &mut line).context("the log cannot be read")?;
        if read == 0 {
            return Ok(refused);
        }
        match reader.open(&String::from_utf8_lossy(&line)) {
            Ok(line) => show(&line, json),
            Err(LineError::Absent) => {}
            Err(LineError::Malformed | LineError::Forged) => refused += 1,
        }
    }
}

fn show(line: &owner_log::Line, json: bool) {
    let (missing, repeated) = match line.place {
        Place::Next => (0, false),
        Place::After(missing) => (missing, false),
        Place::Repeated => (0, true),
    };
    let stream = match line.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
        Stream::Metrics => "metrics",
    };
    let text = String::from_utf8_lossy(&line.text);
    if json {
        let line = serde_json::json!({
            "stream": stream, "line": text, "missing_before": missing, "repeated": repeated,
        });
        return crate::say!("{line}");
    }
    if missing > 0 {
        crate::say!("-- {missing} line(s) missing: printed too fast, or kept back");
    }
    let repeated = if repeated { " (again, or out of order)" } else { "" };
    // Escaped, so that a workload does not drive the terminal.
    crate::say!("{stream}: {}{repeated}", text.escape_debug());
}

fn private_key(path: &Path) -> Outcome<PrivateKey> {
    let what = || format!("{} is no key of `bailey key log`: 64 hexadecimal digits", path.display());
    let file = File::open(path).malformed(what())?;
    let mut text = Zeroizing::new(String::new());
    file.take(100).read_to_string(&mut text).malformed(what())?;
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), &mut *key).malformed(what())?;
    Ok(key)
}
