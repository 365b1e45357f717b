//! Queries of approved algorithms on replicas. The primary stays the front: it knows who calls, charges, records and
//! signs; a replica only runs the query, as the role that reads, and only when it shows all that the primary would.
//!
//! ```text
//!  analyst ──▶ primary: caller, budget, audit ──mutual TLS between instances of one Marble──▶ replica: SELECT
//!                 │                             position that must be replayed ▸ ready ▸ PostgreSQL's protocol
//!                 └── here, when no replica is there in time
//! ```
//!
//! What a host does to such a connection costs time and nothing else: then the query runs on the primary.

mod asking;
mod message;
mod serving;

use std::sync::Arc;

use attested_tls::marble::Credential;
use tokio::sync::watch;

pub use asking::{Chosen, Peers, Replicas};
pub use message::{Malformed, Reply, Request};
pub use serving::Reads;

/// What this instance shows the others of its Marble, now and when it is renewed.
pub type Credentials = watch::Receiver<Arc<Credential>>;

/// The ALPN name of these connections.
pub const PROTOCOL: &[u8] = b"bailey-reads/1";
