//! The Marble's side of a mesh: it attests to the coordinator and the coordinator to it, on one connection, and is then
//! admitted; before its certificate ends it is renewed. What it stores on its host the coordinator remembers for it: the
//! key of each volume, and the newest commit ([`Volume`], a [`volume::Anchor`]).
//!
//! ```text
//!  Member::connect ── Evidence, both ways, on this connection ──▶ activate ──▶ certificate, parameters
//!                                                            └──▶ open_volume ──▶ key, newest commit, anchor
//! ```
//!
//! Keeps and databases use it alike; it knows neither workloads nor SQL. What a Marble claims of itself its program says
//! ([`Member::claiming`]); what it asks of the coordinator is in its measured launch configuration.
//!
//! ```no_run
//! # async fn example(
//! #     tee: std::sync::Arc<dyn attester::Tee>,
//! #     configuration: &attested_tls::launch::KeepConfiguration,
//! #     claims: Vec<u8>,
//! # ) -> Result<(), marble::MeshError> {
//! use appraisal::binding::Role;
//! use marble::{Member, Use};
//! let coordinator = "coordinator.internal:2001".to_owned();
//! let clock = attested_tls::clock::system();
//! let member = Member::new(Role::Database, tee, configuration, coordinator, clock)?.claiming(claims);
//! let admitted = member.activate().await?;
//! let opened = member.open_volume("database", Use::Write).await?;
//! # let _ = (admitted, opened);
//! # Ok(())
//! # }
//! ```

mod error;
mod member;
mod revocations;
mod volumes;

pub use crate::{
    error::{MeshError, refused},
    member::{Admitted, Member},
    revocations::{Revocations, SILENCE},
    volumes::{OpenedVolume, Refused, Use, Volume},
};
