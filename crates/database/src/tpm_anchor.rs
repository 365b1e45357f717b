//! A chain in a TPM as the log's anchor. The TPM holds one hash, the last of a chain that nobody can turn back; which
//! head it stands for is in a file of the host, and proved by the hash.
//!
//! ```text
//!  value n+1 = SHA-256(value n ‖ SHA-256(label ‖ head))           in the TPM, extended
//!  anchor    = value n ‖ head ‖ next head                          in the file, before the TPM is extended
//! ```
//!
//! An older file, or an invented one, does not lead to the value that the TPM has. Not yet run on hardware: tested with
//! swtpm, a TPM of software.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest::{Context, SHA256},
};
use tpm_anchor::{Address, Index, KeyDigest, Opened, Tpm, TpmError};
use volume::{Anchor, AnchorError, Head};
use zeroize::Zeroizing;

const FIRST: &[u8; 32] = b"bailey/database/sealed-log/1\0\0\0\0";
const STEP: &[u8] = b"bailey/database/log/1/head";
const PIN: &[u8] = b"bailey/database/anchor/1/pin";
/// Where the chain is, sealed; and which head it stands for.
const PIN_FILE: &str = "anchor-pin";
const HEAD_FILE: &str = "anchor-head";
const TAG: usize = 16;

type Value = [u8; 32];

/// Why there is no anchor.
#[derive(Debug, thiserror::Error)]
pub enum TpmAnchorError {
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// Another TPM than the one that the launch configuration requires.
    #[error("the TPM has the key {seen}, and {expected} is required")]
    OtherTpm {
        /// The one that is required.
        expected: KeyDigest,
        /// The one that is there.
        seen: KeyDigest,
    },
    /// Its files cannot be written or read.
    #[error("the anchor's files cannot be used")]
    Files(#[from] io::Error),
    /// Its files are not those that were written.
    #[error("the anchor's file {0} was altered")]
    Altered(&'static str),
    /// The chain is elsewhere than the files say: they are old, or another instance moved it.
    #[error(
        "the chain in the TPM is not where the anchor's file says: an old copy, or another instance moved it"
    )]
    Elsewhere,
}

impl TpmAnchorError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tpm(_) => "TPM_UNREACHABLE",
            Self::OtherTpm { .. } => "TPM_OTHER",
            Self::Files(_) => "HOST_DISK_FAILED",
            Self::Altered(_) => "ANCHOR_ALTERED",
            Self::Elsewhere => "ANCHOR_ELSEWHERE",
        }
    }
}

/// The chain, open.
pub struct TpmAnchor {
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    opened: Opened,
    /// Before the last step; where there was none, the value of the new chain.
    before: Value,
    head: Option<Head>,
    /// Now.
    value: Value,
}

fn hash(parts: &[&[u8]]) -> Value {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn step(head: Head) -> Value {
    hash(&[STEP, &head.sequence.to_le_bytes(), &head.hash])
}

fn after(value: &Value, head: Head) -> Value {
    hash(&[value, &step(head)])
}

impl TpmAnchor {
    /// The chain that the files in `folder` name; where there are none, a new one in the TPM at `address`. `key` seals
    /// what opens it, and is used for nothing else.
    ///
    /// # Errors
    /// See [`TpmAnchorError`]. Files that are missing where there was a chain make a new one, which knows of no log:
    /// that is refused when the log is read.
    pub fn open(
        address: &Address,
        required: Option<KeyDigest>,
        folder: &Path,
        key: &[u8; 32],
    ) -> Result<Self, TpmAnchorError> {
        let tpm = Tpm::connect(address)?;
        if let Some(expected) = required.filter(|expected| *expected != tpm.key()) {
            return Err(TpmAnchorError::OtherTpm { expected, seen: tpm.key() });
        }
        fs::create_dir_all(folder)?;
        let state = match read(&folder.join(PIN_FILE))? {
            Some(sealed) => {
                let index = unseal(key, sealed).ok_or(TpmAnchorError::Altered(PIN_FILE))?;
                let mut opened = tpm.open(index)?;
                let value = opened.read()?;
                let file = read(&folder.join(HEAD_FILE))?.unwrap_or_default();
                let (before, head, next) = parse(&file).ok_or(TpmAnchorError::Altered(HEAD_FILE))?;
                place(opened, value, before, head, next).ok_or(TpmAnchorError::Elsewhere)?
            }
            None => {
                let mut opened = tpm.define(FIRST)?;
                let value = opened.read()?;
                write(folder, HEAD_FILE, &encode(&value, None, None))?;
                write(folder, PIN_FILE, &seal(key, opened.index()))?;
                State { opened, before: value, head: None, value }
            }
        };
        Ok(Self { folder: folder.to_owned(), state: Mutex::new(state) })
    }
}

/// Which of the two heads of the file the chain stands for.
fn place(
    opened: Opened,
    value: Value,
    before: Value,
    head: Option<Head>,
    next: Option<Head>,
) -> Option<State> {
    let at_head = head.map_or(before, |head| after(&before, head));
    if at_head == value {
        return Some(State { opened, before, head, value });
    }
    let at_next = next.is_some_and(|next| after(&at_head, next) == value);
    at_next.then_some(State { opened, before: at_head, head: next, value })
}

impl Anchor for TpmAnchor {
    fn current(&self) -> Result<Option<Head>, AnchorError> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).head)
    }

    /// Asks a device: not for an async thread.
    fn advance(&self, from: Option<Head>, to: Head) -> Result<(), AnchorError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.head != from {
            // A step of which the answer was lost is not taken twice.
            return if state.head == Some(to) { Ok(()) } else { Err(AnchorError::Moved) };
        }
        let unreachable = |error: &dyn std::fmt::Display| AnchorError::Unreachable(error.to_string());
        let file = encode(&state.before, from, Some(to));
        write(&self.folder, HEAD_FILE, &file).map_err(|error| unreachable(&error))?;
        let expected = after(&state.value, to);
        let extended = state.opened.extend(&step(to));
        let seen = state.opened.read().map_err(|error| unreachable(&error))?;
        if seen == expected {
            (state.before, state.head, state.value) = (state.value, Some(to), seen);
            return Ok(());
        }
        if seen != state.value {
            return Err(AnchorError::Moved);
        }
        Err(extended
            .err()
            .map_or_else(|| unreachable(&"the step was not taken"), |error| unreachable(&error)))
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// All of it or nothing, whenever power is lost.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// 32 bytes, then twice 41: whether there is one, its number, its hash.
fn encode(before: &Value, head: Option<Head>, next: Option<Head>) -> Vec<u8> {
    let mut out = before.to_vec();
    for head in [head, next] {
        out.push(u8::from(head.is_some()));
        let head = head.unwrap_or(Head { sequence: 0, hash: [0; 32] });
        out.extend(head.sequence.to_le_bytes());
        out.extend(head.hash);
    }
    out
}

