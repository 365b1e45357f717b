//! The control plane: appraises Keeps against the manifest, certifies them, and hands out secrets.
//!
//! [`core`] decides, without I/O; [`store`] keeps what was decided, sealed; [`authority`] makes certificates;
//! [`service`] is the thin shell with the two interfaces. It runs inside a TEE and trusts nothing that comes
//! from the host: the state is sealed and chained, time only bounds validity, addresses decide nothing.
//!
//! ```
//! use appraisal::UnixTime;
//! use coordinator::core::{IdentityKey, State, found};
//! let identity = IdentityKey::generate().unwrap();
//! let founded = found(true, &identity, UnixTime(1_790_000_000)).unwrap();
//! let state = State::begin(founded, identity).unwrap();
//! assert!(state.mesh().is_none(), "a mesh begins without a manifest");
//! ```

pub mod authority;
pub mod core;
pub mod service;
pub mod store;
