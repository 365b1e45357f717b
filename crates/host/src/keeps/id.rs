//! The name of a client's Keep: 128 random bits. Who does not have it cannot ask for the Keep; who has it still has
//! to be the tenant that leased it.

use std::fmt;
use std::io;
use std::str::FromStr;

use aws_lc_rs::rand;

use crate::names::ProcessName;

/// What the processes of clients' Keeps are called before their name.
const PREFIX: &str = "k-";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeepId([u8; 16]);

impl KeepId {
    pub(super) fn generate() -> io::Result<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| io::Error::other("there is no randomness"))?;
        Ok(Self(bytes))
    }

    #[cfg(test)]
    pub(super) fn number(number: u8) -> Self {
        Self([number; 16])
    }

    /// The name of its process.
    pub(super) fn process(self) -> ProcessName {
        format!("{PREFIX}{self}").try_into().unwrap_or_else(|_| unreachable!("a prefix and hex digits"))
    }

    /// Of a process, if it is a client's Keep.
    pub(crate) fn of(process: &ProcessName) -> Option<Self> {
        process.as_str().strip_prefix(PREFIX)?.parse().ok()
    }
}

impl fmt::Display for KeepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What is no name of a Keep.
#[derive(Debug)]
pub(crate) struct NoKeepId;

impl FromStr for KeepId {
    type Err = NoKeepId;

    fn from_str(text: &str) -> Result<Self, NoKeepId> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NoKeepId)?;
        // Upper case would be a second name.
        if keep_protocol::host::is_keep_id(text) { Ok(Self(bytes)) } else { Err(NoKeepId) }
    }
}
