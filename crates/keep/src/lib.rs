//! The WebAssembly runtime inside the TEE: it loads a measured component and serves its HTTP, with files,
//! environment and peers from the coordinator, and TLS that the component does not see.
//!
//! It decides nothing about trust. Who may connect, and which certificates count, is in the
//! [`rustls::ServerConfig`] and the [`http::PeerTls`] that it is given; whom to run, with what, is in the
//! [`admission::Admission`].
//!
//! ```text
//!            rustls::ServerConfig                         PeerTls
//!                    │                                       │
//!  TCP ─▶ TLS ─▶ hyper ─▶ fresh instance of the component ─▶ hyper ─▶ TLS ─▶ TCP, named peers only
//!                            │  wasi:filesystem: read-only files, memory, encrypted volumes
//!                            │  wasi:keyvalue, in memory, shared by all instances of this Keep
//!                            └  environment, arguments; no host files, no sockets, no standard input
//! ```
//!
//! ```no_run
//! # async fn example(
//! #     component: Vec<u8>,
//! #     admission: keep::admission::Admission,
//! #     listener: tokio::net::TcpListener,
//! #     tls: tokio::sync::watch::Receiver<std::sync::Arc<rustls::ServerConfig>>,
//! #     peer_tls: std::sync::Arc<dyn keep::http::PeerTls>,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = keep::runtime::Runtime::new(&admission.limits)?;
//! let workload = runtime.load(&component, None)?;
//! let shutdown = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
//! keep::serve(workload, admission, listener, tls, peer_tls, shutdown).await?;
//! # Ok(())
//! # }
//! ```

pub mod activation;
pub mod admission;
pub mod cache;
pub mod http;
pub mod keyvalue;
pub mod net;
pub mod runtime;

mod bindings;
mod cpu;
mod filesystem;
mod guest;
mod output;
mod vfs;

pub use crate::{
    http::{ServeError, serve},
    vfs::{BadFile, FileFault},
};
