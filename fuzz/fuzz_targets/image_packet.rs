//! A packet of an image's annotation: what is read is written so that it is read again as the same, and no key that we
//! have just made opens it.
#![no_main]

use image_keys::{Kek, Packet};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(packet) = Packet::parse(input) else { return };
    assert_eq!(Packet::parse(&packet.to_json()).as_ref(), Ok(&packet));
    assert!(Kek::generate().is_ok_and(|kek| kek.unwrap(&packet).is_err()));
});
