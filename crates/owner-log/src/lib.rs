//! Lines of a workload's log, encrypted to its owner's X25519 key (HPKE, RFC 9180, base mode:
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM), so that a host that carries a Keep's log cannot read them.
//!
//! Each line is sealed for itself, with its number, so that one that is missing, repeated or out of order is seen by
//! [`Reader`]. What the host learns is how many lines there are, when, and their length up to 64 bytes. The key proves
//! nothing about who sealed: anyone who has the public key can write lines. A line is text: `bailey-log-1:` and base64.
//!
//! ```text
//! sealed    = encapsulated key 32 ‖ ciphertext        info "bailey/log/1", associated data: the Marble's name
//! plaintext = run 16 ‖ number u64 ‖ stream u8 ‖ length u16 ‖ line ‖ zeros to a multiple of 64     (big-endian)
//! ```
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (private, public) = owner_log::generate()?;
//! let sealer = owner_log::Sealer::new(public, "tally").ok_or("no randomness")?;
//! let line = sealer.seal(owner_log::Stream::Stdout, b"hello", true).ok_or("not sealed")?;
//! let mut reader = owner_log::Reader::new(private, "tally");
//! assert_eq!(reader.open(&line)?.text, b"hello");
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE,
    hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey},
};
use zeroize::Zeroizing;

const INFO: &[u8] = b"bailey/log/1";
const PREFIX: &str = "bailey-log-1:";
const BLOCK: usize = 64;
const KEY: usize = 32;
const FIXED: usize = 16 + 8 + 1 + 2;
/// The longest line, in bytes; the rest of a longer one is cut off.
pub const MAX_LINE: usize = 8192;
/// What a sealed line can be at most, in bytes of base64.
const MAX_SEALED: usize = 12_000;

/// Which of the workload's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// None of its own: what its Keep counted, as JSON.
    Metrics,
}

/// Why a text is no line of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// There is no sealed line in it.
    #[error("there is no sealed line here")]
    Absent,
    /// There is something that is none.
    #[error("the sealed line is malformed")]
    Malformed,
    /// Of another key or Marble, or altered.
    #[error("the line was not sealed to this key for this Marble, or was altered")]
    Forged,
}

/// A key could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no key could be made")]
pub struct NoKey;

/// The private half of a key; wiped when it goes.
pub type PrivateKey = Zeroizing<[u8; KEY]>;

/// Makes a key: private and public half.
pub fn generate() -> Result<(PrivateKey, [u8; KEY]), NoKey> {
    let (public, private) = SUITE.generate_key_pair().map_err(|_| NoKey)?;
    let private = private.secret_bytes().try_into().map_err(|_| NoKey)?;
    let public = public.0.as_slice().try_into().map_err(|_| NoKey)?;
    Ok((Zeroizing::new(private), public))
}

/// Seals the lines of one run of a workload.
pub struct Sealer {
    key: HpkePublicKey,
    marble: String,
    run: [u8; 16],
    next: AtomicU64,
}

impl Sealer {
    /// `None`: there is no randomness.
    pub fn new(key: [u8; KEY], marble: &str) -> Option<Self> {
        let mut run = [0; 16];
        SystemRandom::new().fill(&mut run).ok()?;
        Some(Self {
            key: HpkePublicKey(key.to_vec()),
            marble: marble.to_owned(),
            run,
            next: AtomicU64::new(0),
        })
    }

    /// Seals a line, or counts it only, where it is not `wanted`. `None`: there is nothing to show.
    pub fn seal(&self, stream: Stream, line: &[u8], wanted: bool) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if !wanted {
            return None;
        }
        let line = &line[..line.len().min(MAX_LINE)];
        let mut plaintext = Zeroizing::new(Vec::with_capacity(FIXED + line.len() + BLOCK));
        plaintext.extend(self.run);
        plaintext.extend(number.to_be_bytes());
        plaintext.push(match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
            Stream::Metrics => 2,
        });
        plaintext.extend(u16::try_from(line.len()).ok()?.to_be_bytes());
        plaintext.extend(line);
        let padded = plaintext.len().next_multiple_of(BLOCK);
        plaintext.resize(padded, 0);
        let (key, ciphertext) = SUITE.seal(INFO, self.marble.as_bytes(), &plaintext, &self.key).ok()?;
        Some(format!("{PREFIX}{}", STANDARD.encode([key.0, ciphertext].concat())))
    }
}

/// A line that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which stream.
    pub stream: Stream,
    /// As the workload printed it.
    pub text: Vec<u8>,
    /// What is wrong with its place in the log.
    pub place: Place,
}

/// Where a line is, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It follows the one before it, or is the first of its run.
    Next,
    /// So many lines before it are missing: too many at a time, or kept back.
    After(u64),
    /// It was there before, or belongs before one that was: it was repeated or moved.
    Repeated,
}

/// Opens lines.
pub struct Reader {
    key: HpkePrivateKey,
    marble: String,
    next: BTreeMap<[u8; 16], u64>,
}

