//! Workloads as OCI artefacts: how they are named, what is in one, and what a signature of one says.
//!
//! What it is: shapes and their strict readers. What it is not: it knows neither network, nor cryptography but SHA-256,
//! nor who may sign. Crate `registry` fetches, verifies and decrypts.
//!
//! ```text
//! registry.example/team/app@sha256:…      a Pinned reference: the digest is of
//! └─ OCI image manifest                   the Artefact: name, version and Keep.toml are annotations of it, config and
//!    ├─ config                            layer are those of the CNCF's Wasm OCI artefacts, so that wkg and runwasi
//!    └─ layer application/wasm            read them
//! ▲
//! └─ referrer: a Sigstore bundle          whose envelope has a SignedStatement about that digest, as cosign writes it
//! ```
//!
//! ```
//! use package::{Artefact, Build, Reference};
//!
//! let reference: Reference = "registry.example/team/app:1.2.0".parse()?;
//! let build = Build { name: reference.repository.clone(), version: "1.2.0".parse()?, config: None };
//! let built = build.of(b"\0asm\x01\0\0\0")?;
//! let artefact = Artefact::read(&built.manifest)?;
//! assert_eq!(artefact.version.unwrap().to_string(), "1.2.0");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod artefact;
mod attached;
mod build;
mod digest;
mod image;
mod reference;
mod statement;
mod version;

pub use artefact::{Artefact, ArtefactError, Encryption, Layer, MAX_WORKLOAD};
pub use attached::{Attached, BUNDLE_TYPE, MAX_BUNDLE, Referrers};
pub use build::{Build, Built, Wasm};
pub use digest::{Digest, DigestError};
pub use image::{
    Descriptor, EMPTY_CONFIG, EMPTY_TYPE, ImageError, ImageManifest, MANIFEST_TYPE, MAX_MANIFEST, annotation,
};
pub use reference::{Pinned, Reference, ReferenceError, Repository, Tag};
pub use statement::{PREDICATE_TYPE, SignedStatement, StatementError};
pub use version::{Version, VersionError};
