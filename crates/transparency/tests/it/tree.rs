//! Trees and proofs. The oracle is RFC 6962 §2.1 to §2.1.2 word for word, on lists of leaves.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use proptest::prelude::*;
use transparency::*;

fn sha256(parts: &[&[u8]]) -> Hash {
    digest(&SHA256, &parts.concat()).as_ref().try_into().unwrap()
}

/// §2.1: MTH.
fn mth(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => sha256(&[&[0], leaf]),
        _ => {
            let (left, right) = leaves.split_at(k(leaves.len()));
            sha256(&[&[1], &mth(left), &mth(right)])
        }
    }
}

/// "The largest power of two smaller than n."
fn k(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// §2.1.1: PATH(m, D[n]).
fn path(m: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let k = k(leaves.len());
    if m < k {
        [path(m, &leaves[..k]), vec![mth(&leaves[k..])]].concat()
    } else {
        [path(m - k, &leaves[k..]), vec![mth(&leaves[..k])]].concat()
    }
}

/// §2.1.2: SUBPROOF(m, D[n], b).
fn subproof(m: usize, leaves: &[Vec<u8>], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { vec![] } else { vec![mth(leaves)] };
    }
    let k = k(leaves.len());
    if m <= k {
        [subproof(m, &leaves[..k], whole), vec![mth(&leaves[k..])]].concat()
    } else {
        [subproof(m - k, &leaves[k..], false), vec![mth(&leaves[..k])]].concat()
    }
}

pub fn leaves(count: usize, salt: u8) -> Vec<Vec<u8>> {
    (0..count).map(|n| [&n.to_be_bytes()[..], &[salt]].concat()).collect()
}

pub fn grown(leaves: &[Vec<u8>]) -> Frontier {
    let mut tree = Frontier::default();
    leaves.iter().for_each(|leaf| drop(tree.append(leaf_hash(leaf))));
    tree
}

fn head(leaves: &[Vec<u8>]) -> Head {
    Head { size: leaves.len() as u64, root: mth(leaves) }
}

fn subtree(leaves: &[Vec<u8>]) -> impl Fn(Subtree) -> Option<Hash> {
    |subtree| {
        let from = (subtree.index << subtree.height) as usize;
        Some(mth(leaves.get(from..from + (1 << subtree.height))?))
    }
}

/// What a log of these leaves serves.
fn tiles(leaves: &[Vec<u8>], wanted: impl IntoIterator<Item = Tile>) -> Tiles {
    let mut tiles = Tiles::new(leaves.len() as u64);
    for tile in wanted {
        assert!(tile.is_of(leaves.len() as u64), "{tile}");
        let span = 256_usize.pow(tile.level.into());
        let hashes = tile.positions().map(|n| mth(&leaves[n as usize * span..(n as usize + 1) * span]));
        tiles.insert(tile, hashes.collect());
    }
    tiles
}

#[test]
fn small_trees_and_all_their_proofs_are_the_rfcs() {
    let all = leaves(40, 0);
    for size in 0..=40 {
        let leaves = &all[..size];
        let newer = head(leaves);
        assert_eq!(grown(leaves).head(), newer);
        for m in 0..size {
            let proof = inclusion(m as u64, size as u64, subtree(leaves)).unwrap();
            assert_eq!(proof, path(m, leaves));
            verify_inclusion(&leaf_hash(&leaves[m]), m as u64, &proof, &newer).unwrap();
        }
        for m in 1..=size {
            let proof = consistency(m as u64, size as u64, subtree(leaves)).unwrap();
            assert_eq!(proof, subproof(m, leaves, true));
            verify_consistency(&head(&leaves[..m]), &newer, &proof).unwrap();
        }
    }
}

#[test]
fn a_frontier_that_was_kept_goes_on() {
    let all = leaves(300, 0);
    for size in [0, 1, 7, 255, 256, 257] {
        let tree = grown(&all[..size]);
        let mut kept = Frontier::from_parts(tree.size(), tree.roots().to_vec()).unwrap();
        assert!(Frontier::from_parts(tree.size() + 1, vec![[0; 32]; 5]).is_none());
        all[size..].iter().for_each(|leaf| drop(kept.append(leaf_hash(leaf))));
        assert_eq!(kept.head().root, mth(&all));
    }
}

