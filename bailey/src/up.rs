//! A whole mesh on this machine: the emulated platform, the host agent, the coordinator, the Keeps.
//!
//! [`Lone`] is what `bailey run` needs: a host for one deployment. [`Deployment`] is what a folder says; [`Machine`] is the platform with its host agent; [`Mesh`] is a
//! coordinator on it, verified, with whatever is launched beside it. `bailey up` and the demo go through the
//! same functions, and these go through the same public interfaces as anyone else.

mod database;
mod deployment;
mod ledger;
mod lone;
mod machine;
mod mesh;
mod story;
mod template;

pub use database::{DatabasePlan, RunningDatabase};
pub use deployment::{CoordinatorPlan, Deployment, EtcdPlan, KeepPlan, UserPlan};
pub use lone::Lone;
pub use machine::{Machine, Programs};
pub use mesh::{Keep, KeepOutcome, Log, Mesh, Serving};
pub use story::{Observer, RunningKeep, Up, render};
pub use template::Facts;

/// A free TCP port on the loopback interface. Another process may take it before it is used; then whoever
/// listens on it fails and says so.
pub fn free_address() -> std::io::Result<std::net::SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
