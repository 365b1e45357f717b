//! Checking proofs without the tree: RFC 9162 §2.1.3.2 and §2.1.4.2, whose hashes are RFC 6962's.

use thiserror::Error;

use crate::tree::{Hash, Head, node_hash};

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The leaf is not below the size, or sizes run backwards.
    #[error("{first} is no position before {second}")]
    Position {
        /// The leaf's index, or the older size.
        first: u64,
        /// The size, or the newer one.
        second: u64,
    },
    /// Too few or too many hashes for these positions.
    #[error("a proof of {hashes} hashes does not fit the tree")]
    Length {
        /// How many there are.
        hashes: usize,
    },
    /// It leads to another root: the leaf is not there, or the log was rewritten.
    #[error("the proof leads to another root")]
    Root,
}

/// That the leaf with this hash stands at `index` of the tree.
pub fn verify_inclusion(leaf: &Hash, index: u64, proof: &[Hash], head: &Head) -> Result<(), ProofError> {
    let size = head.size;
    if index >= size {
        return Err(ProofError::Position { first: index, second: size });
    }
    let length = ProofError::Length { hashes: proof.len() };
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(length);
    }
    if hash == head.root { Ok(()) } else { Err(ProofError::Root) }
}

/// That the newer tree begins with the older one. Every tree begins with the empty one, by a proof of nothing.
pub fn verify_consistency(older: &Head, newer: &Head, proof: &[Hash]) -> Result<(), ProofError> {
    let (old, new) = (older.size, newer.size);
    if old > new {
        return Err(ProofError::Position { first: old, second: new });
    }
    let length = ProofError::Length { hashes: proof.len() };
    if old == 0 || old == new {
        return match (proof, old == 0 || older.root == newer.root) {
            ([], true) => Ok(()),
            ([], false) => Err(ProofError::Root),
            _ => Err(length),
        };
    }
    let (first, rest) = match proof {
        _ if old.is_power_of_two() => (&older.root, proof),
        [first, rest @ ..] => (first, rest),
        [] => return Err(length),
    };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut below, mut above) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            below = node_hash(sibling, &below);
            above = node_hash(sibling, &above);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            above = node_hash(&above, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(length);
    }
    if below == older.root && above == newer.root { Ok(()) } else { Err(ProofError::Root) }
}
