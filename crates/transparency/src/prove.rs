//! Making proofs, from whatever has the hashes of complete subtrees: RFC 6962 §2.1.1 and §2.1.2.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    tile::Tile,
    tree::{Hash, Subtree, node_hash},
};

/// The path from leaf `index` to the root of `size` leaves, nearest the leaf first. `None` where there is no such leaf,
/// or `node` lacks a hash.
pub fn inclusion(index: u64, size: u64, mut node: impl FnMut(Subtree) -> Option<Hash>) -> Option<Vec<Hash>> {
    if index >= size {
        return None;
    }
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range(middle, to, &mut node)?);
            to = middle;
        } else {
            path.push(range(from, middle, &mut node)?);
            from = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// That the tree of `new` leaves begins with the tree of `old`. Empty for equal sizes and for an empty old tree; `None`
/// where `old` is more than `new`, or `node` lacks a hash.
pub fn consistency(old: u64, new: u64, mut node: impl FnMut(Subtree) -> Option<Hash>) -> Option<Vec<Hash>> {
    if old > new {
        return None;
    }
    if old == 0 {
        return Some(Vec::new());
    }
    let (mut from, mut to, mut path) = (0, new, Vec::new());
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range(middle, to, &mut node)?);
            to = middle;
        } else {
            path.push(range(from, middle, &mut node)?);
            from = middle;
        }
    }
    if from != 0 {
        path.push(range(from, to, &mut node)?);
    }
    path.reverse();
    Some(path)
}

/// The hash of leaves `from..to`, which begin where a subtree of their size may begin.
fn range(from: u64, to: u64, node: &mut impl FnMut(Subtree) -> Option<Hash>) -> Option<Hash> {
    let width = to - from;
    if width.is_power_of_two() {
        let height = width.trailing_zeros();
        return node(Subtree { height: u8::try_from(height).ok()?, index: from >> height });
    }
    let middle = from + split(width);
    Some(node_hash(&range(from, middle, node)?, &range(middle, to, node)?))
}

/// The largest power of two below `width`, which is at least 2.
fn split(width: u64) -> u64 {
    1 << (u64::BITS - 1 - (width - 1).leading_zeros())
}

/// Tiles that somebody served, of a tree of one size: enough for some proofs.
#[derive(Debug, Clone)]
pub struct Tiles {
    size: u64,
    hashes: BTreeMap<Tile, Vec<Hash>>,
}

impl Tiles {
    /// None yet, of a tree of `size` leaves.
    pub fn new(size: u64) -> Self {
        Self { size, hashes: BTreeMap::new() }
    }

    /// The tiles that [`inclusion`] needs.
    pub fn for_inclusion(index: u64, size: u64) -> BTreeSet<Tile> {
        needed(size, |node| inclusion(index, size, node))
    }

    /// The tiles that [`consistency`] needs.
    pub fn for_consistency(old: u64, new: u64) -> BTreeSet<Tile> {
        needed(new, |node| consistency(old, new, node))
    }

    /// Takes one, as many hashes as it has.
    pub fn insert(&mut self, tile: Tile, hashes: Vec<Hash>) {
        self.hashes.insert(tile, hashes);
    }

    /// The hash of a subtree. `None` where its tile is not here.
    pub fn node(&self, subtree: Subtree) -> Option<Hash> {
        let (tile, at, width) = Tile::holding(subtree, self.size)?;
        let mut row = self.hashes.get(&tile)?.get(at..at.checked_add(width)?)?.to_vec();
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        row.pop()
    }
}

/// What a proof asks for, found by making it of nothing.
fn needed(
    size: u64,
    prove: impl FnOnce(&mut dyn FnMut(Subtree) -> Option<Hash>) -> Option<Vec<Hash>>,
) -> BTreeSet<Tile> {
    let mut tiles = BTreeSet::new();
    prove(&mut |subtree| {
        tiles.insert(Tile::holding(subtree, size)?.0);
        Some([0; 32])
    });
    tiles
}
