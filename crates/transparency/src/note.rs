//! Signed notes, by C2SP signed-note: text, an empty line, and signature lines `— <name> <base64>`, whose first
//! four bytes name the key.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Bytes of a note that are read at most.
pub const MAX_NOTE: usize = 64 * 1024;
/// Signatures of a note that are read at most.
pub const MAX_SIGNATURES: usize = 64;

/// Ed25519 by whoever calls: key, message, signature.
pub type Ed25519Verify<'a> = &'a dyn Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool;

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The log: the note's text. Algorithm 0x01.
    Log,
    /// A witness: `cosignature/v1`, a time, and the text. Algorithm 0x04, C2SP tlog-cosignature.
    Witness,
}

/// An Ed25519 key with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    signer: Signer,
    key: [u8; 32],
}

/// A note whose form is right. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text, with its last newline.
    pub text: String,
    /// Signatures as they stand there.
    pub signatures: Vec<NoteSignature>,
}

/// One line below a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Whose.
    pub name: String,
    /// The key's first four bytes of SHA-256.
    pub key_id: [u8; 4],
    /// The signature, for a witness after eight bytes of time.
    pub signature: Vec<u8>,
}

/// Why a note or key is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Not the form of a note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Not the form of a verifier key.
    #[error("not a verifier key `name+hash+key`")]
    Key,
    /// No line is of this key.
    #[error("{0} has not signed the note")]
    Unsigned(String),
    /// A line names this key, and its signature is wrong.
    #[error("the signature of {0} is wrong")]
    Signature(String),
}

impl NoteKey {
    /// A key. The name has neither white space nor `+`, and is not empty.
    pub fn new(name: &str, signer: Signer, key: [u8; 32]) -> Result<Self, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Key);
        }
        Ok(Self { name: name.to_owned(), signer, key })
    }

    /// Reads a verifier key, `name+hash+base64`.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let bytes = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
        let (signer, key) = match bytes.split_first() {
            Some((1, key)) => (Signer::Log, key),
            Some((4, key)) => (Signer::Witness, key),
            _ => return Err(NoteError::Key),
        };
        let key = Self::new(name, signer, key.try_into().map_err(|_| NoteError::Key)?)?;
        if id == format!("{:08x}", u32::from_be_bytes(key.id())) { Ok(key) } else { Err(NoteError::Key) }
    }

    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The point.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// What it signs.
    pub fn signer(&self) -> Signer {
        self.signer
    }

    /// What is to be signed of a note's text; `time`, in seconds since 1970, is a witness's.
    pub fn message(&self, text: &str, time: u64) -> String {
        match self.signer {
            Signer::Log => text.to_owned(),
            Signer::Witness => format!("cosignature/v1\ntime {time}\n{text}"),
        }
    }

    /// The line for a signature of [`NoteKey::message`].
    pub fn signature(&self, time: u64, signature: &[u8; 64]) -> NoteSignature {
        let signature = match self.signer {
            Signer::Log => signature.to_vec(),
            Signer::Witness => [&time.to_be_bytes()[..], signature].concat(),
        };
        NoteSignature { name: self.name.clone(), key_id: self.id(), signature }
    }

    /// The time of a line of this key whose signature is right.
    fn verify(&self, text: &str, line: &[u8], ed25519: Ed25519Verify<'_>) -> Option<u64> {
        let (time, signature) = match self.signer {
            Signer::Log => (0, line),
            Signer::Witness => {
                let (time, signature) = line.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*time), signature)
            }
        };
        let signature: &[u8; 64] = signature.try_into().ok()?;
        // C2SP tlog-cosignature: no time is beyond 2⁶³ − 1.
        let right =
            i64::try_from(time).is_ok() && ed25519(&self.key, self.message(text, time).as_bytes(), signature);
        right.then_some(time)
    }

    fn algorithm(&self) -> u8 {
        match self.signer {
            Signer::Log => 1,
            Signer::Witness => 4,
        }
    }

    /// What names it in signature lines: SHA-256 of name, newline, algorithm and key, its first four bytes.
    pub fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.algorithm()])
            .chain_update(self.key);
        let digest: [u8; 32] = digest.finalize().into();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl Note {
    /// Reads a note.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::Malformed("too long"));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("not UTF-8"))?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed("a control character"));
        }
        let end = note.rfind("\n\n").ok_or(NoteError::Malformed("no signatures"))?;
        let (text, lines) = (&note[..=end], &note[end + 2..]);
        let signatures = NoteSignature::parse_lines(lines)?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// That `key` signed the text. Gives a witness's time, in seconds since 1970, and 0 for a log. Lines of other keys
    /// say nothing; each line of this one must be right.
    pub fn verify(&self, key: &NoteKey, ed25519: Ed25519Verify<'_>) -> Result<u64, NoteError> {
        let id = key.id();
        let mut found = Err(NoteError::Unsigned(key.name.clone()));
        for line in self.signatures.iter().filter(|line| line.name == key.name && line.key_id == id) {
            let time = key.verify(&self.text, &line.signature, ed25519);
            found = Ok(time.ok_or_else(|| NoteError::Signature(key.name.clone()))?);
        }
        found
    }

    /// The note: the text, and a line for each signature.
    pub fn to_text(&self) -> String {
        let lines = self.signatures.iter().map(NoteSignature::to_line);
        format!("{}\n{}", self.text, lines.collect::<String>())
    }
}

impl NoteSignature {
    /// Reads lines as a witness gives them, each with its newline.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, NoteError> {
        let lines = text.strip_suffix('\n').ok_or(NoteError::Malformed("no newline at its end"))?;
        let read: Vec<_> =
            lines.split('\n').take(MAX_SIGNATURES + 1).map(signature).collect::<Result<_, _>>()?;
        if read.len() > MAX_SIGNATURES {
            return Err(NoteError::Malformed("too many signatures"));
        }
        Ok(read)
    }

    /// The line, with its newline.
    pub fn to_line(&self) -> String {
        let data = STANDARD.encode([&self.key_id[..], &self.signature].concat());
        format!("— {} {data}\n", self.name)
    }
}

impl std::fmt::Display for NoteKey {
    /// As a verifier key, `name+hash+base64`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = STANDARD.encode([&[self.algorithm()][..], &self.key].concat());
        write!(f, "{}+{:08x}+{key}", self.name, u32::from_be_bytes(self.id()))
    }
}

fn signature(line: &str) -> Result<NoteSignature, NoteError> {
    let malformed = || NoteError::Malformed("a signature line");
    let (name, data) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or_else(malformed)?;
    let data = STANDARD.decode(data).map_err(|_| malformed())?;
    let (key_id, signature) = data.split_first_chunk::<4>().ok_or_else(malformed)?;
    if !is_name(name) || signature.is_empty() {
        return Err(malformed());
    }
    Ok(NoteSignature { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}
