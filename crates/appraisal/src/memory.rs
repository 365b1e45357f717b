//! What a [`Verifier`](crate::Verifier) remembers: that exactly these bytes were signed by exactly this key, and
//! what Intel's documents parsed to. No verdict, no time and no policy is in it, so that every appraisal makes
//! every check anew; only the arithmetic of signatures that were verified before is spared. What was learned is
//! kept only when the Evidence was accepted, a failure never; the least recently used is forgotten first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::intel::Documents;
use crate::{Crypto, InvalidSignature, SignatureAlgorithm};

/// How much a [`Verifier`](crate::Verifier) may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    bytes: usize,
}

impl Capacity {
    /// At most about so many bytes. A platform takes 4 KiB, and each set of Intel's collateral up to 80 KiB.
    pub const fn bytes(bytes: usize) -> Self {
        Self { bytes }
    }
}

/// 16 MiB: thousands of platforms.
impl Default for Capacity {
    fn default() -> Self {
        Self::bytes(16 << 20)
    }
}

/// Where to look for what was verified: bytes that differ from signature to signature. It only finds; what is
/// found is compared whole.
type Handle = [u8; 16];

/// Bytes that were verified.
enum Verified {
    Signature(VerifiedSignature),
    Documents(Arc<Documents>),
}

struct VerifiedSignature {
    algorithm: SignatureAlgorithm,
    key: Box<[u8]>,
    message: Box<[u8]>,
    signature: Box<[u8]>,
}

impl Verified {
    fn weight(&self) -> usize {
        /// What an allocation, its place in the tree and the counters take, rounded up.
        const OVERHEAD: usize = 256;
        OVERHEAD
            + match self {
                Self::Signature(own) => own.key.len() + own.message.len() + own.signature.len(),
                Self::Documents(documents) => documents.weight(),
            }
    }
}

struct Slot {
    verified: Arc<Verified>,
    weight: usize,
    /// The appraisal that used it last.
    used: AtomicU64,
}

#[derive(Default)]
struct Slots {
    by_handle: BTreeMap<Handle, Slot>,
    weight: usize,
}

/// What was verified, by many appraisals. Readers do not wait for each other.
pub(crate) struct Memory {
    capacity: Capacity,
    appraisals: AtomicU64,
    slots: RwLock<Slots>,
}

impl Memory {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self { capacity, appraisals: AtomicU64::new(0), slots: RwLock::default() }
    }

    fn find(&self, handle: &Handle, appraisal: u64) -> Option<Arc<Verified>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.by_handle.get(handle)?;
        slot.used.store(appraisal, Ordering::Relaxed);
        Some(Arc::clone(&slot.verified))
    }

    fn keep(&self, learned: Vec<(Handle, Arc<Verified>)>, appraisal: u64) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        for (handle, verified) in learned {
            let weight = verified.weight();
            // One large thing does not push out everything else.
            if weight > self.capacity.bytes / 4 {
                continue;
            }
            let slot = Slot { verified, weight, used: AtomicU64::new(appraisal) };
            slots.weight += weight;
            if let Some(former) = slots.by_handle.insert(handle, slot) {
                slots.weight -= former.weight;
            }
        }
        if slots.weight > self.capacity.bytes {
            slots.forget(self.capacity.bytes);
        }
    }

    /// How many bytes are remembered, about.
    pub(crate) fn weight(&self) -> usize {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).weight
    }
}

impl Slots {
    /// Forgets what was used longest ago, an eighth more than must be, so that it is not done at each insertion.
    fn forget(&mut self, capacity: usize) {
        let mut by_use: Vec<_> = self
            .by_handle
            .iter()
            .map(|(handle, slot)| (slot.used.load(Ordering::Relaxed), *handle))
            .collect();
        by_use.sort_unstable();
        for (_, handle) in by_use {
            if self.weight <= capacity / 8 * 7 {
                break;
            }
            if let Some(slot) = self.by_handle.remove(&handle) {
                self.weight -= slot.weight;
            }
        }
    }
}

/// The memory as one appraisal uses it, with what the appraisal learned: kept at its end, or not at all.
pub(crate) struct Recall<'a> {
    crypto: &'a dyn Crypto,
    memory: Option<&'a Memory>,
    appraisal: u64,
    learned: Mutex<Vec<(Handle, Arc<Verified>)>>,
}

impl<'a> Recall<'a> {
    pub(crate) fn new(crypto: &'a dyn Crypto, memory: Option<&'a Memory>) -> Self {
        let appraisal = memory.map_or(0, |memory| memory.appraisals.fetch_add(1, Ordering::Relaxed));
        Self { crypto, memory, appraisal, learned: Mutex::default() }
    }

    /// Keeps what was learned: the Evidence was accepted.
    pub(crate) fn keep(self) {
        let learned = self.learned.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = self.memory.filter(|_| !learned.is_empty()) {
            memory.keep(learned, self.appraisal);
        }
    }

    pub(crate) fn remembers(&self) -> bool {
        self.memory.is_some()
    }

    /// Intel's documents that were verified before, if they are exactly those that are asked for.
    pub(crate) fn documents(
        &self,
        signatures: [&[u8; 64]; 2],
        are: impl Fn(&Documents) -> bool,
    ) -> Option<Arc<Documents>> {
        match &*self.memory?.find(&documents_handle(signatures), self.appraisal)? {
            Verified::Documents(documents) if are(documents) => Some(Arc::clone(documents)),
            _ => None,
        }
    }

    pub(crate) fn learn_documents(&self, signatures: [&[u8; 64]; 2], documents: Arc<Documents>) {
        self.learn(documents_handle(signatures), Verified::Documents(documents));
    }

    fn learn(&self, handle: Handle, verified: Verified) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).push((handle, Arc::new(verified)));
    }
}

fn documents_handle([first, second]: [&[u8; 64]; 2]) -> Handle {
    let mut handle = [0; 16];
    handle[..8].copy_from_slice(&first[56..]);
    handle[8..].copy_from_slice(&second[56..]);
    handle
}

impl Crypto for Recall<'_> {
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.crypto.verify(algorithm, key, message, signature)
    }

    fn verify_endorsement(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let (Some(memory), Some(&handle)) = (self.memory, signature.last_chunk()) else {
            return self.crypto.verify_endorsement(algorithm, key, message, signature);
        };
        if let Some(found) = memory.find(&handle, self.appraisal)
            && let Verified::Signature(own) = &*found
            && own.algorithm == algorithm
            && *own.key == *key
            && *own.signature == *signature
            && *own.message == *message
        {
            return Ok(());
        }
        self.crypto.verify_endorsement(algorithm, key, message, signature)?;
        let (key, message, signature) = (key.into(), message.into(), signature.into());
        self.learn(handle, Verified::Signature(VerifiedSignature { algorithm, key, message, signature }));
        Ok(())
    }

    fn sha1(&self, parts: &[&[u8]]) -> [u8; 20] {
        self.crypto.sha1(parts)
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.crypto.sha256(parts)
    }

    fn sha384(&self, parts: &[&[u8]]) -> [u8; 48] {
        self.crypto.sha384(parts)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        self.crypto.sha512(parts)
    }
}
