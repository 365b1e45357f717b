//! The emulated platform, from both ends: what a launched process speaks on its inherited descriptor,
//! and what `bailey-emulator` answers. Frames ([`frame`]) carry one CBOR value each ([`Request`],
//! [`Response`]); requests are answered one by one, in order.

mod client;
pub mod frame;
mod protocol;

pub use client::Emulated;
pub use frame::{DecodeError, FrameBuffer, FrameError};
pub use protocol::{RefusalCode, Request, Response, byte_string};

/// The descriptor on which a launched process finds its platform: a connected Unix stream socket.
pub const CHANNEL_DESCRIPTOR: i32 = 3;

/// The exit code of a process whose platform was switched off (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_PLATFORM_GONE: i32 = 69;

/// The longest context of a sealing key, in bytes: a name, not data.
pub const MAX_CONTEXT: usize = 256;
