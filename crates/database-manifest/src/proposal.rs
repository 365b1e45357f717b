//! Proposals of another manifest, as they are written and shown, and the digest by which they are approved.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Manifest, TableName};

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

/// What is to become of the rules; or, where it restores rows, of tables alone, and then it has no other part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Proposal {
    /// The manifest that it starts from: the one in force.
    pub base: Digest,
    /// The new manifest, its exact text.
    #[serde(default)]
    pub manifest: String,
    /// SQL that leads from one schema to the other.
    #[serde(default)]
    pub migration: String,
    /// Parties whose rows are deleted.
    #[serde(default)]
    pub erase: Vec<String>,
    /// Tables whose rows become again what they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restoration>,
}

/// Rows of tables as they were, in the place of those of now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Restoration {
    /// The tables.
    pub tables: Vec<String>,
    /// As of when.
    pub to: Point,
}

/// A point in the history of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Point {
    /// What was committed until then by the database's clock, RFC 3339.
    Time(String),
    /// The record of the sealed log that Evidence and receipts name.
    Record(u64),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => f.write_str(time),
            Self::Record(record) => write!(f, "record {record}"),
        }
    }
}

/// It is no restoration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRestoration {
    /// Something else is in the proposal.
    #[error(
        "a proposal that restores rows changes nothing else: no manifest, no migration, nobody's rows deleted"
    )]
    Alone,
    /// No tables.
    #[error("name the tables whose rows are restored, each once")]
    Tables,
    /// No time.
    #[error("{0:?} is no time such as 2026-11-22T05:00:00Z")]
    Time(String),
}

impl Restoration {
    /// The whole database: every table that has rows under this manifest.
    #[must_use]
    pub fn of_all(manifest: &Manifest, to: Point) -> Self {
        Self { tables: manifest.tables_with_rows().map(TableName::to_string).collect(), to }
    }

    /// Its tables.
    ///
    /// # Errors
    /// Where it has none, or the same twice, or a text that is none's name.
    pub fn tables(&self) -> Result<BTreeSet<TableName>, InvalidRestoration> {
        let named: Option<BTreeSet<_>> = self.tables.iter().map(|name| TableName::new(name)).collect();
        let named = named.filter(|named| !named.is_empty() && named.len() == self.tables.len());
        named.ok_or(InvalidRestoration::Tables)
    }

    /// Its time; `None`: a record is named.
    ///
    /// # Errors
    /// Where the text is none.
    pub fn time(&self) -> Result<Option<OffsetDateTime>, InvalidRestoration> {
        let Point::Time(text) = &self.to else { return Ok(None) };
        let time = OffsetDateTime::parse(text, &Rfc3339);
        time.map(Some).map_err(|_| InvalidRestoration::Time(text.clone()))
    }
}

impl Proposal {
    /// Its restoration, if it is one.
    ///
    /// # Errors
    /// Where it is something else too.
    pub fn restoration(&self) -> Result<Option<&Restoration>, InvalidRestoration> {
        let Some(restoration) = &self.restore else { return Ok(None) };
        if !(self.manifest.is_empty() && self.migration.is_empty() && self.erase.is_empty()) {
            return Err(InvalidRestoration::Alone);
        }
        restoration.tables()?;
        restoration.time()?;
        Ok(Some(restoration))
    }

    /// What approvers sign with their word: SHA-256 of `bailey/database-proposal/1`, base, SHA-256 of the manifest,
    /// SHA-256 of the migration, and SHA-256 of each name to erase; where rows are restored then
    /// `bailey/database-restoration/1`, SHA-256 of the point as words, and SHA-256 of each table's name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(b"bailey/database-proposal/1");
        context.update(&self.base.0);
        for part in [&self.manifest, &self.migration].into_iter().chain(&self.erase) {
            context.update(digest(&SHA256, part.as_bytes()).as_ref());
        }
        if let Some(Restoration { tables, to }) = &self.restore {
            // Of another length than a digest, so that no name to erase stands for it.
            context.update(b"bailey/database-restoration/1");
            context.update(digest(&SHA256, to.to_string().as_bytes()).as_ref());
            tables.iter().for_each(|table| context.update(digest(&SHA256, table.as_bytes()).as_ref()));
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
    /// Of a restoration: rows of each table whose owner or reader asks. Nobody else learns how many there are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, Rows>,
    /// The whole of it.
    pub content: Proposal,
}

/// How many rows a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Rows {
    /// When it was proposed.
    pub now: u64,
    /// At the point that is proposed.
    pub then: u64,
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
        let first = Proposal {
            base: Digest([1; 32]),
            manifest: "m".into(),
            migration: String::new(),
            erase: vec![],
            restore: None,
        };
        let restored = |tables: &[&str], to| {
            let tables = tables.iter().map(|table| (*table).to_owned()).collect();
            Proposal { restore: Some(Restoration { tables, to }), ..first.clone() }
        };
        let mut seen = BTreeSet::from([first.digest()]);
        for other in [
            Proposal { base: Digest([2; 32]), ..first.clone() },
            Proposal { manifest: "n".into(), ..first.clone() },
            Proposal { migration: "x".into(), ..first.clone() },
            Proposal { manifest: String::new(), migration: "m".into(), ..first.clone() },
            Proposal { erase: vec!["a".into()], ..first.clone() },
            Proposal { erase: vec!["a".into(), "b".into()], ..first.clone() },
            Proposal { erase: vec!["ab".into()], ..first.clone() },
            restored(&[], Point::Record(1)),
            restored(&["a"], Point::Record(1)),
            restored(&["a"], Point::Record(2)),
            restored(&["a", "b"], Point::Record(1)),
            restored(&["a"], Point::Time("2026-11-22T05:00:00Z".into())),
        ] {
            assert!(seen.insert(other.digest()), "{other:?}");
        }
    }
    #[test]
    fn a_restoration_names_tables_and_a_point_and_comes_alone() {
        let good = Proposal {
            base: Digest([1; 32]),
            manifest: String::new(),
            migration: String::new(),
            erase: vec![],
            restore: Some(Restoration { tables: vec!["notes".into()], to: Point::Record(7) }),
        };
        assert!(good.restoration().is_ok_and(|it| it.is_some()));
        assert_eq!(Proposal { restore: None, ..good.clone() }.restoration(), Ok(None));
        let with = |tables: &[&str], to| {
            let tables = tables.iter().map(|table| (*table).to_owned()).collect();
            Proposal { restore: Some(Restoration { tables, to }), ..good.clone() }
        };
        for (bad, why) in [
            (Proposal { manifest: "m".into(), ..good.clone() }, InvalidRestoration::Alone),
            (Proposal { migration: "m".into(), ..good.clone() }, InvalidRestoration::Alone),
            (Proposal { erase: vec!["a".into()], ..good.clone() }, InvalidRestoration::Alone),
            (with(&[], Point::Record(7)), InvalidRestoration::Tables),
            (with(&["a", "a"], Point::Record(7)), InvalidRestoration::Tables),
            (with(&["a; DROP"], Point::Record(7)), InvalidRestoration::Tables),
            (with(&["a"], Point::Time("now".into())), InvalidRestoration::Time("now".into())),
        ] {
            assert_eq!(bad.restoration(), Err(why), "{bad:?}");
        }
    }
}
