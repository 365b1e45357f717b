//! Reading a whole log and holding it against its anchor: nothing of it may be used before this has returned.

use volume::{Head, Host, Lock};

use crate::{
    cipher::LogKey,
    cursor::{Cursor, Step, Tail},
    error::Error,
    format::{Entry, FileMark},
    history::{Heads, Held},
};

/// What is known of the newest record that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchored {
    /// There was never one.
    Never,
    /// This one.
    At(Head),
    /// Nothing: that an old copy is found is left to those who hold receipts.
    Unknown,
}

impl From<Option<Head>> for Anchored {
    fn from(head: Option<Head>) -> Self {
        head.map_or(Self::Never, Self::At)
    }
}

/// How many authentic records may stand behind the anchored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// One: each record is anchored before the next is written.
    One,
    /// Any: the anchor follows with a lag that was agreed.
    Any,
}

/// What a log holds. No other instance writes it while this, or the [`Writer`](crate::Writer) made of it, is there.
pub struct Contents {
    /// Its last record. `None`: it has none.
    pub head: Option<Head>,
    /// Where its anchor stood.
    pub anchored: Anchored,
    /// Its files from the base on, in order.
    pub files: Vec<FileMark>,
    /// Its history from the base on.
    pub heads: Heads,
    pub(crate) lock: Box<dyn Lock>,
}

/// Reads a log, gives each entry with the head of its record to `visit`, and holds the whole against `anchored`. What
/// `visit` was given is the log's content only once this has returned without an error.
///
/// # Errors
/// With what the host did, by name; [`Error::InUse`]; or whatever `visit` returns.
pub fn read(
    host: &dyn Host,
    key: &LogKey,
    anchored: Anchored,
    ahead: Ahead,
    visit: &mut dyn FnMut(Head, Entry<'_>) -> Result<(), Error>,
) -> Result<Contents, Error> {
    let lock = host.lock(false)?.ok_or(Error::InUse)?;
    conclude(lock, Cursor::open(host, key)?, host, anchored, ahead, visit)
}

impl Cursor {
    /// Reads the rest as [`read`] does, for one who followed the log and is now to write it.
    ///
    /// # Errors
    /// As [`read`].
    pub fn close(
        mut self,
        host: &dyn Host,
        anchored: Anchored,
        ahead: Ahead,
        visit: &mut dyn FnMut(Head, Entry<'_>) -> Result<(), Error>,
    ) -> Result<Contents, Error> {
        let lock = host.lock(false)?.ok_or(Error::InUse)?;
        self.refresh(host)?;
        conclude(lock, self, host, anchored, ahead, visit)
    }
}

fn conclude(
    lock: Box<dyn Lock>,
    mut cursor: Cursor,
    host: &dyn Host,
    anchored: Anchored,
    ahead: Ahead,
    visit: &mut dyn FnMut(Head, Entry<'_>) -> Result<(), Error>,
) -> Result<Contents, Error> {
    let tail = loop {
        match cursor.next(host)? {
            Step::Record(head, plain) => plain.entries().try_for_each(|entry| visit(head, entry?))?,
            Step::End(tail) => break tail,
        }
    };
    let head = cursor.head().filter(|head| head.sequence > 0);
    let (begin, heads) = cursor.history();
    check(begin, head, heads, anchored, ahead, tail)?;
    let heads = if anchored == Anchored::Never { Heads::default() } else { heads.clone() };
    Ok(Contents { head, anchored, files: cursor.files().to_vec(), heads, lock })
}

fn check(
    begin: Option<Head>,
    head: Option<Head>,
    heads: &Heads,
    anchored: Anchored,
    ahead: Ahead,
    tail: Tail,
) -> Result<(), Error> {
    let found = head.map_or(0, |head| head.sequence);
    let at = match anchored {
        Anchored::Unknown => return Ok(()),
        // A log that was begun, and whose first record was not anchored before power was lost, was never acknowledged.
        Anchored::Never if found <= 1 => return Ok(()),
        Anchored::Never => return Err(Error::Unanchored),
        Anchored::At(at) => at,
    };
    let Some(begin) = begin else { return Err(Error::Missing) };
    if found < at.sequence {
        return Err(match tail {
            Tail::Whole => Error::RolledBack { found, anchored: at.sequence },
            Tail::Cut => Error::Cut(found + 1),
            Tail::Forged => Error::Tampered(found + 1),
        });
    }
    let contained = begin == at || heads.holds(at) == Held::Contained;
    let ahead_of_anchor = Error::AheadOfAnchor { found, anchored: at.sequence };
    if at.sequence < begin.sequence {
        return Err(ahead_of_anchor);
    }
    if !contained {
        return Err(Error::Forked(at.sequence));
    }
    if ahead == Ahead::One && found > at.sequence + 1 {
        return Err(ahead_of_anchor);
    }
    Ok(())
}
