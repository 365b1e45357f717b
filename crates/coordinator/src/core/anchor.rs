//! Whether a state is the newest one, decided against what lies outside the host.
//!
//! **A chain in a TPM.** The TPM keeps one value, that only grows by hashing: `next = SHA-256(value ‖ head)`, one step
//! for each batch that is written. Order of a commit, in which a crash may come anywhere:
//!
//! ```text
//!   1 append    the batch, and with it the value before it, in one transaction      value = before(batch)
//!   2 extend    the TPM by the log's new head                                       value = next(before, head)
//!   3 read      the TPM, and compare                                                another writer is seen here
//!   4 publish   the new state, and answer
//! ```
//!
//! So at a start the newest log is where the TPM is ([`Standing::Current`]), or one batch ahead of it, which nobody
//! was told of ([`Standing::InFlight`]: extend, then serve). Every older log, and every log that went another way, has
//! a value that the TPM has left, or never had. Two clones of one state that run at once both extend; whoever reads
//! what it did not expect stops before it answers.
//!
//! **Heads that others hold.** A client, or a peer, remembers a length and the head at it ([`Position`]); the log that
//! continues what it holds has the same head at that length.

use std::collections::VecDeque;

pub use attested_tls::anchor::Position;
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::store::Head;

/// So many heads are kept in memory for those who come with an older one.
const MOST_HEADS: usize = 16 * 1024;

/// What an index of a TPM holds.
pub type Value = [u8; 32];

/// Where a mesh's chain is, and how to come at it: in the sealed state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmPin {
    /// SHA-256 of the SubjectPublicKeyInfo of the TPM's endorsement key.
    pub key: ByteArray<32>,
    /// The handle of the index.
    pub index: u32,
    /// Opens the index; nobody else knows it. It does not end in zero: a TPM drops zeros at the end.
    pub auth: ByteArray<32>,
}

/// The chain of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Where it is.
    pub pin: TpmPin,
    /// Its value before the newest batch.
    pub before: ByteArray<32>,
}

/// The value after `head` was added (TPM 2.0 Library, Part 3, §31.8: `TPM2_NV_Extend`).
pub fn next(value: &Value, head: &Head) -> Value {
    let mut context = Context::new(&SHA256);
    context.update(value);
    context.update(head);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// How a log stands to its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The newest batch is in the chain.
    Current,
    /// It is not yet: whoever wrote it came no further, and told nobody.
    InFlight,
}

/// Compares a log with what the TPM has now.
///
/// # Errors
/// The log is an older one, or one that went another way.
pub fn standing(before: &Value, head: &Head, seen: &Value) -> Result<Standing, Superseded> {
    match seen {
        seen if *seen == next(before, head) => Ok(Standing::Current),
        seen if seen == before => Ok(Standing::InFlight),
        _ => Err(Superseded),
    }
}

/// Why a state is served to nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The TPM has gone on without it.
    #[error(
        "this state ({length} records) is not the one that the TPM saw last: an older copy was put back, or another \
         one went on. Nothing is served from it. Put the newer state back, or let the holders of recovery keys accept \
         the loss"
    )]
    Superseded {
        /// How many records are here.
        length: u64,
    },
    /// Somebody holds a newer head, or another one.
    #[error(transparent)]
    Contradicted(#[from] Contradiction),
    /// The log that replicas share is not the one that this one saw.
    #[error("this replica answers nothing any more: {0}")]
    Replaced(String),
    /// The TPM does not answer for the chain.
    #[error(
        "whether this state ({length} records) is the newest cannot be known: {reason}. Nothing is served from it. \
         Bring back the TPM, or let the holders of recovery keys accept that newer records may be lost"
    )]
    Unknowable {
        /// How many records are here.
        length: u64,
        /// The TPM's, or the transport's.
        reason: String,
    },
}

impl Unfit {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Superseded { .. }
            | Self::Contradicted(Contradiction::RolledBack { .. })
            | Self::Replaced(_) => "STATE_ROLLED_BACK",
            Self::Contradicted(Contradiction::Forked { .. }) => "STATE_FORKED",
            Self::Unknowable { .. } => "ANCHOR_LOST",
        }
    }
}

/// The chain is at neither of the two values that this log allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded;

/// What another's head says of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The log continues it.
    Continued,
    /// It is of a time, or of another replica's batch, of which no heads are kept.
    TooOld,
}

