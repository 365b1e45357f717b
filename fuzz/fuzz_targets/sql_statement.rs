//! The gateway's filter of statements. What passes is written out anew, and that passes as it is.
#![no_main]

use std::sync::LazyLock;

use database_manifest::{Manifest, PartyName};

static MANIFEST: LazyLock<(Manifest, PartyName)> = LazyLock::new(|| {
    let parties = testkit::parties::Parties::new();
    let mut tree = parties.manifest();
    tree["Tables"]["notes"]["Readers"] = serde_json::json!(["analyst"]);
    tree["Tables"]["accounts"]["Writers"] = serde_json::json!(["analyst"]);
    let manifest = Manifest::parse(tree.to_string().as_bytes()).expect("a manifest");
    (manifest, PartyName::new("analyst").expect("a name"))
});

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (manifest, party) = &*MANIFEST;
    if let Some(passed) = database::gateway::admit(manifest, party, text) {
        assert_eq!(database::gateway::admit(manifest, party, &passed), Some(passed));
    }
});
