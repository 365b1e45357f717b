//! Who watches that the transparency log only grows: witnesses by their keys, and how many of them it takes.

use transparency::{NoteKey, Signer};

use crate::document as wire;
use crate::fault::{Code, Collector};
use crate::path::Path;

/// Verifiers of notes read at least as many signatures (C2SP signed-note).
const MOST: usize = 15;

/// Whose cosignatures of the log's checkpoints count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Witnesses {
    /// Their keys, each another.
    pub keys: Vec<NoteKey>,
    /// How many must have cosigned a checkpoint; 0 where there are no witnesses.
    pub quorum: usize,
}

pub(crate) fn resolve(document: &wire::Transparency, at: &Path<'_>, faults: &mut Collector<'_>) -> Witnesses {
    let here = at.field("Witnesses");
    let mut keys: Vec<NoteKey> = Vec::new();
    for (index, text) in document.witnesses.iter().enumerate() {
        let here = here.index(index);
        match NoteKey::parse(text) {
            Ok(key) if key.signer() != Signer::Witness => {
                faults.add(&here, Code::InvalidValue, "this key is a log's: a witness's has type 0x04");
            }
            // Cosignatures do not say whose they are: a key under two names would count twice.
            Ok(key) if keys.iter().any(|known| known.key() == key.key() || known.name() == key.name()) => {
                faults.add(&here, Code::InvalidValue, "another witness has this name or key");
            }
            Ok(key) => keys.push(key),
            Err(_) => faults.add(
                &here,
                Code::InvalidValue,
                "expected a verifier key as C2SP signed-note has it: name+hash+base64",
            ),
        }
    }
    if document.witnesses.len() > MOST {
        faults.add(&here, Code::InvalidValue, format!("there are more than {MOST} witnesses"));
    }
    let available = document.witnesses.len();
    let quorum = document.quorum.map_or(available, |quorum| usize::try_from(quorum).unwrap_or(usize::MAX));
    if quorum > available || (quorum == 0 && available > 0) {
        let message = format!("{quorum} of {available} witnesses is no quorum");
        faults.add(&at.field("Quorum"), Code::InvalidValue, message);
    }
    Witnesses { keys, quorum }
}
