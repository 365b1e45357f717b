//! Fetches, caches and bundles what vendors sign about platforms.
//!
//! What it is: the only client of vendors' services, and the one door of Endorsements to network and disk. A [`Client`]
//! turns Evidence into the Endorsements that it needs (Intel PCS or PCCS, AMD KDS); a [`Cache`] keeps them for all
//! processes of a machine; a [`Bundle`] carries them, signed by its maker, to where there is no network; [`Floors`]
//! remember the newest that was seen, so that older ones are refused.
//!
//! What it is not: nothing here decides whether Evidence is good, and nothing that it gives is believed before the
//! `appraisal` crate has verified it. It is never asked in the middle of an appraisal, and nothing that runs inside a
//! TEE needs it: Endorsements come to a TEE beside the Evidence.
//!
//! ```text
//! Evidence ── appraisal::needs ──▶ Client ──▶ Cache ──fresh──────────────┐
//!                                    │                                   ▼
//!                                    └─▶ PCS / PCCS / KDS ──▶ Endorsements ──▶ appraise ──▶ Appraised
//!                                                              │      ▲          ▲             │
//!                                                              ▼      │          │ Minimum     │ CollateralSeen
//!                                                             Bundle ─┘        Floors ◀────────┘
//! ```
//!
//! ```no_run
//! use appraisal::{Policy, ReferenceValues, UnixTime, appraise};
//! use endorsements::{Cache, Client, Config, Floors};
//! use evidence::Evidence;
//!
//! async fn check(quote: &[u8], reference: &ReferenceValues, now: UnixTime, crypto: &dyn appraisal::Crypto)
//!     -> Result<(), Box<dyn std::error::Error>>
//! {
//!     let client = Client::new(Config::default(), Some(Cache::open("/var/cache/bailey".as_ref())?))?;
//!     let floors = Floors::open("/var/lib/bailey/floors.json".as_ref())?;
//!     let evidence = Evidence::parse(quote)?;
//!     let fetched = client.endorsements_for(&evidence, now).await?;
//!     let mut policy = Policy::production();
//!     floors.apply(&mut policy, &evidence, &fetched.endorsements)?;
//!     let appraised = appraise(&evidence, &fetched.endorsements, reference, &policy, now, crypto)?;
//!     floors.raise(&appraised)?;
//!     Ok(())
//! }
//! ```

mod bundle;
mod cache;
mod client;
mod config;
mod counts;
mod disk;
mod error;
mod fetched;
mod floors;
mod http;
mod item;
mod random;
mod service;

pub use crate::http::ConfigError;
pub use bundle::{Bundle, BundleError, BundleKey, BundleSigner};
pub use cache::{Cache, CacheLimits};
pub use client::Client;
pub use config::{Config, Freshness, IntelService, Jitter, Mode, PlainHttp, Timing, Update};
pub use counts::Counts;
pub use error::{Cause, FetchError, PartFailure};
pub use fetched::{Fetched, PartSource, Source, Warning, expiry_warnings};
pub use floors::{DEFAULT_TOLERANCE, Floors, FloorsError};
