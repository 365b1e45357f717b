//! The agent's API against the real emulator and real processes: this test's own executable stands for the Keep, and
//! echoes what it hears. What is inside a channel is no affair of the agent, so that an echo tells as much as a Keep.

mod client;
mod life;
mod refusals;
mod site;

use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixListener;

/// The program of the Keeps here: takes one connection, echoes what it hears, and ends.
#[test]
#[ignore = "a program for other tests"]
fn echo() {
    #[expect(unsafe_code, reason = "the listener is known by its number")]
    // SAFETY: the emulator gives the listener as this descriptor, and nothing else here uses it.
    let listener = unsafe { UnixListener::from_raw_fd(emulator::control::LISTENER_DESCRIPTOR) };
    println!("the output of a workload");
    let (mut stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return,
            count => stream.write_all(&buffer[..count]).unwrap(),
        }
    }
}
