//! What a log is unpacked to, without its cryptography, for fuzzing.

use std::{fs, path::Path};

use bytes::Bytes;
use sealed_log::{Entry, Kind};

use super::{ArchiveError, Building, RestoreError, Until, archive::Extractor};
use crate::sealer::Seen;

/// A folder that goes with what is in it.
fn within<T>(work: impl FnOnce(&Path) -> T) -> T {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("bailey-fuzz-").tempdir_in(place).expect("a folder");
    work(folder.path())
}

/// Unpacks a base backup that comes in these parts. Nothing but the folder that it goes to is made.
///
/// # Errors
/// See [`ArchiveError`].
pub fn unpack<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<bool, ArchiveError> {
    within(|folder| {
        let mut extractor = Extractor::new(&folder.join("data"))?;
        let unpacked = parts.into_iter().try_for_each(|part| extractor.write(part));
        let beside = fs::read_dir(folder)?.count();
        assert_eq!(beside, 1, "something was made beside the folder");
        unpacked.map(|()| extractor.is_whole())
    })
}

/// Builds a database's folder of entries, each a kind and its content.
///
/// # Errors
/// The first that cannot be understood, or does not go with those before.
pub fn rebuild(entries: &[(u8, Bytes)]) -> Result<bool, RestoreError> {
    within(|folder| {
        let mut building = Building::new(&folder.join("data"));
        for (kind, bytes) in entries {
            let seen = Seen::parse(Entry { kind: Kind(*kind), bytes });
            building.apply(seen.map_err(|_| RestoreError::Content("an entry"))?)?;
        }
        Ok(building.finish(Until::End)?.is_some())
    })
}
