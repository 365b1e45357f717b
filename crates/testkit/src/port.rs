//! Ports for programs that must be told theirs.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below those that the kernel gives to whoever asks for any: nobody else takes one meanwhile.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port of 127.0.0.1 that nothing listens on. Each is given once.
///
/// # Panics
/// None is left.
#[must_use]
pub fn free() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Test programs that run beside each other begin at different places.
    let begin = process::id().wrapping_mul(97);
    let candidates = (0..COUNT).map(|_| {
        let place = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % u32::from(COUNT);
        FIRST + u16::try_from(place).expect("less than COUNT")
    });
    let mut free = candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("a free port")
}