/// Why another's head and a log cannot both be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The log was longer once.
    #[error(
        "an older copy of the state was put back: it has {} records, and it had {} before (head {}). Nothing is \
         served from it. Put the newer state back, or let the holders of recovery keys accept the loss",
        own.length, held.length, hex::encode(held.head)
    )]
    RolledBack {
        /// What is here.
        own: Position,
        /// What was.
        held: Position,
    },
    /// The log went another way.
    #[error(
        "the state was forked: after {} records its head was {}, and here it is another. Nothing is served from it. \
         Put the other state back, or let the holders of recovery keys accept the loss",
        held.length, hex::encode(held.head)
    )]
    Forked {
        /// What is here.
        own: Position,
        /// What was.
        held: Position,
    },
}

/// The heads of a log after each batch, as far back as they are kept.
#[derive(Clone, Debug, Default)]
pub struct Heads {
    known: VecDeque<Position>,
    /// Others append to the log as well, and answer from states that this coordinator may never have been in.
    shared: bool,
}

impl Heads {
    /// Those that one of several replicas saw.
    pub fn among_replicas() -> Self {
        Self { shared: true, ..Self::default() }
    }

    /// The log came to `position`.
    pub fn push(&mut self, position: Position) {
        if self.known.len() == MOST_HEADS {
            self.known.pop_front();
        }
        self.known.push_back(position);
    }

