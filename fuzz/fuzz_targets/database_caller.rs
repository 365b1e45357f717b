//! Certificates that a client shows to the database: a leaf, and what is behind it. Nobody has a party's key by chance.
#![no_main]

use std::sync::LazyLock;

use appraisal::UnixTime;
use database_manifest::Manifest;
use testkit::parties::Parties;

static PARTIES: LazyLock<(Manifest, Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let parties = Parties::new();
    let manifest = Manifest::parse(parties.manifest().to_string().as_bytes()).expect("a manifest");
    let good = parties.analyst.issue("x").der;
    // One that a stranger issued, to be changed.
    (manifest, good, testkit::parties::Authority::new("Analyst").issue("x").der)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (manifest, good, stranger) = &*PARTIES;
    let now = UnixTime(1_800_000_000);
    assert!(!database::identity::lets_in(manifest, &[bytes], now));
    // The input as changes of real certificates: an offset, a byte, and so on.
    for (real, may) in [(good, false), (stranger, false)] {
        let mut changed = real.clone();
        for change in bytes.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % changed.len();
            changed[at] ^= change[2];
        }
        let same = &changed == good;
        assert!(same || database::identity::lets_in(manifest, &[&changed], now) == may);
    }
});
