//! The sealer's reading of what PostgreSQL streams, without any I/O, for fuzzing.

use super::wire::{Decoder, Event, Streamed};

/// Lets PostgreSQL send these parts: how many bytes of write-ahead log came whole.
pub fn stream<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> usize {
    let (mut decoder, mut whole) = (Decoder::default(), 0);
    for part in parts {
        decoder.push(part);
        loop {
            match decoder.event() {
                Ok(Some(Event::Copy(message))) => match Streamed::parse(message) {
                    Ok(Streamed::Wal { bytes, .. }) => whole += bytes.len(),
                    Ok(Streamed::Keepalive(_)) => {}
                    Err(_) => return whole,
                },
                Ok(Some(Event::Row(row))) => drop(super::backup::position(row)),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return whole,
            }
        }
    }
    whole
}
