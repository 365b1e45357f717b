//! What a client and a Keep say: in pieces and whole; what decodes has one encoding.
#![no_main]
use keep_protocol::{
    Message, Sequence,
    keep::{FromKeep, Preface, ToKeep},
};

fn one<M: Message>(bytes: &[u8]) {
    if let Ok(message) = M::from_bytes(bytes) {
        assert_eq!(message.to_bytes(), bytes);
    }
    let mut sequence = Sequence::<M>::new();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for part in [first, second] {
        sequence.push(part);
        while let Ok(Some(_)) = sequence.next() {}
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    one::<ToKeep>(bytes);
    one::<FromKeep>(bytes);
    one::<Preface>(bytes);
});
