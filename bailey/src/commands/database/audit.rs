//! `bailey database audit`: the audit log in a file of one's own, each entry chained to all before it, each export ending
//! at a head that the database signed.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use database_receipt::audit::{Head, Line, SignedHead, verify_lines};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::remote::Remote;
use crate::{
    failure::{Failure, Input, Outcome},
    identity,
    output::public_file,
};

/// No honest entry is longer.
const MAX_LINE: usize = 1 << 20;

/// The audit log: get it, check it, read it.
#[derive(Subcommand)]
pub enum Audits {
    /// Bring a file up to date: new entries are appended when they continue what is in it
    Export(Export),
    /// Keep a head that the database signed: any party may, and holds later exports against it
    Head(Keep),
    /// Check a file offline, also against a head that was kept, and print what happened
    Show(Show),
}

/// Bring a file up to date: new entries are appended when they continue what is in it.
#[derive(Args)]
pub struct Export {
    /// One JSON object a line; made if it is missing
    file: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

/// Keep a head that the database signed.
#[derive(Args)]
pub struct Keep {
    /// Where
    file: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

/// Check a file offline and print what happened.
#[derive(Args)]
pub struct Show {
    /// As `bailey database audit export` wrote it
    file: PathBuf,
    /// A head that was kept, which the file must contain; needs --root
    #[arg(long, value_name = "FILE", requires = "root")]
    head: Option<PathBuf>,
    /// The database's root certificate, as `bailey database verify --pin` wrote it
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// For a program: the entries as they are
    #[arg(long)]
    json: bool,
}

impl Audits {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Export(export) => export.run().await,
            Self::Head(keep) => keep.run().await,
            Self::Show(show) => show.run(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Answer {
    head: SignedHead,
    lines: Vec<Line>,
}

impl Export {
    async fn run(self) -> Outcome {
        let (client, root) = (self.remote.party()?, self.remote.root()?);
        let mut known = match entries(&self.file) {
            Ok(lines) => chained(&lines)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Head::NONE,
            Err(error) => return Err(error).malformed(format!("{} cannot be read", self.file.display())),
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.file)
            .with_context(|| format!("{} cannot be written", self.file.display()))?;
        let begun = known.sequence;
        loop {
            let answer = client.get(&format!("/v1/audit?from={}", known.sequence + 1)).await?;
            let answer: Answer = serde_json::from_value(answer).malformed("the answer is no audit log")?;
            let head = trusted(&answer.head, &root)?;
            known = verify_lines(known, &answer.lines)
                .map_err(|broken| Failure::refused(format!("{broken} [{}]", broken.code())))?;
            for line in &answer.lines {
                writeln!(file, "{}", serde_json::to_string(line).map_err(anyhow::Error::from)?)
                    .with_context(|| format!("{} cannot be written", self.file.display()))?;
            }
            if known == head {
                break;
            }
            if known.sequence >= head.sequence || answer.lines.is_empty() {
                return Err(Failure::refused(
                    "the entries do not end at the head that the database signed [AUDIT_ALTERED]",
                ));
            }
        }
        file.sync_all().with_context(|| format!("{} cannot be written", self.file.display()))?;
        crate::say!(
            "{} entries, {} of them new; the database signed this head",
            known.sequence,
            known.sequence - begun
        );
        Ok(())
    }
}

impl Keep {
    async fn run(self) -> Outcome {
        let (client, root) = (self.remote.party()?, self.remote.root()?);
        let answer = client.get("/v1/audit/head").await?;
        let signed: SignedHead =
            serde_json::from_value(answer.clone()).malformed("the answer is no head of an audit log")?;
        let head = trusted(&signed, &root)?;
        public_file(&self.file, format!("{answer:#}\n").as_bytes())?;
        crate::say!("the head after {} entries is in {}", head.sequence, self.file.display());
        Ok(())
    }
}

impl Show {
    fn run(self) -> Outcome {
        let lines = entries(&self.file).malformed(format!("{} cannot be read", self.file.display()))?;
        let end = chained(&lines)?;
        if let (Some(head), Some(root)) = (&self.head, &self.root) {
            let bytes = std::fs::read(head).malformed(format!("{} cannot be read", head.display()))?;
            let signed: SignedHead = serde_json::from_slice(&bytes)
                .malformed(format!("{} is no head of an audit log", head.display()))?;
            let root = identity::certificates(root)?.swap_remove(0);
            contains(&lines, trusted(&signed, &root)?)?;
        }
        for line in &lines {
            if self.json {
                crate::say!("{}", serde_json::to_string(line).map_err(anyhow::Error::from)?);
                continue;
            }
            let at =
                OffsetDateTime::from_unix_timestamp(line.at).ok().and_then(|at| at.format(&Rfc3339).ok());
            crate::say!("{:>6}  {}  {}", line.sequence, at.unwrap_or_default(), line.event);
        }
        if !self.json {
            crate::say!(
                "{} entries, each continues the one before; the newest: {}",
                end.sequence,
                hex::encode(end.hash)
            );
        }
        Ok(())
    }
}

fn trusted(head: &SignedHead, root: &CertificateDer<'_>) -> Outcome<Head> {
    head.verify(root).map_err(|error| {
        Failure::refused(format!("the head of the audit log is not the database's: {error}"))
    })
}

fn chained(lines: &[Line]) -> Outcome<Head> {
    verify_lines(Head::NONE, lines)
        .map_err(|broken| Failure::refused(format!("{broken} [{}]", broken.code())))
}

/// Whether the log went through a head that somebody kept.
fn contains(lines: &[Line], head: Head) -> Outcome {
    let at = usize::try_from(head.sequence).ok().and_then(|sequence| sequence.checked_sub(1));
    let found = at.and_then(|at| lines.get(at));
    if head == Head::NONE || found.is_some_and(|line| line.hash.0 == head.hash) {
        return Ok(());
    }
    Err(Failure::refused(match found {
        Some(_) => {
            format!("entry {} is another one than when the head was kept [AUDIT_ALTERED]", head.sequence)
        }
        None => format!(
            "the head that was kept is of {} entries, and here are {} [AUDIT_ENTRY_MISSING]",
            head.sequence,
            lines.len()
        ),
    }))
}

fn entries(path: &Path) -> std::io::Result<Vec<Line>> {
    let malformed = |error| std::io::Error::new(ErrorKind::InvalidData, error);
    BufReader::new(File::open(path)?)
        .lines()
        .map(|line| {
            let line = line?;
            if line.len() > MAX_LINE {
                return Err(malformed(anyhow!("a line is too long")));
            }
            serde_json::from_str(&line).map_err(|error| malformed(error.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use database_receipt::Digest;

    use super::*;

    fn log(events: &[&str]) -> Vec<Line> {
        let mut head = Head::NONE;
        let next = |(at, event): (usize, &&str)| {
            let at = i64::try_from(at).unwrap();
            head = head.then(at, event.as_bytes());
            Line { sequence: head.sequence, at, event: (*event).to_owned(), hash: Digest(head.hash) }
        };
        events.iter().enumerate().map(next).collect()
    }

    #[test]
    fn a_log_without_an_entry_that_was_seen_is_refused() {
        let lines = log(&["{}", "{\"a\":1}", "{\"b\":2}"]);
        let head = chained(&lines[..2]).unwrap();
        assert!(contains(&lines, head).is_ok() && contains(&lines, Head::NONE).is_ok());
        let said = contains(&lines[..1], head).unwrap_err();
        assert!(said.render().contains("AUDIT_ENTRY_MISSING"));
        let other = log(&["{}", "{\"a\":2}", "{\"b\":2}"]);
        assert!(contains(&other, head).unwrap_err().render().contains("AUDIT_ALTERED"));
        let mut altered = lines.clone();
        altered[1].event = "{\"a\":2}".into();
        assert!(chained(&altered).unwrap_err().render().contains("AUDIT_ALTERED"));
        altered = lines;
        altered.remove(1);
        assert!(chained(&altered).unwrap_err().render().contains("AUDIT_ENTRY_MISSING"));
    }
}
