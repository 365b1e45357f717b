//! `bailey database import`: from EdgelessDB, PostgreSQL and MySQL.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use database_manifest::{
    Manifest,
    import::{self, Approvers, Dialect, Note},
};

use crate::{
    failure::{Failure, Input, Outcome},
    output::public_file,
};

/// From where.
#[derive(Subcommand)]
pub enum Command {
    /// Translate a manifest of EdgelessDB; what could not be translated is reported
    Edgelessdb(Edgelessdb),
    /// Translate a dump: tables to the schema of a manifest, rows to statements that a writer runs
    Dump(Dump),
}

impl Command {
    pub fn run(self) -> Outcome {
        match self {
            Self::Edgelessdb(edgelessdb) => edgelessdb.run(),
            Self::Dump(dump) => dump.run(),
        }
    }
}

/// `bailey database import edgelessdb`.
#[derive(Args)]
pub struct Edgelessdb {
    /// Its manifest
    file: PathBuf,
    /// Who decides changes from now on, and the certificate of its CA; may be given again
    #[arg(long, value_name = "PARTY=FILE", required = true, value_parser = approver)]
    approver: Vec<(String, PathBuf)>,
    /// How many of them must agree; all, if missing
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,
    /// Where to write the new manifest
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

fn approver(text: &str) -> Result<(String, PathBuf), String> {
    let (party, file) = text.split_once('=').ok_or("expected PARTY=FILE")?;
    Ok((party.to_owned(), PathBuf::from(file)))
}

impl Edgelessdb {
    fn run(self) -> Outcome {
        let bytes = fs::read(&self.file).malformed(format!("{} cannot be read", self.file.display()))?;
        let mut approvers = Approvers {
            threshold: self.threshold.unwrap_or(self.approver.len() as u64),
            ..Approvers::default()
        };
        for (party, file) in self.approver {
            let pem = text(&file)?;
            if approvers.anchors.insert(party.clone(), pem).is_some() {
                return Err(Failure::malformed(format!("the approver {party} is given twice")));
            }
        }
        let imported = import::edgelessdb(&bytes, &approvers).malformed(self.file.display())?;
        public_file(&self.output, imported.manifest.as_bytes())?;
        crate::say!("{}", self.output.display());
        reported(&imported.notes);
        match Manifest::parse(imported.manifest.as_bytes()) {
            Ok(_) => Ok(()),
            Err(faults) => {
                Err(Failure::refused("the new manifest is not complete yet").hint(faults.to_string()))
            }
        }
    }
}

/// Whose dump.
#[derive(Clone, Copy, ValueEnum)]
enum Source {
    /// pg_dump, as text
    Postgres,
    /// mysqldump
    Mysql,
}

/// `bailey database import dump`.
#[derive(Args)]
pub struct Dump {
    /// The dump, as text
    file: PathBuf,
    /// Which program made it
    #[arg(long, value_name = "KIND")]
    from: Source,
    /// The folder for schema.sql and rows.sql
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

impl Dump {
    fn run(self) -> Outcome {
        let dialect = match self.from {
            Source::Postgres => Dialect::Postgres,
            Source::Mysql => Dialect::MySql,
        };
        let dump = import::dump(&text(&self.file)?, dialect).malformed(self.file.display())?;
        fs::create_dir_all(&self.out).malformed(format!("{} cannot be made", self.out.display()))?;
        for (name, text, what) in [
            ("schema.sql", &dump.schema, "for `Schema` of a manifest"),
            ("rows.sql", &dump.data, "for a writer, with psql -f"),
        ] {
            let path = self.out.join(name);
            public_file(&path, text.as_bytes())?;
            crate::say!("{}: {what}", path.display());
        }
        reported(&dump.notes);
        Ok(())
    }
}

fn text(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).malformed(format!("{} cannot be read", path.display()))
}

fn reported(notes: &[Note]) {
    if notes.is_empty() {
        crate::say!("everything was carried over");
        return;
    }
    crate::say!("{} statements were not carried over, or not wholly:", notes.len());
    for note in notes {
        crate::say!("  {note}");
    }
}
