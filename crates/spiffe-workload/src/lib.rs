//! The SPIFFE Workload API (gRPC, `proto/workload.proto`): who a program is, as X.509-SVIDs and JWT-SVIDs that are
//! renewed before they end, and how those of others are verified.
//!
//! It runs where the program runs, inside the TEE, for the programs beside it. The private key of an X.509-SVID is made
//! here; a [`SvidSource`] (the coordinator, over a session or connection that is attested) is sent its public key and
//! sends certificates. Who the program is decides the coordinator by Evidence: no request to this API or from it names
//! an ID that is then believed.
//!
//! ```text
//!  program ──Workload API, Unix socket──▶ serve ──SvidSource──▶ coordinator
//!                                           └── keys, rotation at half life
//! ```
//!
//! Pure and without I/O are [`id`], [`jwt`] and [`wire`], which the coordinator uses too.
//!
//! ```
//! use spiffe_workload::id::SpiffeId;
//! let id: SpiffeId = "spiffe://0123abcd/guest/kata".parse()?;
//! assert_eq!(id.trust_domain().as_str(), "0123abcd");
//! # Ok::<(), spiffe_workload::id::InvalidId>(())
//! ```

pub mod clock;
pub mod id;
pub mod jwt;
mod keeper;
mod listener;
mod marble;
mod server;
mod source;
mod svid;
pub mod wire;

mod generated {
    tonic::include_proto!("_");
}

pub use listener::{ListenError, Listener, Peers};
pub use marble::{MarbleSource, MarbleSourceError};
pub use server::serve;
pub use source::{SourceError, SvidSource};
pub use svid::{Bundle, SvidFault, X509Svid};
