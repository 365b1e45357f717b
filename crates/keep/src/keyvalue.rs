//! `wasi:keyvalue` (store, atomics, batch) in memory. There is one bucket, `default`; all instances of a Keep
//! share it; it ends with the Keep. Keys, values and the whole are bounded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use zeroize::Zeroizing;

use crate::bindings::keyvalue::{atomics, batch, store};

const BUCKET: &str = "default";
const MAX_KEY: usize = 1024;
const MAX_VALUE: usize = 1 << 20;
const PAGE: usize = 1000;
/// Answer of one `get-many`: the same key asked for a million times must not fill the Keep's own memory.
const MAX_ANSWER: usize = 16 << 20;
/// What an entry costs beside its bytes: node, two allocations.
const ENTRY_OVERHEAD: u64 = 96;

/// The store of one Keep.
#[derive(Clone)]
pub struct KeyValue {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    map: BTreeMap<String, Zeroizing<Vec<u8>>>,
    used: u64,
    limit: u64,
}

/// An open bucket; there is only one to open.
pub struct Bucket;

/// What the workload is told when an operation fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no bucket of this name.
    #[error("there is one bucket, \"default\"")]
    NoSuchStore,
    /// The operation would exceed a bound, or needs a number where there is none.
    #[error("{0}")]
    Refused(&'static str),
    /// A handle that the workload does not hold: a trap.
    #[error(transparent)]
    Handle(#[from] ResourceTableError),
}

type StoreResult<T> = Result<T, StoreError>;

impl KeyValue {
    /// An empty store that holds at most `limit` bytes of keys and values.
    pub fn new(limit: u64) -> Self {
        Self { entries: Arc::new(Mutex::new(Entries { limit, ..Entries::default() })) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Entries) -> T) -> T {
        // A panic in one request must not take the store from all others; no operation leaves it half done.
        act(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entries {
    fn set(&mut self, key: String, value: Vec<u8>) -> StoreResult<()> {
        if key.len() > MAX_KEY {
            return Err(StoreError::Refused("a key has at most 1024 bytes"));
        }
        if value.len() > MAX_VALUE {
            return Err(StoreError::Refused("a value has at most 1 MiB"));
        }
        let freed = self.map.get(&key).map_or(0, |old| cost(&key, old));
        let used = self.used - freed + cost(&key, &value);
        if used > self.limit {
            return Err(StoreError::Refused("the store is full"));
        }
        self.map.insert(key, Zeroizing::new(value));
        self.used = used;
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        if let Some(old) = self.map.remove(key) {
            self.used -= cost(key, &old);
        }
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.map.get(key).map(|value| value.to_vec())
    }

    fn increment(&mut self, key: String, delta: u64) -> StoreResult<u64> {
        let current = match self.map.get(&key) {
            None => 0,
            Some(digits) => std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse::<u64>().ok())
                .ok_or(StoreError::Refused("the value is not a decimal number"))?,
        };
        let next =
            current.checked_add(delta).ok_or(StoreError::Refused("the sum does not fit in 64 bits"))?;
        self.set(key, next.to_string().into_bytes())?;
        Ok(next)
    }
}

fn cost(key: &str, value: &[u8]) -> u64 {
    key.len() as u64 + value.len() as u64 + ENTRY_OVERHEAD
}

/// One instance's view of the store.
pub struct KeyValueView<'a> {
    /// The store.
    pub store: &'a KeyValue,
    /// Where the instance's handles live.
    pub table: &'a mut ResourceTable,
}

struct HasKeyValue;

impl HasData for HasKeyValue {
    type Data<'a> = KeyValueView<'a>;
}

/// Gives components that are linked by `linker` the store that `view` shows.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> KeyValueView<'_>,
) -> wasmtime::Result<()> {
    store::add_to_linker::<T, HasKeyValue>(linker, view)?;
    atomics::add_to_linker::<T, HasKeyValue>(linker, view)?;
    batch::add_to_linker::<T, HasKeyValue>(linker, view)
}

impl KeyValueView<'_> {
    fn with<T>(&self, bucket: &Resource<Bucket>, act: impl FnOnce(&mut Entries) -> T) -> StoreResult<T> {
        self.table.get(bucket)?;
        Ok(self.store.with(act))
    }
}

