//! Entries of a database's sealed log, one after the other: each is a byte for its kind, two for its length, and its
//! content. Those of a kind that none of ours has are parts of the archive, so that whole ones come about.
#![no_main]

use database::restore::rebuild;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (mut entries, mut rest) = (Vec::new(), bytes);
    while let Some((&[kind, low, high], tail)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(tail.len());
        let (content, more) = tail.split_at(length);
        entries.push((kind, content.to_vec().into()));
        rest = more;
        if entries.len() == 32 {
            break;
        }
    }
    let _ = rebuild(&entries);
});
