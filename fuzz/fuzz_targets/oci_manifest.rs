//! What a registry serves as a manifest or a list of referrers, from nobody.
#![no_main]

use package::{Artefact, Attached, Digest, Referrers};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Artefact::read(bytes);
    let _ = Attached::read(bytes, Digest::of(bytes));
    let _ = Referrers::read(bytes);
});
