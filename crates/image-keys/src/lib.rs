//! Keys of encrypted container images. ocicrypt (in skopeo, buildah, containerd, image-rs) encrypts each layer with a key
//! of its own, and asks a *key provider* to wrap that key into a [`Packet`], which goes into the image's manifest as an
//! annotation; whoever pulls the image asks a key provider to unwrap it.
//!
//! ```text
//! skopeo ──layer key──▶ Provider ──▶ Wrapper: the coordinator, or a key at hand      (the person who encrypts)
//! skopeo ◀──packet──── Provider
//!
//! image-rs ──packet──▶ Provider ──▶ Unwrapper: a key that was released, or the coordinator      (an attested guest)
//! image-rs ◀─layer key─ Provider
//! ```
//!
//! [`packet`], [`protocol`], [`parameter`] and [`kek`] are pure. [`Provider`] joins them; [`grpc`] and
//! [`Provider::answer`] are the two forms in which ocicrypt calls one. It does not know who may have a key, nor where it
//! is: that is the business of whoever implements [`Wrapper`] and [`Unwrapper`].
//!
//! ```
//! use image_keys::{Kek, Packet};
//!
//! let (kek, name) = (Kek::generate()?, "kbs:///default/key/1".parse()?);
//! let packet = kek.wrap(&name, b"{}")?;
//! let read = Packet::parse(&packet.to_json())?;
//! assert_eq!(kek.unwrap(&read)?.as_slice(), b"{}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bytes;
pub mod grpc;
pub mod kek;
mod name;
pub mod packet;
pub mod parameter;
pub mod protocol;
mod provider;

pub use kek::{Kek, KekError};
pub use name::{KeyName, KeyNameError};
pub use packet::{Form, Packet, PacketError};
pub use parameter::{Parameter, ParameterError};
pub use protocol::{Operation, Request, RequestError};
pub use provider::{BackendError, NAMES, Provider, ProviderError, Unwrapper, Wrapper};

/// The most that is wrapped, in bytes. ocicrypt's private options are some 200.
pub const MAX_OPTIONS: usize = 4096;