impl store::Host for KeyValueView<'_> {
    fn open(&mut self, identifier: String) -> StoreResult<Resource<Bucket>> {
        if identifier != BUCKET {
            return Err(StoreError::NoSuchStore);
        }
        Ok(self.table.push(Bucket)?)
    }

    fn convert_error(&mut self, error: StoreError) -> wasmtime::Result<store::Error> {
        match error {
            StoreError::NoSuchStore => Ok(store::Error::NoSuchStore),
            StoreError::Refused(why) => Ok(store::Error::Other(why.to_owned())),
            StoreError::Handle(error) => Err(error.into()),
        }
    }
}

impl store::HostBucket for KeyValueView<'_> {
    fn get(&mut self, bucket: Resource<Bucket>, key: String) -> StoreResult<Option<Vec<u8>>> {
        self.with(&bucket, |entries| entries.get(&key))
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> StoreResult<()> {
        self.with(&bucket, |entries| entries.set(key, value))?
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> StoreResult<()> {
        self.with(&bucket, |entries| entries.delete(&key))
    }

    fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> StoreResult<bool> {
        self.with(&bucket, |entries| entries.map.contains_key(&key))
    }

    fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> StoreResult<store::KeyResponse> {
        self.with(&bucket, |entries| {
            let from = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
            let keys: Vec<String> = entries.map.keys().skip(from).take(PAGE).cloned().collect();
            let end = from.saturating_add(keys.len());
            let cursor = (end < entries.map.len()).then_some(end as u64);
            store::KeyResponse { keys, cursor }
        })
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for KeyValueView<'_> {
    fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> StoreResult<u64> {
        self.with(&bucket, |entries| entries.increment(key, delta))?
    }
}

impl batch::Host for KeyValueView<'_> {
    fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> StoreResult<Vec<Option<(String, Vec<u8>)>>> {
        self.with(&bucket, |entries| {
            let sizes =
                keys.iter().map(|key| key.len() + entries.map.get(key).map_or(0, |value| value.len()));
            if sizes.sum::<usize>() > MAX_ANSWER {
                return Err(StoreError::Refused("the answer would exceed 16 MiB"));
            }
            Ok(keys.into_iter().map(|key| entries.get(&key).map(|value| (key, value))).collect())
        })?
    }

    fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> StoreResult<()> {
        self.with(&bucket, |entries| pairs.into_iter().try_for_each(|(key, value)| entries.set(key, value)))?
    }

    fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> StoreResult<()> {
        self.with(&bucket, |entries| keys.iter().for_each(|key| entries.delete(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_bounded_and_overwriting_gives_room_back() {
        let store = KeyValue::new(3 * ENTRY_OVERHEAD);
        store.with(|entries| {
            entries.set("a".into(), vec![0; 40]).unwrap();
            entries.set("b".into(), vec![0; 40]).unwrap();
            assert!(matches!(entries.set("c".into(), vec![0; 40]), Err(StoreError::Refused(_))));
            for _ in 0..100 {
                entries.set("a".into(), vec![1; 40]).unwrap();
            }
            entries.delete("b");
            entries.set("c".into(), vec![0; 40]).unwrap();
            entries.delete("a");
            entries.delete("c");
            assert_eq!(entries.used, 0);
        });
    }

    #[test]
    fn increment_refuses_what_is_no_number_and_never_wraps() {
        let store = KeyValue::new(1 << 20);
        store.with(|entries| {
            assert_eq!(entries.increment("n".into(), 2).unwrap(), 2);
            assert!(entries.increment("n".into(), u64::MAX).is_err());
            assert_eq!(entries.get("n").as_deref(), Some(b"2".as_slice()));
            entries.set("text".into(), b"two".to_vec()).unwrap();
            assert!(entries.increment("text".into(), 1).is_err());
        });
    }

    #[test]
    fn keys_are_listed_in_pages() {
        let store = KeyValue::new(1 << 20);
        store.with(|entries| {
            for n in 0..PAGE + 5 {
                entries.set(format!("{n:05}"), vec![]).unwrap();
            }
        });
        let mut table = ResourceTable::new();
        let mut view = KeyValueView { store: &store, table: &mut table };
        let bucket = store::Host::open(&mut view, "default".into()).unwrap();
        let mut page = |cursor| {
            store::HostBucket::list_keys(&mut view, Resource::new_borrow(bucket.rep()), cursor).unwrap()
        };
        let first = page(None);
        assert_eq!((first.keys.len(), first.cursor), (PAGE, Some(PAGE as u64)));
        let second = page(first.cursor);
        assert_eq!((second.keys.len(), second.cursor), (5, None));
        assert!(page(Some(u64::MAX)).keys.is_empty());
    }
}
