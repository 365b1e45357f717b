//! The transparency log's entries on the disk, beside the records that they come from and in the same transaction; no
//! snapshot drops them. They are public, and sealed all the same: what the host changed is found here, before it is
//! served. Hashes above the leaves are kept as they come, so that no tile takes more than 256 reads.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::LessSafeKey;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    TableError, WriteTransaction, backends::InMemoryBackend,
};
use transparency::{Bundle, Hash, Tile, leaf_hash};

use super::{StoreError, labelled, open, seal};
use crate::core::Growth;

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// By level, from 1, in the highest byte, and index.
const NODES: TableDefinition<u64, &[u8]> = TableDefinition::new("nodes");

type Table = ReadOnlyTable<u64, &'static [u8]>;

/// Reads the log's entries, whoever is writing.
#[derive(Clone)]
pub struct Entries {
    database: Arc<RwLock<Arc<Database>>>,
    key: Arc<LessSafeKey>,
}

impl Entries {
    pub(super) fn new(database: Arc<Database>, key: LessSafeKey) -> Self {
        Self { database: Arc::new(RwLock::new(database)), key: Arc::new(key) }
    }

    /// How many there are.
    pub fn size(&self) -> Result<u64, StoreError> {
        match self.table(ENTRIES)? {
            Some(entries) => Ok(entries.len()?),
            None => Ok(0),
        }
    }

    /// The entries of a bundle; `None` where they are not all there.
    pub fn bundle(&self, bundle: &Bundle) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let Some(entries) = self.table(ENTRIES)? else { return Ok(None) };
        self.opened(&entries, bundle.positions().map(|index| (index, entry_position(index))))
    }

    /// The hashes of a tile; `None` where they are not all there.
    pub fn tile(&self, tile: &Tile) -> Result<Option<Vec<Hash>>, StoreError> {
        if tile.level == 0 {
            let Some(entries) = self.table(ENTRIES)? else { return Ok(None) };
            let leaves =
                self.opened(&entries, tile.positions().map(|index| (index, entry_position(index))))?;
            return Ok(leaves.map(|leaves| leaves.iter().map(|leaf| leaf_hash(leaf)).collect()));
        }
        let Some(nodes) = self.table(NODES)? else { return Ok(None) };
        let keys =
            tile.positions().map(|index| (node_key(tile.level, index), node_position(tile.level, index)));
        let Some(hashes) = self.opened(&nodes, keys)? else { return Ok(None) };
        let hash = |hash: Vec<u8>| Hash::try_from(hash.as_slice()).map_err(|_| StoreError::Damaged);
        hashes.into_iter().map(hash).collect::<Result<_, _>>().map(Some)
    }

    fn opened(
        &self,
        table: &Table,
        keys: impl Iterator<Item = (u64, [u8; 48])>,
    ) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let mut out = Vec::new();
        for (key, position) in keys {
            let Some(sealed) = table.get(key)? else { return Ok(None) };
            let plain = open(&self.key, &position, sealed.value()).ok_or(StoreError::Entry)?;
            out.push(plain.to_vec());
        }
        Ok(Some(out))
    }

    fn table(
        &self,
        definition: TableDefinition<'_, u64, &'static [u8]>,
    ) -> Result<Option<Table>, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        match database.begin_read()?.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the log grew by, into the transaction of its records.
    pub(super) fn write(&self, transaction: &WriteTransaction, growth: &Growth) -> Result<(), StoreError> {
        if growth.entries.is_empty() {
            return Ok(());
        }
        let mut entries = transaction.open_table(ENTRIES)?;
        for (index, entry) in (growth.first..).zip(&growth.entries) {
            entries.insert(index, seal(&self.key, &entry_position(index), entry)?.as_slice())?;
        }
        let mut nodes = transaction.open_table(NODES)?;
        for node in &growth.nodes {
            let sealed = seal(&self.key, &node_position(node.level, node.index), &node.hash)?;
            nodes.insert(node_key(node.level, node.index), sealed.as_slice())?;
        }
        Ok(())
    }

    /// The same where no records are written any more.
    pub(super) fn remember(&self, growth: &Growth) -> Result<(), StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        let transaction = database.begin_write()?;
        self.write(&transaction, growth)?;
        Ok(transaction.commit()?)
    }

    /// From now on they are in memory, where they end with the process.
    pub(super) fn forget(&self) -> Result<(), StoreError> {
        let memory =
            Database::builder().create_with_backend(InMemoryBackend::new()).map_err(super::opening)?;
        let transaction = memory.begin_write()?;
        for definition in [ENTRIES, NODES] {
            let Some(from) = self.table(definition)? else { continue };
            let mut to = transaction.open_table(definition)?;
            for row in from.iter()? {
                let (key, sealed) = row?;
                to.insert(key.value(), sealed.value())?;
            }
        }
        transaction.commit()?;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(memory);
        Ok(())
    }
}

/// Associated data of an entry: its position in the log.
fn entry_position(index: u64) -> [u8; 48] {
    labelled(b"entries1", index, &[0; 32])
}

/// There are fewer than 2^56 hashes above the leaves.
fn node_key(level: u8, index: u64) -> u64 {
    u64::from(level) << 56 | index
}

/// Associated data of a hash: its position in the tree.
fn node_position(level: u8, index: u64) -> [u8; 48] {
    let mut head = [0; 32];
    head[0] = level;
    labelled(b"hashes/1", index, &head)
}
