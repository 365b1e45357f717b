//! A proposal of other rules, as JSON; and the SQL that leads from one schema to the other.
#![no_main]

use std::sync::LazyLock;

use database_manifest::{Manifest, Migration, Proposal};

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let tree = testkit::parties::Parties::new().manifest();
    Manifest::parse(tree.to_string().as_bytes()).expect("a manifest")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(proposal) = serde_json::from_slice::<Proposal>(bytes) {
        let written = serde_json::to_vec(&proposal).expect("JSON");
        let again: Proposal = serde_json::from_slice(&written).expect("it was written here");
        assert_eq!(again.digest(), proposal.digest());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(migration) = Migration::read(text, &MANIFEST)
    {
        assert!(migration.tables().count() < 1000);
    }
});
