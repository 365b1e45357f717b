//! Endorsements for Evidence that comes without: those of this machine's own platform, and what the host has laid into its
//! folders. Vendors signed all of them, so the host can withhold some and forge none.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use appraisal::{EndorsementsBuilder, UnixTime};
use attester::Tee;
use evidence::{Endorsements, Evidence, ReportData};

/// For so many seconds what was read is not read again.
const READ_EVERY: i64 = 600;

/// Where they come from, and what was read last.
pub(super) struct Collateral {
    folders: Vec<PathBuf>,
    read: Mutex<Option<(UnixTime, Arc<EndorsementsBuilder>)>>,
}

impl Collateral {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, read: Mutex::new(None) }
    }

    /// What fits `evidence` at `now`.
    pub(super) fn fit(&self, evidence: &Evidence, tee: &dyn Tee, now: UnixTime) -> Endorsements {
        self.newest(tee, now).fit(evidence, now)
    }

    /// As [`Collateral::fit`], with what came with the Evidence: files of whoever sent it.
    pub(super) fn fit_with(
        &self,
        evidence: &Evidence,
        stapled: &[Vec<u8>],
        tee: &dyn Tee,
        now: UnixTime,
    ) -> Endorsements {
        if stapled.is_empty() {
            return self.fit(evidence, tee, now);
        }
        let mut builder = EndorsementsBuilder::clone(&self.newest(tee, now));
        for file in stapled {
            // What is of no known kind is no Endorsement; whether one is missing then, appraisal says.
            let _ = builder.add_file_bytes(file);
        }
        builder.fit(evidence, now)
    }

    fn newest(&self, tee: &dyn Tee, now: UnixTime) -> Arc<EndorsementsBuilder> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, builder)) = read.as_ref()
            && (0..READ_EVERY).contains(&now.0.saturating_sub(at.0))
        {
            return builder.clone();
        }
        let builder = Arc::new(self.read(tee));
        *read = Some((now, builder.clone()));
        builder
    }

    fn read(&self, tee: &dyn Tee) -> EndorsementsBuilder {
        let mut builder = EndorsementsBuilder::new();
        if let Ok(own) = tee.evidence(&ReportData([0; 64]))
            && let Ok(own) = Endorsements::from_bytes(&own.endorsements)
        {
            builder.add(own);
        }
        for file in self.folders.iter().flat_map(|folder| files(folder)) {
            let Ok(bytes) = std::fs::read(&file) else { continue };
            if let Ok(whole) = Endorsements::from_bytes(&bytes) {
                builder.add(whole);
            } else if builder.add_file_bytes(&bytes).is_err() {
                tracing::warn!(file = %file.display(), "a file among the Endorsements is of no known kind");
            }
        }
        builder
    }
}

/// The file, or the files of the folder.
fn files(path: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect(),
        Err(_) => vec![path.to_owned()],
    }
}
