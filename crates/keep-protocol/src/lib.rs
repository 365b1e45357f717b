//! The messages of direct deployments: what a client and a host agent say to each other ([`host`]), and what a client
//! and a Keep say inside the attested connection ([`keep`]). CBOR, described in `docs/protocol.cddl`, against which
//! the tests hold every message.
//!
//! Both ends take the other for hostile, so one message has exactly one encoding (RFC 8949 §4.2.1) and anything else
//! is refused: unknown, missing or repeated fields, numbers longer than they need be, indefinite lengths, tags, text
//! that is no UTF-8, and whatever is larger than its bound, before it is stored.
//!
//! What it is not: it neither sends nor waits, and knows neither Evidence nor cryptography. What the host API carries
//! proves nothing to anyone; what the Keep's carries is only as good as the connection that it came over.
//!
//! ```text
//!  client                      host agent                                  Keep
//!    │ GET /v1 ───────────────────▶│ HostInfo
//!    │ POST /v1/keeps  NewKeep ───▶│ Lease                                  (warm)
//!    │ GET /v1/keeps/{id}/channel ▶│ 101, then bytes, both ways ───────────▶│
//!    │ ══ TLS 1.3, Evidence, HTTP/2 ════════════════════════════════════════▶│
//!    │ POST /v1/run: Preface Deploy Chunk* (Stdin | StdinEnd | Cancel)* ────▶│   or the Keep fetches a package
//!    │◀─ Preface Accepted (Exposed | Stdout | Stderr | VolumeHead)* Ended ───┤   or Preface Refused
//! ```
//!
//! ```
//! use keep_protocol::{Message, Sequence, keep::{FromKeep, Ended, Outcome}};
//! let ended = FromKeep::Ended(Ended { outcome: Outcome::Exit { code: 3 }, wall_us: 1200 });
//! let (mut heard, bytes) = (Sequence::<FromKeep>::new(), ended.to_bytes());
//! heard.push(&bytes[..4]);
//! assert_eq!(heard.next().unwrap(), None);
//! heard.push(&bytes[4..]);
//! assert_eq!(heard.next().unwrap(), Some(ended));
//! ```

mod codec;
mod error;
pub mod host;
pub mod keep;
pub mod package;
mod rules;
mod scan;
mod sensitive;

pub use crate::{
    codec::{Message, Sequence},
    error::ProtocolError,
    sensitive::Sensitive,
};

/// The version of both protocols that this crate speaks: in the path of the host API, and in the [`keep::Preface`].
pub const VERSION: u16 = 1;
