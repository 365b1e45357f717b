//! The write-ahead log as PostgreSQL's files, while it is read from the sealed one.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use super::RestoreError;
use crate::{lsn::Lsn, sealer::SEGMENT};

pub(crate) struct Segments {
    folder: PathBuf,
    timeline: u32,
    /// From the first byte of a whole file on, to the end; `None`: there is nothing.
    reach: Option<(Lsn, Lsn)>,
    current: Option<(u64, File)>,
}

fn failed(error: io::Error) -> RestoreError {
    RestoreError::Folder(error)
}

impl Segments {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), timeline: 0, reach: None, current: None }
    }

    pub(crate) fn timeline(&self) -> u32 {
        self.timeline
    }

    /// From where to where there is log.
    pub(crate) fn reach(&self) -> Option<(Lsn, Lsn)> {
        self.reach
    }

    /// As PostgreSQL names it: timeline, and the position by 4 GiB and by 16 MiB.
    fn path(&self, segment: u64) -> PathBuf {
        let per_high = (1 << 32) / SEGMENT;
        self.folder.join(format!("{:08X}{:08X}{:08X}", self.timeline, segment / per_high, segment % per_high))
    }

    /// Whether a part of the log goes on where the part before ended, or begins again before that.
    pub(crate) fn goes_on_at(&self, timeline: u32, start: Lsn) -> bool {
        self.reach.is_none_or(|(first, end)| timeline == self.timeline && (first..=end).contains(&start))
    }

    /// Writes a part of the log, which goes on where the part before ended, or begins again before that.
    pub(crate) fn write(&mut self, timeline: u32, start: Lsn, bytes: &[u8]) -> Result<(), RestoreError> {
        let (mut start, mut bytes) = (start, bytes);
        match self.reach {
            None => {
                // Nothing serves before the beginning of a file.
                let skip = start.0.wrapping_neg() % SEGMENT;
                match usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..)) {
                    None | Some([]) => return Ok(()),
                    Some(rest) => (start, bytes) = (Lsn(start.0 + skip), rest),
                }
                match fs::remove_dir_all(&self.folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other.map_err(failed)?,
                }
                fs::create_dir_all(&self.folder).map_err(failed)?;
                (self.timeline, self.reach) = (timeline, Some((start, start)));
            }
            Some((_, end)) => {
                if !self.goes_on_at(timeline, start) {
                    return Err(RestoreError::Content("the write-ahead log does not continue"));
                }
                if start < end {
                    self.cut(start)?;
                }
            }
        }
        let mut at = start.0;
        while !bytes.is_empty() {
            let room = usize::try_from(SEGMENT - at % SEGMENT).unwrap_or(usize::MAX);
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            self.file(at / SEGMENT, at % SEGMENT == 0)?.write_all_at(part, at % SEGMENT).map_err(failed)?;
            at += part.len() as u64;
            bytes = rest;
        }
        if let Some((_, end)) = &mut self.reach {
            *end = Lsn(at);
        }
        Ok(())
    }

    fn file(&mut self, segment: u64, anew: bool) -> Result<&File, RestoreError> {
        if anew || self.current.as_ref().is_none_or(|(open, _)| *open != segment) {
            let mut options = File::options();
            let file = options.write(true).create(true).truncate(anew).mode(0o600).open(self.path(segment));
            let file = file.map_err(failed)?;
            // What is behind the end is zeros.
            file.set_len(SEGMENT).map_err(failed)?;
            self.give(&file).map_err(failed)?;
            self.current = Some((segment, file));
        }
        match &self.current {
            Some((_, file)) => Ok(file),
            None => unreachable!("it was just opened"),
        }
    }

    /// To whom the folder belongs: PostgreSQL runs as a user of its own where we are root.
    fn give(&self, file: &File) -> io::Result<()> {
        let (folder, found) = (fs::metadata(&self.folder)?, file.metadata()?);
        if folder.uid() != found.uid() {
            fchown(file, Some(folder.uid()), Some(folder.gid()))?;
        }
        Ok(())
    }

    /// Forgets what is behind `end`: what PostgreSQL finds there must not be taken for log.
    pub(crate) fn cut(&mut self, end: Lsn) -> Result<(), RestoreError> {
        let Some((first, old)) = self.reach else { return Ok(()) };
        let last = end.0 / SEGMENT;
        for segment in last + 1..old.0.div_ceil(SEGMENT) {
            fs::remove_file(self.path(segment)).map_err(failed)?;
        }
        if old.0.div_ceil(SEGMENT) > last {
            let file = self.file(last, false)?;
            file.set_len(end.0 % SEGMENT).and_then(|()| file.set_len(SEGMENT)).map_err(failed)?;
        }
        self.reach = Some((first, end));
        self.current = None;
        Ok(())
    }

    /// Forgets whole files before `start`.
    pub(crate) fn forget_before(&mut self, start: Lsn) -> Result<(), RestoreError> {
        let Some((first, end)) = self.reach else { return Ok(()) };
        let keep = (start.0 / SEGMENT).min(end.0 / SEGMENT).max(first.0 / SEGMENT);
        for segment in first.0 / SEGMENT..keep {
            fs::remove_file(self.path(segment)).map_err(failed)?;
        }
        self.reach = Some((Lsn(keep * SEGMENT), end));
        Ok(())
    }

    /// Puts the files where PostgreSQL looks for them, and goes on there.
    pub(crate) fn move_to(&mut self, folder: &Path) -> Result<(), RestoreError> {
        self.current = None;
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            fs::rename(entry.path(), folder.join(entry.file_name())).map_err(failed)?;
        }
        fs::remove_dir(&self.folder).map_err(failed)?;
        self.folder = folder.to_owned();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_begins_again_replaces_everything_behind_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = Segments::new(&folder.path().join("wal"));
        segments.write(1, Lsn(5), b"not from the beginning of a file").unwrap();
        assert_eq!(segments.reach(), None);
        segments.write(1, Lsn(SEGMENT - 3), &[1; 103]).unwrap();
        assert_eq!(segments.reach(), Some((Lsn(SEGMENT), Lsn(SEGMENT + 100))));
        segments.write(1, Lsn(SEGMENT + 100), &vec![2; 40 << 20]).unwrap();
        segments.write(1, Lsn(SEGMENT + 50), &[3; 10]).unwrap();
        assert_eq!(segments.reach(), Some((Lsn(SEGMENT), Lsn(SEGMENT + 60))));
        let target = folder.path().join("pg_wal");
        fs::create_dir(&target).unwrap();
        segments.move_to(&target).unwrap();
        let names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["000000010000000000000001"]);
        let bytes = fs::read(target.join(&names[0])).unwrap();
        assert_eq!(bytes.len() as u64, SEGMENT);
        assert_eq!(&bytes[..61], [&[1; 50][..], &[3; 10], &[0]].concat());
        assert!(bytes[60..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_gap_and_another_timeline_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = Segments::new(&folder.path().join("wal"));
        segments.write(1, Lsn(SEGMENT), &[1; 100]).unwrap();
        assert!(segments.write(1, Lsn(SEGMENT + 101), &[1]).is_err());
        assert!(segments.write(2, Lsn(SEGMENT + 100), &[1]).is_err());
        assert!(segments.write(1, Lsn(0), &[1]).is_err());
    }
}