impl Reader {
    /// With the private half of the key, for lines of this Marble.
    pub fn new(key: PrivateKey, marble: &str) -> Self {
        Self { key: HpkePrivateKey::from(key.to_vec()), marble: marble.to_owned(), next: BTreeMap::new() }
    }

    /// Opens the sealed line that is somewhere in `text`, a line of a Keep's log.
    pub fn open(&mut self, text: &str) -> Result<Line, LineError> {
        let (_, sealed) = text.split_once(PREFIX).ok_or(LineError::Absent)?;
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
        let length = sealed.bytes().take_while(is_base64).count();
        if length > MAX_SEALED {
            return Err(LineError::Malformed);
        }
        let sealed = STANDARD.decode(&sealed[..length]).map_err(|_| LineError::Malformed)?;
        let (key, ciphertext) = sealed.split_at_checked(KEY).ok_or(LineError::Malformed)?;
        let key = EncapsulatedSecret(key.to_vec());
        let plaintext = SUITE.open(&key, INFO, self.marble.as_bytes(), ciphertext, &self.key);
        let plaintext = Zeroizing::new(plaintext.map_err(|_| LineError::Forged)?);
        let (run, rest) = plaintext.split_first_chunk::<16>().ok_or(LineError::Malformed)?;
        let (number, rest) = rest.split_first_chunk::<8>().ok_or(LineError::Malformed)?;
        let (stream, rest) = rest.split_first().ok_or(LineError::Malformed)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(LineError::Malformed)?;
        let text = rest.get(..usize::from(u16::from_be_bytes(*length))).ok_or(LineError::Malformed)?;
        let stream = match stream {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            2 => Stream::Metrics,
            _ => return Err(LineError::Malformed),
        };
        let place = self.place(*run, u64::from_be_bytes(*number));
        Ok(Line { stream, text: text.to_vec(), place })
    }

    fn place(&mut self, run: [u8; 16], number: u64) -> Place {
        let next = self.next.entry(run).or_insert(0);
        let place = match number.checked_sub(*next) {
            None => return Place::Repeated,
            Some(0) => Place::Next,
            Some(missing) => Place::After(missing),
        };
        *next = number.saturating_add(1);
        place
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(lines: &[&[u8]]) -> (PrivateKey, Vec<String>) {
        let (private, public) = generate().unwrap();
        let sealer = Sealer::new(public, "m").unwrap();
        (private, lines.iter().map(|line| sealer.seal(Stream::Stdout, line, true).unwrap()).collect())
    }

    #[test]
    fn a_line_is_read_by_its_owner_only() {
        let (private, lines) = sealed(&[b"canary"]);
        assert!(!lines[0].contains("canary"));
        let around = format!("keep-1 | {{\"sealed\":\"{}\"}}", lines[0]);
        assert_eq!(Reader::new(private.clone(), "m").open(&around).unwrap().text, b"canary");
        assert_eq!(Reader::new(private, "other").open(&lines[0]), Err(LineError::Forged));
        let (other, _) = generate().unwrap();
        assert_eq!(Reader::new(other, "m").open(&lines[0]), Err(LineError::Forged));
    }

    #[test]
    fn lines_that_are_missing_repeated_or_moved_are_seen() {
        let (private, lines) = sealed(&[b"0", b"1", b"2", b"3"]);
        let mut reader = Reader::new(private, "m");
        let places: Vec<_> = [0, 0, 3, 1].iter().map(|at| reader.open(&lines[*at]).unwrap().place).collect();
        assert_eq!(places, [Place::Next, Place::Repeated, Place::After(2), Place::Repeated]);
    }

    #[test]
    fn a_line_that_is_not_wanted_is_counted() {
        let (private, public) = generate().unwrap();
        let sealer = Sealer::new(public, "m").unwrap();
        assert_eq!(sealer.seal(Stream::Stderr, b"too many", false), None);
        let line = sealer.seal(Stream::Stderr, b"next", true).unwrap();
        let line = Reader::new(private, "m").open(&line).unwrap();
        assert_eq!((line.place, line.stream), (Place::After(1), Stream::Stderr));
    }

    #[test]
    fn each_stream_is_told_from_the_others() {
        let (private, public) = generate().unwrap();
        let (sealer, mut reader) = (Sealer::new(public, "m").unwrap(), Reader::new(private, "m"));
        for stream in [Stream::Stdout, Stream::Stderr, Stream::Metrics] {
            let line = sealer.seal(stream, b"line", true).unwrap();
            assert_eq!(reader.open(&line).unwrap().stream, stream);
        }
    }

    #[test]
    fn the_length_says_little() {
        let (_, lines) = sealed(&[b"", b"a", &[b'x'; 37], &[b'x'; 38]]);
        assert_eq!(lines[0].len(), lines[2].len());
        assert!(lines[2].len() < lines[3].len());
    }

    proptest! {
        #[test]
        fn no_text_is_a_line_by_chance(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (private, _) = generate().unwrap();
            let mut reader = Reader::new(private, "m");
            prop_assert!(reader.open(&text).is_err());
            let line = format!("{PREFIX}{}", STANDARD.encode(&bytes));
            prop_assert!(reader.open(&line).is_err());
        }
    }
}
