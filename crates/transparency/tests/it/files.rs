//! Proofs in files, requests to witnesses, bundles.

use proptest::prelude::*;
use transparency::*;

use crate::notes::{Pair, checkpoint, ed25519};

fn proof(log: &Pair) -> TlogProof {
    let leaves = [leaf_hash(b"zero"), leaf_hash(b"one"), leaf_hash(b"two")];
    let mut tree = Frontier::default();
    leaves.iter().for_each(|leaf| drop(tree.append(*leaf)));
    let head = Checkpoint { origin: "mesh".into(), head: tree.head() };
    TlogProof {
        entry: b"two".to_vec(),
        index: 2,
        path: vec![node_hash(&leaves[0], &leaves[1])],
        checkpoint: log.note(&head.text()),
    }
}

#[test]
fn a_proof_in_a_file_holds_until_it_is_changed() {
    let log = Pair::new("mesh", Signer::Log, 1);
    let proof = proof(&log);
    let text = proof.to_text();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra dHdv\nindex 2\n"), "{text}");
    assert_eq!(TlogProof::parse(text.as_bytes()).as_ref(), Ok(&proof));
    assert_eq!(proof.verify(&log.key, &ed25519).unwrap().head.size, 3);
    let other = Pair::new("mesh", Signer::Log, 2);
    assert!(proof.verify(&other.key, &ed25519).is_err());
    assert!(TlogProof { entry: b"one".to_vec(), ..proof.clone() }.verify(&log.key, &ed25519).is_err());
    assert!(TlogProof { index: 1, ..proof.clone() }.verify(&log.key, &ed25519).is_err());
    assert!(TlogProof { path: vec![], ..proof.clone() }.verify(&log.key, &ed25519).is_err());
    assert!(
        TlogProof { checkpoint: log.note(&checkpoint(3).text()), ..proof }
            .verify(&log.key, &ed25519)
            .is_err()
    );
    for bad in [
        text.replace("@v1", "@v2"),
        text.replace("index 2", "index 02"),
        text.replace("extra dHdv\n", ""),
        text.replace("dHdv", "dHd"),
        text.replace("\n\n", "\n"),
        text.replacen("=\n", "=\nx\n", 1),
        text.replacen("=\n", &"=\n".repeat(70), 1),
    ] {
        assert!(TlogProof::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn requests_to_witnesses_have_one_form() {
    let log = Pair::new("mesh", Signer::Log, 1);
    for proof in [vec![], vec![[1; 32], [2; 32]]] {
        let request =
            AddCheckpoint { old: proof.len() as u64, proof, checkpoint: log.note(&checkpoint(3).text()) };
        assert_eq!(AddCheckpoint::parse(&request.to_bytes()), Ok(request.clone()));
        let text = String::from_utf8(request.to_bytes()).unwrap();
        for bad in [text.replace("old ", "old 0"), text.replace("old", "new"), text.replace("\n\n", "\n")] {
            assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
    let long = AddCheckpoint { old: 1, proof: vec![[0; 32]; 64], checkpoint: Vec::new() };
    assert!(AddCheckpoint::parse(&long.to_bytes()).is_err());
}

#[test]
fn bundles_hold_as_many_entries_as_they_say() {
    let entries: Vec<Vec<u8>> = (0..3_usize).map(|n| vec![7; n]).collect();
    let bytes = Bundle::bytes(entries.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(bytes, [0, 0, 0, 1, 7, 0, 2, 7, 7]);
    let bundle = |size| Bundle::holding(0, size).unwrap();
    assert_eq!(bundle(3).to_string(), "entries/000.p/3");
    assert_eq!(bundle(3).entries(&bytes).unwrap(), entries);
    assert!(bundle(2).entries(&bytes).is_err(), "more than it has");
    assert!(bundle(4).entries(&bytes).is_err(), "fewer than it has");
    assert!(bundle(3).entries(&bytes[..bytes.len() - 1]).is_err(), "cut");
    assert!(Bundle::bytes([vec![0; MAX_ENTRY + 1].as_slice()]).is_err());
    let all: Vec<_> = Bundle::all(513).map(|bundle| bundle.to_string()).collect();
    assert_eq!(all, ["entries/000", "entries/001", "entries/002.p/1"]);
    assert_eq!(Bundle::all(0).count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readers_do_not_panic(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Resource::parse(&text), Checkpoint::parse(&text), NoteKey::parse(&text), Note::parse(&bytes));
        let _ = (TlogProof::parse(&bytes), AddCheckpoint::parse(&bytes), Entry::from_bytes(&bytes));
        let _ = Bundle::holding(0, 7).unwrap().entries(&bytes);
    }
}
