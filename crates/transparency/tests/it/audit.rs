//! A replay finds whatever was changed, and says what it was.

use transparency::*;

use crate::{
    entries::{activated, founded_with, set},
    notes::{Pair, ed25519},
};

/// A log of so many entries, of which the last one is `last`.
struct Served {
    log: Pair,
    entries: Vec<Vec<u8>>,
}

impl Served {
    fn new(count: u8, last: u8) -> Self {
        let Fact::Founded { origin, .. } = founded_with(Digest([0; 32])) else { unreachable!() };
        let log = Pair::new(&origin, Signer::Log, 1);
        let mut facts = vec![founded_with(Digest(*log.key.key())), set(&["ann"], 1)];
        facts.extend((2..count - 1).map(|n| activated(n, 1)));
        facts.push(activated(last, 1));
        let entries = facts.into_iter().map(|fact| Entry::new(0, fact).to_bytes()).collect();
        Self { log, entries }
    }

    fn checkpoint(&self, size: usize) -> Checkpoint {
        let mut tree = Frontier::default();
        self.entries[..size].iter().for_each(|entry| drop(tree.append(leaf_hash(entry))));
        Checkpoint { origin: self.log.key.name().into(), head: tree.head() }
    }

    fn attested(&self) -> Attested {
        Attested { key: self.log.key.clone(), head: self.checkpoint(self.entries.len()).head }
    }

    fn note(&self) -> Vec<u8> {
        self.log.note(&self.checkpoint(self.entries.len()).text())
    }

    fn begin(&self, remembered: impl IntoIterator<Item = Checkpoint>) -> Result<Audit, AuditError> {
        Audit::begin(self.attested(), &self.note(), remembered.into_iter().collect(), &ed25519)
    }
}

/// Replays what is served in place of the entries.
fn replay(mut audit: Audit, entries: &[Vec<u8>]) -> Result<Audited, AuditError> {
    for bundle in audit.bundles() {
        let positions = bundle.positions();
        let (from, to) = (positions.start as usize, (positions.end as usize).min(entries.len()));
        let bytes = Bundle::bytes(entries[from.min(to)..to].iter().map(Vec::as_slice)).unwrap();
        audit.take(&bundle, &bytes)?;
    }
    audit.finish()
}

fn code<T: std::fmt::Debug>(result: Result<T, AuditError>) -> &'static str {
    result.unwrap_err().code()
}

#[test]
fn an_honest_log_is_believed_and_what_it_says_is_given() {
    let served = Served::new(9, 200);
    for remembered in
        [None, Some(served.checkpoint(1)), Some(served.checkpoint(5)), Some(served.checkpoint(9))]
    {
        let audited = replay(served.begin(remembered).unwrap(), &served.entries).unwrap();
        assert_eq!((audited.history.size, audited.covered.epoch), (9, 1));
        assert_eq!(audited.checkpoint, served.checkpoint(9));
    }
}

#[test]
fn a_log_may_have_grown_since_its_evidence_and_not_shrunk() {
    let served = Served::new(9, 200);
    let older = Attested { head: served.checkpoint(6).head, ..served.attested() };
    let audit = Audit::begin(older, &served.note(), Vec::new(), &ed25519).unwrap();
    assert_eq!(replay(audit, &served.entries).unwrap().covered.size, 6);
    let note = served.log.note(&served.checkpoint(8).text());
    assert_eq!(code(Audit::begin(served.attested(), &note, Vec::new(), &ed25519)), "LOG_ROLLED_BACK");
}

#[test]
fn a_changed_a_dropped_and_a_moved_entry_are_found() {
    let served = Served::new(9, 200);
    for at in 0..9 {
        let mut changed = served.entries.clone();
        let last = changed[at].len() - 5;
        changed[at][last] ^= 1;
        let mut dropped = served.entries.clone();
        dropped.remove(at);
        let mut moved = served.entries.clone();
        moved.swap(at, (at + 1) % 9);
        let mut replaced = served.entries.clone();
        replaced[at] = Entry::new(0, activated(99, 1)).to_bytes();
        let mut added = served.entries.clone();
        added.insert(at, Entry::new(0, activated(99, 1)).to_bytes());
        for forged in [changed, dropped, moved, replaced, added] {
            assert_eq!(code(replay(served.begin(None).unwrap(), &forged)), "LOG_ROOT", "entry {at}");
        }
    }
}

/// S-16: two heads of one size, both signed.
#[test]
fn s16_a_fork_is_found_by_whoever_remembers() {
    let (one, other) = (Served::new(9, 200), Served::new(9, 201));
    let forked = replay(other.begin(Some(one.checkpoint(9))).unwrap(), &other.entries);
    assert_eq!(code(forked), "LOG_FORKED");
    let one_of_two = other.begin([other.checkpoint(5), one.checkpoint(9)]).unwrap();
    assert_eq!(code(replay(one_of_two, &other.entries)), "LOG_FORKED", "remembered, and witnessed");
    let longer = Served::new(12, 200);
    let forked = replay(longer.begin(Some(other.checkpoint(9))).unwrap(), &longer.entries);
    assert_eq!(code(forked), "LOG_FORKED");
}

/// S-16: an old state that was put back.
#[test]
fn s16_an_old_checkpoint_is_found_by_whoever_remembers() {
    let served = Served::new(9, 200);
    let newer = Checkpoint { head: Head { size: 10, root: [1; 32] }, ..served.checkpoint(9) };
    assert_eq!(code(served.begin(Some(newer))), "LOG_ROLLED_BACK");
    let other = Checkpoint { origin: "bailey-mesh/other".into(), ..served.checkpoint(3) };
    assert_eq!(code(served.begin(Some(other))), "LOG_OTHER");
}

#[test]
fn a_checkpoint_of_another_key_or_head_than_the_evidences_is_refused() {
    let served = Served::new(9, 200);
    let other = Pair::new(served.log.key.name(), Signer::Log, 2);
    let note = other.note(&served.checkpoint(9).text());
    assert_eq!(code(Audit::begin(served.attested(), &note, Vec::new(), &ed25519)), "LOG_SIGNATURE");
    let attested = Attested { key: other.key.clone(), ..served.attested() };
    let audit = Audit::begin(attested, &note, Vec::new(), &ed25519).unwrap();
    assert_eq!(code(replay(audit, &served.entries)), "LOG_KEY", "the entries name the first key");
    let attested = Attested { head: Head { root: [1; 32], ..served.attested().head }, ..served.attested() };
    let audit = Audit::begin(attested, &served.note(), Vec::new(), &ed25519).unwrap();
    assert_eq!(code(replay(audit, &served.entries)), "LOG_ROOT");
}

#[test]
fn what_a_log_must_not_say_is_found_though_it_is_signed() {
    let mut served = Served::new(9, 200);
    served.entries[5] = Entry::new(0, activated(5, 2)).to_bytes();
    assert_eq!(code(replay(served.begin(None).unwrap(), &served.entries)), "LOG_RULE");
    served.entries[5] = b"{}".to_vec();
    assert_eq!(code(replay(served.begin(None).unwrap(), &served.entries)), "LOG_ENTRY");
}