#[test]
fn hashes_above_the_leaves_come_when_their_tiles_are_full() {
    let all = leaves(70_000, 0);
    let mut tree = Frontier::default();
    let mut nodes = BTreeMap::new();
    for leaf in &all {
        for node in tree.append(leaf_hash(leaf)) {
            assert!(nodes.insert((node.level, node.index), node.hash).is_none());
        }
    }
    // C2SP tlog-tiles' example: 273 full tiles at level 0, and one at level 1.
    assert_eq!(nodes.keys().filter(|(level, _)| *level == 1).count(), 273);
    assert_eq!(nodes.keys().filter(|(level, _)| *level == 2).count(), 1);
    assert_eq!(nodes[&(1, 272)], mth(&all[272 * 256..273 * 256]));
    assert_eq!(nodes[&(2, 0)], mth(&all[..65_536]));
}

#[test]
fn proofs_are_made_of_the_tiles_that_they_need() {
    let all = leaves(66_000, 0);
    let size = all.len() as u64;
    for index in [0_usize, 255, 256, 65_535, 65_536, 65_999] {
        let wanted = Tiles::for_inclusion(index as u64, size);
        assert!(wanted.len() <= 6, "{wanted:?}");
        let tiles = tiles(&all, wanted);
        let proof = inclusion(index as u64, size, |subtree| tiles.node(subtree)).unwrap();
        verify_inclusion(&leaf_hash(&all[index]), index as u64, &proof, &grown(&all).head()).unwrap();
    }
    for old in [1_u64, 256, 300, 65_536, 65_999] {
        let tiles = tiles(&all, Tiles::for_consistency(old, size));
        let proof = consistency(old, size, |subtree| tiles.node(subtree)).unwrap();
        let older = grown(&all[..old as usize]).head();
        verify_consistency(&older, &grown(&all).head(), &proof).unwrap();
    }
    assert!(inclusion(0, size, |subtree| Tiles::new(size).node(subtree)).is_none(), "no tiles, no proof");
}

/// S-16: whoever kept a head notices that the log was replaced by a fork of it.
#[test]
fn s16_a_fork_is_not_consistent_with_a_kept_head() {
    let (kept, fork) = (leaves(11, 0), leaves(20, 1));
    let proof = subproof(11, &fork, true);
    assert_eq!(verify_consistency(&head(&kept), &head(&fork), &proof), Err(ProofError::Root));
    let (one, other) = (leaves(11, 0), leaves(11, 1));
    assert_eq!(verify_consistency(&head(&one), &head(&other), &[]), Err(ProofError::Root));
}

/// S-16: a log shorter than the kept head is a roll-back.
#[test]
fn s16_a_shorter_log_is_refused() {
    let all = leaves(11, 0);
    let refused = verify_consistency(&head(&all), &head(&all[..7]), &[]);
    assert_eq!(refused, Err(ProofError::Position { first: 11, second: 7 }));
}

#[test]
fn tiles_have_one_spelling() {
    for path in ["0/000", "0/x001/x234/067", "1/000.p/2", "7/255", "entries/000", "entries/x001/234.p/255"] {
        assert_eq!(Resource::parse(path).unwrap().to_string(), path);
    }
    for path in [
        "",
        "0",
        "0/",
        "0/0",
        "0/x000/001",
        "8/000",
        "0/000.p/256",
        "0/000.p/0",
        "0/000.p/01",
        "+0/000",
        "00/000",
        "0/001/234",
        "0/x001",
        "0/000.p/",
        "0/000.p/+1",
        "entries",
        "entries/",
        "entries/1",
        "entry/000",
        "0/../000",
        "0/x072/x057/x594/x037/x927/936",
        "data/000",
    ] {
        assert!(Resource::parse(path).is_err(), "{path}");
    }
}

