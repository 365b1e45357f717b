//! The command line of Bailey, as a library: what `bailey` and the demo are made of.
//!
//! It talks to services over their public interfaces and starts them as processes; it is not inside any
//! TEE and nothing has to trust it, except the person who runs it.
//!
//! ```
//! let endpoint: bailey::client::Endpoint = "https://localhost:4433".parse().unwrap();
//! assert_eq!(endpoint.to_string(), "https://localhost:4433");
//! ```

pub mod authority;
pub mod client;
pub mod commands;
pub mod database;
pub mod failure;
pub mod heads;
pub mod identity;
pub mod key;
pub mod output;
pub mod recovery;
pub mod reference;
pub mod up;
pub mod volumes;
