//! A software TEE platform: to a laptop what the CPU is to a server.
//!
//! It owns generated Intel-like and AMD-like hierarchies ([`vendor`]), launches processes that it has
//! [measured](measure) ([`launcher`], asked over [`control`]), and gives those, over a channel of their own,
//! Evidence in the vendors' formats and sealing keys. So the same verifier code runs here and in
//! production; only the trust root differs.
//!
//! It is no protection: whoever runs it can read everything. It does not know what a verdict is, and its
//! Evidence is accepted only where a policy names its roots.
//!
//! ```no_run
//! use emulator::{control, daemon::Daemon};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let daemon = Daemon::start("bailey-emulator".as_ref(), "platform".as_ref(), std::process::Stdio::null())?;
//! let mut keep = control::launch(&daemon.socket(), &control::Launch {
//!     configuration: b"measured".to_vec(),
//!     arguments: vec!["--listen".into(), "127.0.0.1:8000".into()],
//!     ..control::Launch::new(evidence::Platform::Snp, "/usr/bin/bailey-keep".into())
//! })?;
//! while let control::Event::Output { .. } = keep.next_event()? {}
//! # Ok(()) }
//! ```

pub mod control;
pub mod daemon;
pub mod jail;
pub mod launcher;
pub mod measure;
pub mod socket;
pub mod vendor;
