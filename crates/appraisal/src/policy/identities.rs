//! Lists of platform instances: attestation does not say who holds a machine, and whoever holds it can attack
//! its memory bus (TEE.fail, WireTap). Such lists can be written from a registry of who operates which machine,
//! like Proof of Cloud's.

use evidence::snp::ProductFamily;
use serde::{Deserialize, Serialize};

use crate::PlatformIdentity;

/// Platform instances that are accepted, and that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlatformIdentities {
    /// Only these; any when empty.
    pub allow: Vec<ListedIdentity>,
    /// None of these, even when allowed above.
    pub deny: Vec<ListedIdentity>,
}

/// One platform instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ListedText", into = "ListedText")]
pub struct ListedIdentity {
    id: String,
    owner: Option<String>,
}

/// An identity that could match nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a platform identity must not be empty")]
pub struct EmptyIdentity;

impl ListedIdentity {
    /// Takes an identity as verdicts show it: PPID (32 hexadecimal digits), chip id (128, or 16 on Turin), or the
    /// name of the cloud provider in a VLEK; and who operates the machine.
    ///
    /// # Errors
    /// [`EmptyIdentity`].
    pub fn new(id: impl Into<String>, owner: Option<String>) -> Result<Self, EmptyIdentity> {
        let id = id.into();
        if id.trim().is_empty() { Err(EmptyIdentity) } else { Ok(Self { id, owner }) }
    }

    /// The identity.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who operates the machine.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Whether it is `identity`. A chip id may be written with or without the zeros that follow Turin's eight
    /// bytes; names of providers are compared exactly.
    pub(crate) fn is(&self, identity: &PlatformIdentity) -> bool {
        let seen = identity.to_string();
        match identity {
            PlatformIdentity::Provider(_) => self.id == seen,
            PlatformIdentity::ChipId(_) if self.id.len() == TURIN_DIGITS => {
                let (head, tail) = seen.split_at(TURIN_DIGITS);
                self.id.eq_ignore_ascii_case(head) && tail.bytes().all(|digit| digit == b'0')
            }
            _ => self.id.eq_ignore_ascii_case(&seen),
        }
    }
}

const TURIN_DIGITS: usize = 16;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedText {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

impl From<ListedIdentity> for ListedText {
    fn from(listed: ListedIdentity) -> Self {
        Self { id: listed.id, owner: listed.owner }
    }
}

impl TryFrom<ListedText> for ListedIdentity {
    type Error = EmptyIdentity;

    fn try_from(text: ListedText) -> Result<Self, EmptyIdentity> {
        Self::new(text.id, text.owner)
    }
}

/// A family of processors whose reports its owner can forge, accepted because the owner is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedFamily {
    /// The family.
    pub family: ProductFamily,
    /// Who operates the machines, and is trusted not to forge reports.
    #[serde(deserialize_with = "super::grace::named")]
    pub operator: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turin_chip_may_be_written_short_and_no_other() {
        let mut chip = [0; 64];
        chip[..8].copy_from_slice(&[0xC2; 8]);
        let listed = |id: &str| ListedIdentity::new(id, None).unwrap();
        assert!(listed(&"c2".repeat(8)).is(&PlatformIdentity::ChipId(chip)));
        assert!(listed(&"C2".repeat(8)).is(&PlatformIdentity::ChipId(chip)));
        assert!(!listed(&"c2".repeat(8)).is(&PlatformIdentity::ChipId([0xc2; 64])));
        assert!(!listed("c2").is(&PlatformIdentity::ChipId([0xc2; 64])));
        assert!(listed("CN=cloud").is(&PlatformIdentity::Provider("CN=cloud".into())));
        assert!(!listed("cn=CLOUD").is(&PlatformIdentity::Provider("CN=cloud".into())));
        assert!(ListedIdentity::new(" ", None).is_err());
    }
}
