//! The counts, in the Keep's key-value store: one number for each option, added to atomically.

use self::wasi::keyvalue::{atomics, store};

wit_bindgen::generate!({ world: "counting", path: "wit", generate_all });

const BUCKET: &str = "default";

/// An open store.
pub struct Counter(store::Bucket);

impl Counter {
    /// Opens the store that all instances of this service share.
    pub fn open() -> Result<Self, String> {
        store::open(BUCKET).map(Self).map_err(reason)
    }

    /// Votes for `option` so far.
    pub fn votes(&self, option: &str) -> Result<u64, String> {
        match self.0.get(option).map_err(reason)? {
            None => Ok(0),
            Some(digits) => std::str::from_utf8(&digits)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| format!("the count of {option:?} is no number")),
        }
    }

    /// Adds one vote, and says how many there are now.
    pub fn add(&self, option: &str) -> Result<u64, String> {
        atomics::increment(&self.0, option, 1).map_err(reason)
    }
}

fn reason(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "there is no such store".to_owned(),
        store::Error::AccessDenied => "the store may not be used".to_owned(),
        store::Error::Other(reason) => reason,
    }
}
