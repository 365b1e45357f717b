//! Making a volume, and taking one over.

use std::collections::BTreeMap;

use super::{CHUNK, MAX_SIZE, Options, content::Inner};
use crate::{
    anchor::{Anchor, Head},
    cipher::{self, Purpose, SessionKey, VolumeKey},
    error::Error,
    host::{Host, HostFile},
    log::{Log, Sealer},
    open::{self, DATA, Found, Restored},
    pages::Pages,
    slots::Slots,
    tree::{Changes, Time, Tree},
};

/// Before the first commit.
const BEFORE: Head = Head { sequence: 0, hash: [0; 32] };

pub(super) fn open(
    host: Box<dyn Host>,
    key: &VolumeKey,
    anchor: Box<dyn Anchor>,
    options: &Options,
) -> Result<Inner, Error> {
    if options.size > MAX_SIZE {
        return Err(Error::SizeUnsupported);
    }
    let lock = host.lock(options.read_only)?.ok_or(Error::InUse)?;
    let found = open::find(&*host, &*anchor, key, options.read_only)?;
    let id = cipher::volume_id(key);
    let (restored, from, anchored) = match found {
        Found::Nothing if options.read_only => return Err(Error::Missing),
        Found::Nothing => (empty(), BEFORE, None),
        Found::State { head, anchored, state } => {
            let restored = open::restore(state).map_err(|_| Error::Tampered("log"))?;
            (restored, head, Some(anchored))
        }
    };
    let data = data(&*host, &restored, options.read_only)?;
    let Restored { mut tree, sessions, slots, used, .. } = restored;
    tree.changes = Some(Changes::default());
    let keys = sessions
        .iter()
        .map(|(number, salt)| (*number, SessionKey::new(key, &id, salt, Purpose::Data)))
        .collect();
    let session = sessions.last_key_value().map_or(0, |(last, _)| last.wrapping_add(1));
    let mut inner = Inner {
        host,
        anchor,
        data,
        log: None,
        id,
        tree,
        changed: super::ChangedChunks::new(),
        sessions,
        keys,
        session,
        counter: 0,
        slots,
        pages: Pages::default(),
        scratch: vec![0; CHUNK],
        used,
        max: options.size,
        head: from,
        doubt: None,
        unsynced: false,
        stopped: None,
        _lock: lock,
    };
    if !options.read_only {
        inner.take_over(key, anchored)?;
    }
    Ok(inner)
}

fn empty() -> Restored {
    let mut tree = Tree::new(Time::default());
    tree.changes = Some(Changes::default());
    Restored { tree, sessions: BTreeMap::new(), slots: Slots::default(), used: 0, data_end: 0 }
}

fn data(host: &dyn Host, restored: &Restored, read_only: bool) -> Result<Box<dyn HostFile>, Error> {
    let data = match host.open(DATA, read_only) {
        Ok(data) => data,
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Err(_) if restored.data_end > 0 || read_only => return Err(Error::Truncated("data")),
        Err(_) => host.create(DATA)?,
    };
    if data.length()? < restored.data_end {
        return Err(Error::Truncated("data"));
    }
    Ok(data)
}

impl Inner {
    /// A session of our own, in a log of our own, known to the anchor: from then on nobody else's commits count.
    fn take_over(&mut self, key: &VolumeKey, anchored: Option<Head>) -> Result<(), Error> {
        if let Some(anchored) = anchored.filter(|anchored| *anchored != self.head) {
            // The commit that was written and not acknowledged.
            self.anchor.advance(Some(anchored), self.head)?;
        }
        let salt = cipher::session_salt()?;
        self.sessions.insert(self.session, salt);
        self.keys.insert(self.session, SessionKey::new(key, &self.id, &salt, Purpose::Data));
        let mut sealer = Sealer::new(key, self.id, salt);
        let record = self.everything();
        let (log, head) = Log::begin(&*self.host, &mut sealer, self.head, record)?;
        let from = (self.head != BEFORE).then_some(self.head);
        self.anchor.advance(from, head)?;
        self.head = head;
        self.log = Some((log, sealer));
        self.remove_old_logs();
        Ok(())
    }
}