/// Whether a host's file says where the chain stands, and would be written so: for fuzzing.
pub fn names_a_place(bytes: &[u8]) -> bool {
    let Some((before, head, next)) = parse(bytes) else { return false };
    let written = encode(&before, head, next);
    assert_eq!(parse(&written), Some((before, head, next)));
    true
}

fn parse(bytes: &[u8]) -> Option<(Value, Option<Head>, Option<Head>)> {
    let (before, rest) = bytes.split_first_chunk()?;
    let (first, second) = rest.split_at_checked(41)?;
    let head = |bytes: &[u8]| {
        let (there, rest) = bytes.split_first()?;
        let (sequence, hash) = rest.split_first_chunk()?;
        let head = Head { sequence: u64::from_le_bytes(*sequence), hash: hash.try_into().ok()? };
        match there {
            0 => Some(None),
            1 => Some(Some(head)),
            _ => None,
        }
    };
    Some((*before, head(first)?, head(second)?))
}

fn aead(key: &[u8; 32]) -> RandomizedNonceKey {
    match RandomizedNonceKey::new(&AES_256_GCM, key) {
        Ok(key) => key,
        Err(_) => unreachable!("an AES-256 key has 32 bytes"),
    }
}

fn seal(key: &[u8; 32], index: &Index) -> Vec<u8> {
    let mut plain = [&index.key.0[..], &index.handle.to_le_bytes(), &*index.auth].concat();
    match aead(key).seal_in_place_append_tag(Aad::from(PIN), &mut plain) {
        Ok(nonce) => [&nonce.as_ref()[..], plain.as_slice()].concat(),
        Err(_) => unreachable!("AES-256-GCM seals whatever is below 64 GiB"),
    }
}

fn unseal(key: &[u8; 32], mut sealed: Vec<u8>) -> Option<Index> {
    if sealed.len() != NONCE_LEN + 68 + TAG {
        return None;
    }
    let nonce = Nonce::from(sealed.first_chunk::<NONCE_LEN>()?);
    let plain: &[u8] = aead(key).open_in_place(nonce, Aad::from(PIN), &mut sealed[NONCE_LEN..]).ok()?;
    let (digest, rest) = plain.split_first_chunk()?;
    let (handle, auth) = rest.split_first_chunk()?;
    Some(Index {
        key: KeyDigest(*digest),
        handle: u32::from_le_bytes(*handle),
        auth: Zeroizing::new(auth.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_it_was_written_and_nothing_else_is() {
        let head = |sequence| Some(Head { sequence, hash: [3; 32] });
        for (first, second) in [(None, None), (None, head(1)), (head(7), head(8))] {
            let bytes = encode(&[9; 32], first, second);
            assert_eq!(parse(&bytes), Some(([9; 32], first, second)));
            for length in 0..bytes.len() {
                assert_eq!(parse(&bytes[..length]), None);
            }
        }
    }
}
