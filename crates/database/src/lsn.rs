//! Positions in PostgreSQL's write-ahead log.

use std::{fmt, str::FromStr};

use tokio::sync::watch;

/// A position in the write-ahead log: bytes since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// Up to where the log is sealed, on disk and anchored. What a session did is acknowledged, and what it read may be
/// shown, once this has passed the session's position.
pub type SealedPosition = watch::Receiver<Lsn>;

/// It is not a position as PostgreSQL writes them: two hexadecimal numbers with a slash between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position of the write-ahead log")]
pub struct NotAnLsn;

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let half = |digits: &str| {
            let plain = digits.len() <= 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten().ok_or(NotAnLsn)
        };
        let (high, low) = text.split_once('/').ok_or(NotAnLsn)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_postgresql_does() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for bad in ["", "0", "/", "0/", "1/123456789", "+1/0", "0/ 1", "g/0"] {
            assert_eq!(bad.parse::<Lsn>(), Err(NotAnLsn), "{bad}");
        }
    }
}
