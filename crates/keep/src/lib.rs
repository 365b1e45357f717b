//! The WebAssembly runtime inside the TEE: it loads a measured workload, and runs it once ([`command::run`]) or serves
//! its HTTP ([`serve`]), with files, environment and peers from the coordinator or the client, and TLS that the
//! workload does not see.
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
//! let runtime = keep::runtime::Runtime::new(admission.limits.pool())?;
//! let workload = runtime.load(&component, None)?;
//! let shutdown = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
//! keep::serve(workload, admission, listener, tls, peer_tls, shutdown).await?;
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
pub mod runtime;
pub mod world;

mod bindings;
mod cpu;
mod filesystem;
mod guest;
mod limit;
mod output;
mod pipe;
mod preview1;
mod sockets;
mod stdio;
mod vfs;
mod workload;

pub use crate::{
    http::{ServeError, serve},
    vfs::{BadFile, FileFault},
};
