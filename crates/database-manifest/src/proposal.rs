//! Proposals of another manifest, as they are written and shown, and the digest by which they are approved.

use std::{collections::BTreeSet, fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

/// SHA-256 of a manifest or of a proposal; 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Digest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is to become of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Proposal {
    /// The manifest that it starts from: the one in force.
    pub base: Digest,
    /// The new manifest, its exact text.
    pub manifest: String,
    /// SQL that leads from one schema to the other.
    #[serde(default)]
    pub migration: String,
    /// Parties whose rows are deleted.
    #[serde(default)]
    pub erase: Vec<String>,
}

impl Proposal {
    /// What approvers sign with their word: SHA-256 of `bailey/database-proposal/1`, base, SHA-256 of the manifest,
    /// SHA-256 of the migration, and SHA-256 of each name to erase.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(b"bailey/database-proposal/1");
        context.update(&self.base.0);
        for part in [&self.manifest, &self.migration].into_iter().chain(&self.erase) {
            context.update(digest(&SHA256, part.as_bytes()).as_ref());
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Digest(out)
    }
}

/// How it stands with a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProposalState {
    /// It may be decided.
    Pending,
    /// It took effect.
    Active,
    /// So many are against it that it cannot be.
    Rejected,
    /// Another one took effect.
    Superseded,
    /// Nobody decided it in time.
    Expired,
}

impl ProposalState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Rejected, Self::Superseded, Self::Expired];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
        }
    }

    /// Why a decision comes too late: a stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Pending => "PROPOSAL_PENDING",
            Self::Active => "PROPOSAL_ACTIVE",
            Self::Rejected => "PROPOSAL_REJECTED",
            Self::Superseded => "PROPOSAL_SUPERSEDED",
            Self::Expired => "PROPOSAL_EXPIRED",
        }
    }
}

impl fmt::Display for ProposalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A proposal as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ProposalStatus {
    /// Its digest, by which it is approved.
    pub proposal: Digest,
    /// How it stands.
    pub state: ProposalState,
    /// The new manifest's digest.
    pub manifest: Digest,
    /// The party that proposed it.
    pub proposer: String,
    /// Until when it may be decided, in seconds since 1970.
    pub expires: i64,
    /// Who is for it.
    pub approved: BTreeSet<String>,
    /// Who is against it.
    pub rejected: BTreeSet<String>,
    /// What it means, in words; of a pending one only.
    pub plan: Option<String>,
    /// The whole of it.
    pub content: Proposal,
}

/// The manifest in force, as a database tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct InForce {
    /// Its exact text.
    pub manifest: String,
    /// Its digest.
    pub digest: Digest,
    /// How many were in force before it.
    pub epoch: u64,
    /// Digests of all of them, the first one first, this one last.
    pub lineage: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_covers_every_part_at_its_place() {
        let first =
            Proposal { base: Digest([1; 32]), manifest: "m".into(), migration: String::new(), erase: vec![] };
        let mut seen = BTreeSet::from([first.digest()]);
        for other in [
            Proposal { base: Digest([2; 32]), ..first.clone() },
            Proposal { manifest: "n".into(), ..first.clone() },
            Proposal { migration: "x".into(), ..first.clone() },
            Proposal { manifest: String::new(), migration: "m".into(), ..first.clone() },
            Proposal { erase: vec!["a".into()], ..first.clone() },
            Proposal { erase: vec!["a".into(), "b".into()], ..first.clone() },
            Proposal { erase: vec!["ab".into()], ..first.clone() },
        ] {
            assert!(seen.insert(other.digest()), "{other:?}");
        }
    }
}
