//! The tree, as far as whoever appends needs it: the roots of its complete subtrees, at most 64 of them.

use sha2::{Digest, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// RFC 6962 §2.1: `SHA-256(0x00 || leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// RFC 6962 §2.1: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree by its size and its root. Who says so is another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many leaves.
    pub size: u64,
    /// Their root; for no leaves, the hash of nothing.
    pub root: Hash,
}

/// A complete subtree: leaves `index << height` up to `(index + 1) << height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subtree {
    /// 0 for a leaf.
    pub height: u8,
    /// Counted among those of its height.
    pub index: u64,
}

/// A hash in a tile above the leaves: of a complete subtree of `256^level` leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// From 1.
    pub level: u8,
    /// Counted among those of its level.
    pub index: u64,
    /// Its root.
    pub hash: Hash,
}

/// A growing tree of which only the right edge is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees that `size` is the sum of, the largest first.
    roots: Vec<Hash>,
}

impl Frontier {
    /// Takes up a tree that was kept. `None` where there are not as many roots as a tree of this size has.
    pub fn from_parts(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (usize::try_from(size.count_ones()).ok()? == roots.len()).then_some(Self { size, roots })
    }

    /// Adds a leaf by its [`leaf_hash`]. Gives the hashes above the leaves that tiles have by it, lowest first.
    pub fn append(&mut self, leaf: Hash) -> Vec<Node> {
        let (mut hash, mut nodes) = (leaf, Vec::new());
        for height in 1..=self.size.trailing_ones() {
            // As many subtrees are complete as the size has ones at its end.
            let Some(left) = self.roots.pop() else { break };
            hash = node_hash(&left, &hash);
            if height % 8 == 0 {
                let level = u8::try_from(height / 8).unwrap_or(u8::MAX);
                nodes.push(Node { level, index: self.size >> height, hash });
            }
        }
        self.roots.push(hash);
        self.size += 1;
        nodes
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, the largest first.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Size and root.
    pub fn head(&self) -> Head {
        let root = self.roots.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        Head { size: self.size, root: root.unwrap_or_else(|| Sha256::digest([]).into()) }
    }
}
