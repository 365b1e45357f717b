//! The archive of a base backup. Its headers carry a sum, which is set right here: what is behind it is to be reached.
#![no_main]

use database::restore::unpack;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut archive = bytes.to_vec();
    if let Some(block) = archive.first_chunk_mut::<512>() {
        block[257..262].copy_from_slice(b"ustar");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    let whole = unpack([archive.as_slice()]);
    let parts = unpack(archive.chunks(511));
    assert_eq!(whole.is_ok(), parts.is_ok());
});
