//! The database's gateway: what a client and PostgreSQL send, in turns, through one session. Each turn is a byte that
//! says whose it is and how long, and so many bytes.
#![no_main]

use std::sync::{Arc, LazyLock};

use database_manifest::{Manifest, PartyName};

static MANIFEST: LazyLock<(Arc<Manifest>, PartyName)> = LazyLock::new(|| {
    let parties = testkit::parties::Parties::new();
    let mut tree = parties.manifest();
    tree["Tables"]["notes"]["Readers"] = serde_json::json!(["analyst"]);
    tree["Tables"]["accounts"]["Writers"] = serde_json::json!(["analyst"]);
    let manifest = Manifest::parse(tree.to_string().as_bytes()).expect("a manifest");
    (Arc::new(manifest), PartyName::new("analyst").expect("a name"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (manifest, party) = &*MANIFEST;
    let mut turns = Vec::new();
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first() {
        let (turn, more) = tail.split_at(tail.len().min(usize::from(head & 0x7f) * 4));
        turns.push((head & 0x80 == 0, turn));
        rest = more;
    }
    database::gateway::converse(manifest, party, &turns);
});
