//! Messages as they arrive: in pieces, many at once, or not at all.

use keep_protocol::{
    Message, ProtocolError, Sequence,
    keep::{FromKeep, Preface, ToKeep},
};
use proptest::{collection::vec, prelude::*};
use serde_bytes::ByteBuf;

use crate::messages;

proptest! {
    #[test]
    fn however_it_is_cut(sent in vec(messages::from_keep(), 0..6), cuts in vec(1usize..200, 1..40)) {
        let bytes: Vec<u8> = sent.iter().flat_map(Message::to_bytes).collect();
        let (mut heard, mut sequence, mut rest) = (Vec::new(), Sequence::<FromKeep>::new(), bytes.as_slice());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            sequence.push(now);
            while let Some(message) = sequence.next().unwrap() {
                heard.push(message);
            }
            rest = later;
        }
        prop_assert_eq!(sequence.end(), Ok(()));
        prop_assert_eq!(heard, sent);
    }

    #[test]
    fn noise_is_an_error_or_waits(bytes in vec(any::<u8>(), 0..300)) {
        let mut sequence = Sequence::<ToKeep>::new();
        sequence.push(&bytes);
        while let Ok(Some(_)) = sequence.next() {}
    }
}

#[test]
fn another_kind_of_message_follows() {
    let mut preface = Sequence::<Preface>::new();
    preface.push(&[Preface::ours().to_bytes(), ToKeep::Cancel {}.to_bytes()].concat());
    assert_eq!(preface.next(), Ok(Some(Preface::ours())));
    let mut rest = Sequence::<ToKeep>::new();
    rest.push(&preface.rest());
    assert_eq!(rest.next(), Ok(Some(ToKeep::Cancel {})));
}

#[test]
fn an_end_within_a_message_is_told() {
    let mut sequence = Sequence::<ToKeep>::new();
    sequence.push(&ToKeep::Cancel {}.to_bytes()[..3]);
    assert_eq!(sequence.next(), Ok(None));
    assert_eq!(sequence.end(), Err(ProtocolError::Truncated));
}

#[test]
fn what_is_announced_too_large_is_not_waited_for() {
    let mut sequence = Sequence::<FromKeep>::new();
    let mut bytes = FromKeep::Stdout(ByteBuf::from(vec![0; 1])).to_bytes();
    bytes.truncate(8);
    bytes.extend([0x5a, 0x7f, 0xff, 0xff, 0xff]);
    sequence.push(&bytes);
    assert_eq!(sequence.next(), Ok(None));
    sequence.push(&vec![0; FromKeep::MAX]);
    assert_eq!(sequence.next(), Err(ProtocolError::TooLarge { what: "from-keep", max: FromKeep::MAX }));
}
