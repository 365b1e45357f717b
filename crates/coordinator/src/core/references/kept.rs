//! The statements that were accepted, and the newest serial that was seen of each signer in each series.

use std::sync::{Arc, OnceLock};

use manifest::{Manifest, ManifestDigest};
use reference_statements::{Refused, Statement, StatementId, Verified};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::signers;

/// All of them.
#[derive(Clone, Default)]
pub struct References {
    kept: RedBlackTreeMapSync<[u8; 32], Arc<Kept>>,
    bytes: usize,
    /// Series and signer. Outlives the statements: what was newer once is not undone by removing it.
    newest: RedBlackTreeMapSync<(String, String), u64>,
    /// When something that counted was last taken away or replaced, in seconds.
    narrowed: Option<i64>,
}

/// A statement that was accepted.
pub struct Kept {
    bytes: Vec<u8>,
    /// Which user brought it.
    pub user: String,
    /// When, in seconds.
    pub at: i64,
    /// By the signers of which manifest it was verified last, and what came of it.
    verified: OnceLock<(ManifestDigest, Result<Arc<Verified>, Refused>)>,
}

/// In a snapshot.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Record {
    kept: Vec<KeptRecord>,
    /// Series, signer, serial.
    newest: Vec<(String, String, u64)>,
    narrowed: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptRecord {
    statement: ByteBuf,
    user: String,
    at: i64,
}

impl References {
    /// How many.
    pub fn len(&self) -> usize {
        self.kept.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many bytes they have together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The statement of this name.
    pub fn get(&self, id: &StatementId) -> Option<&Arc<Kept>> {
        self.kept.get(&id.0)
    }

    /// All statements, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kept>> {
        self.kept.values()
    }

    /// The newest serial that a signer ever gave in a series.
    pub fn newest(&self, series: &str, signer: &str) -> Option<u64> {
        self.newest.get(&(series.to_owned(), signer.to_owned())).copied()
    }

    /// When something that counted was last taken away or replaced, in seconds.
    pub fn narrowed(&self) -> Option<i64> {
        self.narrowed
    }

    pub(in crate::core) fn added(
        &mut self,
        statement: Vec<u8>,
        (user, at): (String, i64),
        signers: &[String],
        series: Option<(String, u64)>,
    ) {
        if let Some((series, serial)) = series {
            for signer in signers {
                let key = (series.clone(), signer.clone());
                let before = self.newest.get(&key).copied();
                if before.is_some_and(|before| before < serial) {
                    self.narrowed = Some(at);
                }
                self.newest.insert_mut(key, before.map_or(serial, |before| before.max(serial)));
            }
        }
        self.insert(Kept { bytes: statement, user, at, verified: OnceLock::new() });
    }

    fn insert(&mut self, kept: Kept) {
        self.bytes += kept.bytes.len();
        self.kept.insert_mut(StatementId::of(&kept.bytes).0, Arc::new(kept));
    }

    pub(in crate::core) fn removed(&mut self, id: &[u8; 32], at: i64) {
        if let Some(kept) = self.kept.get(id) {
            self.bytes -= kept.bytes.len();
            self.narrowed = Some(at);
        }
        self.kept.remove_mut(id);
    }

    /// Another manifest is in force: each statement is verified by its signers when it is next asked for.
    pub(in crate::core) fn forget_verified(&mut self) {
        let anew = |kept: &Arc<Kept>| {
            let (bytes, user, at) = (kept.bytes.clone(), kept.user.clone(), kept.at);
            Kept { bytes, user, at, verified: OnceLock::new() }
        };
        let all: Vec<_> = self.kept.values().map(anew).collect();
        self.bytes = 0;
        all.into_iter().for_each(|kept| self.insert(kept));
    }

    pub(in crate::core) fn record(&self) -> Record {
        let Self { kept, bytes: _, newest, narrowed } = self;
        let line = |kept: &Arc<Kept>| KeptRecord {
            statement: ByteBuf::from(kept.bytes.clone()),
            user: kept.user.clone(),
            at: kept.at,
        };
        Record {
            kept: kept.values().map(line).collect(),
            newest: newest
                .iter()
                .map(|((series, signer), it)| (series.clone(), signer.clone(), *it))
                .collect(),
            narrowed: *narrowed,
        }
    }
}

impl From<Record> for References {
    fn from(record: Record) -> Self {
        let mut references = Self { narrowed: record.narrowed, ..Self::default() };
        for (series, signer, serial) in record.newest {
            references.newest.insert_mut((series, signer), serial);
        }
        for KeptRecord { statement, user, at } in record.kept {
            references.insert(Kept { bytes: statement.into_vec(), user, at, verified: OnceLock::new() });
        }
        references
    }
}

impl Kept {
    /// Its exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its name.
    pub fn id(&self) -> StatementId {
        StatementId::of(&self.bytes)
    }

    /// By the signers of a manifest. Remembered for the manifest in force, which is who asks first.
    ///
    /// # Errors
    /// [`Refused`] where they did not sign it.
    pub fn verified(&self, manifest: &Manifest) -> Result<Arc<Verified>, Refused> {
        let anew = || match signers(manifest) {
            Ok(signers) => Statement::authenticate(&self.bytes, &signers).map(Arc::new),
            // No such manifest comes into force.
            Err(refusal) => Err(Refused::UnknownSigner { known: 0, reasons: vec![refusal.to_string()] }),
        };
        let digest = manifest.digest();
        let (of, remembered) = self.verified.get_or_init(|| (digest, anew()));
        if *of == digest { remembered.clone() } else { anew() }
    }
}
