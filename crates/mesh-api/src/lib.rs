//! The gRPC interface between the coordinator and its Keeps (`proto/mesh.proto`), generated.
//!
//! It is not a security boundary: who may call is decided by the attested connection that it runs on
//! (crate `attested-tls`), and what a caller gets by the coordinator's core.
//!
//! ```
//! let request = mesh_api::ActivateRequest {};
//! # let _ = request;
//! ```

#[expect(missing_docs, reason = "generated code")]
mod generated {
    tonic::include_proto!("bailey.mesh.v1");
}

pub use generated::*;

/// The one volume of a database: its key is what the sealed log's follows from, its head the log's.
pub const DATABASE_VOLUME: &str = "database";

/// MarbleRun's Marble API (`proto/marble.proto`), generated. Its peers are native programs.
#[expect(missing_docs, reason = "generated code")]
pub mod marble {
    tonic::include_proto!("rpc");
}
