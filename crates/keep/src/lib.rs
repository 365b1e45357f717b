//! The WebAssembly runtime inside the TEE: it loads a measured workload, and runs it once ([`command::run`]) or serves
//! its HTTP ([`serve`]), with files, environment and peers from the coordinator or the client, and TLS that the
//! workload does not see.
//!
//! It decides nothing about trust. Who may connect, which certificates count, and what the workload may reach is in the
//! [`net::Net`] that it is given; whom to run, with what, is in the [`admission::Admission`].
//!
//! ```text
//!            net::Listener                                net::Net
//!                    │                                       │
//!  TCP ─▶ TLS ─▶ hyper ─▶ fresh instance of the component ─▶ hyper ─▶ TLS ─▶ TCP, peers and what is listed only
//!                            │  wasi:filesystem: read-only files, memory, encrypted volumes
//!                            │  wasi:keyvalue, in memory, shared by all instances of this Keep
//!                            │  wasi:sockets over the same Net; both also of 0.3
//!                            └  environment, arguments; no host files, no standard input
//! ```
//!
//! ```no_run
//! # async fn example(
//! #     component: Vec<u8>,
//! #     admission: keep::admission::Admission,
//! #     net: keep::net::Net,
//! #     listen: keep_config::Listen,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = keep::runtime::Runtime::new(admission.limits.pool())?;
//! let workload = runtime.load(&component, None)?;
//! let listener = net.listen(&listen, keep::net::HTTP)?;
//! let shutdown = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
//! keep::serve(workload, admission, net, listener, shutdown).await?;
//! # Ok(())
//! # }
//! ```

pub mod activation;
pub mod admission;
pub mod cache;
pub mod command;
pub mod direct;
pub mod http;
pub mod keyvalue;
pub mod net;
pub mod packages;
pub mod runtime;
pub mod steward;
pub mod storage;
pub mod volumes;
pub mod world;

mod bindings;
mod cpu;
mod filesystem;
mod guest;
mod limit;
mod metrics;
mod nesting;
mod output;
mod pipe;
mod preview1;
mod sockets;
mod stdio;
mod vfs;
mod wasi03;
mod workload;

pub use crate::{
    http::{ServeError, serve},
    vfs::{BadFile, FileFault},
};
