//! A host that copies the files of a database's sealed log to where a replica follows it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::task::JoinHandle;

/// Copies the files of a log to another host, again and again, until it is dropped.
pub struct Copying(JoinHandle<()>);

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Copying {
    /// Copies once, and goes on.
    pub fn from(from: &Path, to: &Path) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        let mut known = HashMap::new();
        copy(&from, &to, &mut known);
        Self(tokio::spawn(async move {
            loop {
                let (from, to) = (from.clone(), to.clone());
                let copying = tokio::task::spawn_blocking(move || {
                    copy(&from, &to, &mut known);
                    known
                });
                known = copying.await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }
}

/// When files were changed that were copied, and whether they were copied again since: what is written twice within a
/// tick of the clock shows once.
type Known = HashMap<PathBuf, (SystemTime, bool)>;

/// As rsync does: each file beside the old one and then in its place, in whatever order; nothing is removed.
fn copy(from: &Path, to: &Path, known: &mut Known) {
    std::fs::create_dir_all(to).unwrap();
    let Ok(entries) = std::fs::read_dir(from) else { return };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort_by(|one, other| other.cmp(one));
    for file in files.iter().filter(|it| it.file_name().is_some_and(|name| name != "lock")) {
        let making = to.join(".making");
        // What was removed meanwhile is not copied.
        let Ok(changed) = std::fs::metadata(file).and_then(|it| it.modified()) else { continue };
        let seen = known.get(file).filter(|(at, _)| *at == changed).map(|(_, again)| *again);
        if seen != Some(true) && std::fs::copy(file, &making).is_ok() {
            std::fs::rename(&making, to.join(file.file_name().unwrap())).unwrap();
            known.insert(file.clone(), (changed, seen.is_some()));
        }
    }
}
