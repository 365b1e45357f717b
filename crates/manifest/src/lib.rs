//! Text to a [`Manifest`] in which every reference is resolved.
//!
//! The manifest is the one document that says what may run in a mesh, with which parameters and secrets,
//! and who may change it. This crate reads MarbleRun's format and Bailey's additions, from JSON or YAML,
//! strictly: an unknown or doubled field is an error, and all faults are reported together, each with its
//! path, a stable [`Code`] and a hint. A [`Manifest`] is proof that there are none.
//!
//! It is not the coordinator: it has no I/O, clock or randomness, makes no secret and appraises nothing.
//! Templates are rendered here, with [`Values`] that the caller provides. The fields are documented in
//! `docs/manifest.md`.
//!
//! ```text
//! bytes ──tree──▶ values ──wire──▶ Document ──resolve──▶ Manifest
//!   size, UTF-8,    fields, types,    references, ranges,
//!   depth, aliases  duplicates        what is safe and supported
//! ```
//!
//! ```
//! use manifest::{Code, Manifest};
//!
//! let text = r#"
//! Packages:
//!   app: { UniqueID: "1111111111111111111111111111111111111111111111111111111111111111" }
//! Marbles:
//!   web:
//!     Package: app
//!     Parameters:
//!       Env: { TOKEN: "{{ hex .Secrets.token }}" }
//! Secrets:
//!   token: { Type: symmetric-key, Size: 256, Shared: true }
//! "#;
//! let manifest = Manifest::parse(text.as_bytes()).expect("no faults");
//! assert_eq!(manifest.marble("web").expect("a Marble").parameters.references().count(), 1);
//!
//! let faults = Manifest::parse(text.replace("Size", "Sise").as_bytes()).unwrap_err();
//! assert_eq!(faults.all()[0].code, Code::UnknownField);
//! assert_eq!(faults.all()[0].path, "Secrets.token.Sise");
//! assert_eq!(faults.all()[0].hint.as_deref(), Some("did you mean `Size`?"));
//! ```

mod broker;
mod certificate;
mod choices;
mod config;
mod database;
mod document;
mod encoding;
mod fault;
mod json;
mod manifest;
mod marble;
mod names;
mod oidc;
mod package;
mod parameters;
mod path;
mod plan;
mod platform;
mod raised;
pub mod reading;
mod references;
mod secret;
mod settings;
mod store;
mod support;
pub mod template;
mod tls;
mod tree;
mod update;
mod user;
mod wire;
mod witness;
mod workload;
mod yaml;

pub use broker::{
    Broker, DeclaredResource, Epochs, HashAlgorithm, InitDataDigest, InvalidInitDataDigest,
    InvalidResourcePath, ReleasePolicy, Repository, ResourcePath, TokenSettings, Use,
};
pub use certificate::{CertificateSecret, CertificateTemplate, End, ExtendedKeyUsage, KeyKind, Subject};
pub use choices::{Choices, Fall};
pub use config::WorkloadConfig;
pub use database::Database;
pub use fault::{Code, Fault, Faults};
pub use manifest::{InvalidDigest, Manifest, ManifestDigest};
pub use marble::{Access, Limits, Log, Marble, SubjectName, Workload, WorkloadDigest};
pub use names::{
    InvalidName, MarbleName, PackageName, PathSegment, PolicyName, RecoveryKeyName, RepositoryName, RoleName,
    SecretName, SignerName, StoreName, UserName,
};
pub use oidc::{TokenHolder, TokenIdentity, TokenKey, TokenKeyKind};
pub use package::{Accepted, AcceptedCode, Package, Signer};
pub use parameters::{ParameterError, Parameters, Rendered};
pub use plan::{Change, Effect, Kind, Plan, plan};
pub use platform::{Family, MinimumTcb, PlatformPolicy, TcbStatus};
pub use raised::with_versions;
pub use references::{ReferenceSigner, ReferenceTuple, StatedReferences, TrustedRoot};
pub use secret::{Secret, SecretKind, SecretSource};
pub use settings::{Gate, Infrastructure, RecoveryKey, SealMode, Settings};
pub use store::{
    KvEngine, Pkcs11Store, SecretStore, StoreKind, StoredAt, StoredEncoding, StoredPlace, VaultAuth,
    VaultStore, WrapMechanism,
};
pub use template::{Generation, KeyPart, Reference, RenderError, SecretPart, Template, Values};
pub use tls::{Incoming, Outgoing, TlsTag};
pub use update::PackageUpdate;
pub use user::{Action, Grant, InstanceAction, Proof, ResourceAction, Role, User};
pub use witness::Witnesses;
pub use workload::{Registry, SignedPackages, WorkloadCode};