#[test]
fn a_tree_has_its_own_tiles_and_no_others() {
    let tile = |path: &str| match Resource::parse(path).unwrap() {
        Resource::Tile(tile) => tile,
        Resource::Bundle(_) => panic!("{path}"),
    };
    for path in ["0/000", "0/272", "0/273.p/112", "1/000", "1/001.p/17", "2/000.p/1"] {
        assert!(tile(path).is_of(70_000), "{path}");
    }
    for path in ["0/273", "0/273.p/113", "0/274.p/1", "1/001", "1/001.p/18", "2/000.p/2", "3/000.p/1"] {
        assert!(!tile(path).is_of(70_000), "{path}");
    }
    let tile = tile("1/001.p/17");
    assert!(tile.hashes(&[0; 17 * 32]).is_ok());
    assert!(tile.hashes(&[0; 17 * 32 - 1]).is_err() && tile.hashes(&[0; 18 * 32]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trees_are_the_rfcs(size in 1_usize..600, at in any::<prop::sample::Index>()) {
        let all = leaves(size, 0);
        let head = grown(&all).head();
        prop_assert_eq!(head.root, mth(&all));
        let m = at.index(size);
        let wanted = Tiles::for_inclusion(m as u64, size as u64);
        let tiles = tiles(&all, wanted);
        let proof = inclusion(m as u64, size as u64, |subtree| tiles.node(subtree)).unwrap();
        prop_assert_eq!(&proof, &path(m, &all));
    }

    /// One bit of a proof, one hash more or less, two swapped, another position: each is found.
    #[test]
    fn no_forged_proof_holds(size in 2_usize..200, at in any::<prop::sample::Index>(), bit in 0_usize..256) {
        let all = leaves(size, 0);
        let (m, newer) = (at.index(size), head(&all));
        let leaf = leaf_hash(&all[m]);
        let good = path(m, &all);
        let included = |proof: &[Hash], m: usize, head: &Head| verify_inclusion(&leaf, m as u64, proof, head);
        prop_assert!(included(&good, m, &newer).is_ok());
        for forged in forgeries(&good, bit) {
            prop_assert!(included(&forged, m, &newer).is_err());
        }
        prop_assert!(included(&good, (m + 1) % size, &newer).is_err());
        let rootless = |head: &Head| Head { root: [0; 32], ..*head };
        prop_assert!(included(&good, m, &rootless(&newer)).is_err());
        prop_assert!(verify_inclusion(&[0; 32], m as u64, &good, &newer).is_err());
        let (old, older) = (m.max(1), head(&all[..m.max(1)]));
        let good = subproof(old, &all, true);
        prop_assert!(verify_consistency(&older, &newer, &good).is_ok());
        for forged in forgeries(&good, bit) {
            prop_assert!(verify_consistency(&older, &newer, &forged).is_err());
        }
        prop_assert!(verify_consistency(&rootless(&older), &newer, &good).is_err());
        prop_assert!(verify_consistency(&older, &rootless(&newer), &good).is_err());
    }

    #[test]
    fn proofs_from_outside_do_not_panic(a in any::<u64>(), b in any::<u64>(), n in 0_usize..70) {
        let proof = vec![[1; 32]; n];
        let (one, other) = (Head { size: a, root: [0; 32] }, Head { size: b, root: [2; 32] });
        prop_assert!(verify_inclusion(&[0; 32], a, &proof, &other).is_err());
        prop_assert!(a == 0 || verify_consistency(&one, &other, &proof).is_err());
        let _ = (Tiles::for_inclusion(a, b), Tiles::for_consistency(a, b));
    }
}

fn forgeries(good: &[Hash], bit: usize) -> Vec<Vec<Hash>> {
    let mut forged = vec![[good, &[[0; 32]]].concat()];
    for at in 0..good.len() {
        let mut flipped = good.to_vec();
        flipped[at][bit / 8] ^= 1 << (bit % 8);
        let mut dropped = good.to_vec();
        dropped.remove(at);
        forged.extend([flipped, dropped]);
        if at > 0 {
            let mut swapped = good.to_vec();
            swapped.swap(at - 1, at);
            forged.push(swapped);
        }
    }
    forged
}