    /// Judges a head that this mesh's log key signed, and someone held since.
    ///
    /// # Errors
    /// Both cannot be of one log.
    pub fn judge(&self, held: &Position) -> Result<Held, Contradiction> {
        let Some(own) = self.known.back().cloned() else { return Ok(Held::TooOld) };
        if held.length > own.length {
            return Err(Contradiction::RolledBack { own, held: held.clone() });
        }
        let found = self.known.binary_search_by_key(&held.length, |known| known.length);
        match found.ok().and_then(|index| self.known.get(index)) {
            Some(known) if known.head == held.head => Ok(Held::Continued),
            // Another replica's, that was there and gone between two looks.
            None if self.shared => Ok(Held::TooOld),
            // Heads are shown after whole batches only, and those are all here: one in between is another log's.
            None if self.known.front().is_none_or(|oldest| held.length < oldest.length) => Ok(Held::TooOld),
            _ => Err(Contradiction::Forked { own, held: held.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk's content: the log, by the batches in it.
    #[derive(Clone, Debug)]
    struct Copy {
        before: Value,
        batches: Vec<u8>,
    }

    impl Copy {
        fn head(&self) -> Head {
            let mut context = Context::new(&SHA256);
            context.update(&self.batches);
            context.finish().as_ref().try_into().unwrap()
        }

        fn value(&self) -> Value {
            next(&self.before, &self.head())
        }
    }

    #[derive(Clone, Debug, PartialEq)]
    enum Stage {
        Idle,
        Appended,
        Extended,
        Stopped,
    }

    #[derive(Clone, Debug)]
    struct Process {
        copy: Copy,
        stage: Stage,
    }

    /// Everything the host has: each content that a disk ever had, and processes that it runs or kills.
    #[derive(Clone)]
    struct World {
        tpm: Value,
        copies: Vec<Copy>,
        processes: Vec<Process>,
        answered: Vec<Vec<u8>>,
        batches: u8,
    }

    impl World {
        fn new() -> Self {
            let copy = Copy { before: [0; 32], batches: vec![0] };
            let tpm = copy.value();
            Self { tpm, copies: vec![copy], processes: Vec::new(), answered: vec![vec![0]], batches: 0 }
        }

        /// Whether the coordinator agrees to go on from this copy.
        fn start(&mut self, copy: usize) -> bool {
            let copy = self.copies[copy].clone();
            let stage = match standing(&copy.before, &copy.head(), &self.tpm) {
                Ok(Standing::Current) => Stage::Idle,
                Ok(Standing::InFlight) => Stage::Appended,
                Err(Superseded) => return false,
            };
            if stage == Stage::Idle {
                // It serves from now on.
                self.answer(copy.batches.clone());
            }
            self.processes.push(Process { copy, stage });
            true
        }

        fn step(&mut self, process: usize) {
            let mut running = self.processes[process].clone();
            match running.stage {
                Stage::Idle => {
                    self.batches += 1;
                    running.copy.before = running.copy.value();
                    running.copy.batches.push(self.batches);
                    self.copies.push(running.copy.clone());
                    running.stage = Stage::Appended;
                }
                Stage::Appended => {
                    self.tpm = next(&self.tpm, &running.copy.head());
                    running.stage = Stage::Extended;
                }
                Stage::Extended if self.tpm == running.copy.value() => {
                    self.answer(running.copy.batches.clone());
                    running.stage = Stage::Idle;
                }
                Stage::Extended | Stage::Stopped => running.stage = Stage::Stopped,
            }
            self.processes[process] = running;
        }

        /// Whatever was answered before is in what is answered now.
        fn answer(&mut self, batches: Vec<u8>) {
            for before in &self.answered {
                assert!(batches.starts_with(before), "{batches:?} does not continue {before:?}");
            }
            self.answered.push(batches);
        }
    }

    fn explore(world: &World, depth: usize, refused: &mut usize, worlds: &mut usize) {
        *worlds += 1;
        if depth == 0 {
            return;
        }
        for copy in 0..world.copies.len() {
            let mut then = world.clone();
            if then.start(copy) {
                // Of more than two clones no two can do what two cannot. The third start kills the oldest.
                let crashed = then.processes.len().saturating_sub(2);
                then.processes.drain(..crashed);
                explore(&then, depth - 1, refused, worlds);
            } else {
                *refused += 1;
            }
        }
        for process in 0..world.processes.len() {
            if world.processes[process].stage != Stage::Stopped {
                let mut then = world.clone();
                then.step(process);
                explore(&then, depth - 1, refused, worlds);
            }
        }
    }

    #[test]
    fn s16_no_order_of_copies_clones_and_crashes_serves_an_older_or_forked_state() {
        let (mut refused, mut worlds) = (0, 0);
        explore(&World::new(), 11, &mut refused, &mut worlds);
        assert!(refused > 1_000 && worlds > 10_000, "{refused} of {worlds}");
    }

    #[test]
    fn s16_a_crash_at_any_point_never_locks_the_owner_out() {
        // Kills after so many steps, again and again, and starts on what the disk has then.
        for plan in 0..4_u32.pow(6) {
            let mut world = World::new();
            for crash in 0..6 {
                let newest = world.copies.len() - 1;
                assert!(world.start(newest), "plan {plan}, start {crash}");
                let process = world.processes.len() - 1;
                (0..(plan >> (2 * crash)) & 3).for_each(|_| world.step(process));
                assert_ne!(world.processes[process].stage, Stage::Stopped);
            }
        }
    }

    #[test]
    fn s16_every_older_copy_is_refused() {
        let mut world = World::new();
        world.start(0);
        (0..3 * 8).for_each(|_| world.step(0));
        let newest = world.copies.len() - 1;
        assert!((0..newest).all(|copy| !world.clone().start(copy)));
        assert!(world.start(newest));
    }

    #[test]
    fn s17_a_chain_has_no_last_value() {
        let (mut value, mut seen) = ([0; 32], std::collections::HashSet::new());
        for step in 0..1_000_000_u64 {
            let mut head = [0; 32];
            head[..8].copy_from_slice(&step.to_be_bytes());
            value = next(&value, &head);
            if step % 1000 == 0 {
                assert!(seen.insert(value));
            }
        }
    }

    fn position(length: u64, head: u8) -> Position {
        Position { length, head: [head; 32] }
    }

    #[test]
    fn s16_a_head_that_was_held_is_continued_or_contradicts() {
        let mut heads = Heads::default();
        assert_eq!(heads.judge(&position(1, 1)), Ok(Held::TooOld));
        for (length, head) in [(4, 4), (5, 5), (8, 8)] {
            heads.push(position(length, head));
        }
        assert_eq!(heads.judge(&position(3, 9)), Ok(Held::TooOld));
        for (length, head) in [(4, 4), (5, 5), (8, 8)] {
            assert_eq!(heads.judge(&position(length, head)), Ok(Held::Continued));
        }
        for forked in [position(4, 5), position(6, 6), position(8, 9)] {
            assert!(matches!(heads.judge(&forked), Err(Contradiction::Forked { .. })), "{forked:?}");
        }
        assert!(matches!(heads.judge(&position(9, 9)), Err(Contradiction::RolledBack { .. })));
    }

    #[test]
    fn s16_heads_of_other_replicas_contradict_nothing_unless_they_do() {
        let mut heads = Heads::among_replicas();
        [(4, 4), (8, 8)].into_iter().for_each(|(length, head)| heads.push(position(length, head)));
        assert_eq!(heads.judge(&position(6, 6)), Ok(Held::TooOld));
        assert_eq!(heads.judge(&position(4, 4)), Ok(Held::Continued));
        assert!(matches!(heads.judge(&position(4, 5)), Err(Contradiction::Forked { .. })));
        assert!(matches!(heads.judge(&position(9, 9)), Err(Contradiction::RolledBack { .. })));
    }

    #[test]
    fn heads_are_bounded() {
        let mut heads = Heads::default();
        (0..MOST_HEADS as u64 + 10).for_each(|length| heads.push(position(length, 0)));
        assert_eq!(heads.known.len(), MOST_HEADS);
        assert_eq!(heads.judge(&position(9, 1)), Ok(Held::TooOld));
        assert!(matches!(heads.judge(&position(10, 1)), Err(Contradiction::Forked { .. })));
    }
}
