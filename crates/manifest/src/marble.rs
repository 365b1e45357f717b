//! Marbles: the named services of the mesh, with everything they refer to resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::ResourcePath;
use crate::config::{self, WorkloadConfig};
use crate::database::{self, Database};
use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, nearest, shown, suggestion};
use crate::names::{MarbleName, PackageName, SecretName, SignerName, is_dns_name};
use crate::package::Package;
use crate::parameters::{self, Parameters};
use crate::path::Path;
use crate::references::ReferenceSigner;
use crate::template::{Reference, Shape};
use crate::tls::TlsTag;
use crate::user::exists;
use crate::workload::{self, WorkloadCode};

/// A named service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Marble {
    /// Its name.
    pub name: MarbleName,
    /// The code that may be it.
    pub package: Arc<Package>,
    /// How often it may be activated in all, restarts included; `None` for any number.
    pub max_activations: Option<NonZeroU64>,
    /// What each instance is given.
    pub parameters: Parameters,
    /// The names that its certificates carry beside its own.
    pub names: Vec<SubjectName>,
    /// What a Keep runs as this Marble; `None` for a program that is the package itself: a database, or a native one.
    pub workload: Option<Workload>,
    /// Which database it is, if it is one.
    pub database: Option<Database>,
    /// Connections that the runtime of a native program encrypts for it.
    pub tls: Vec<Arc<TlsTag>>,
}

impl Marble {
    /// The secrets that instances are given: by a template, or as a certificate by a TLS tag.
    #[must_use]
    pub fn readable_secrets(&self) -> BTreeSet<SecretName> {
        let of_template = |reference: &Reference| match reference {
            Reference::Secret { name, .. } => Some(name.clone()),
            _ => None,
        };
        let incoming = self.tls.iter().flat_map(|tag| &tag.incoming);
        let of_tags = incoming.filter_map(|incoming| incoming.certificate.clone());
        self.parameters.references().filter_map(of_template).chain(of_tags).collect()
    }
}

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectName {
    /// A DNS name in lower case.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// A WebAssembly program that a Keep runs, and the terms on which it does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workload {
    /// Which code it may be.
    pub code: WorkloadCode,
    /// Resources of the broker whose keys open it where it is encrypted.
    pub keys: BTreeSet<ResourcePath>,
    /// What it may use.
    pub limits: Limits,
    /// Who may open connections to it.
    pub access: Access,
    /// Where its output goes.
    pub log: Log,
    /// What else it finds in its Keep.
    pub config: Option<Arc<WorkloadConfig>>,
}

/// SHA-256 of a workload's bytes; written `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadDigest(pub [u8; 32]);

impl fmt::Display for WorkloadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

/// What a workload may use. [`Limits::default`] holds where the manifest is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: u64,
    /// Processor time for one request.
    pub cpu_per_request: Duration,
    /// Requests at the same time.
    pub concurrent_requests: u32,
    /// Bytes of a request's body.
    pub body_size: u64,
}

impl Default for Limits {
    /// 64 MiB, 1 s, 64 requests, 1 MiB.
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            cpu_per_request: Duration::from_secs(1),
            concurrent_requests: 64,
            body_size: 1 << 20,
        }
    }
}

/// Who may open connections to a Marble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// These Marbles, which exist; nobody when empty.
    Peers(BTreeSet<MarbleName>),
}

/// Where the output of a workload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Nowhere.
    Discard,
    /// To the host, which can read it.
    Host,
}

type Shapes = BTreeMap<SecretName, Option<Shape>>;
type Signers = BTreeMap<SignerName, ReferenceSigner>;

/// Resolves the Marbles; only those whose package was resolved are in the result.
pub(crate) fn resolve(
    document: &wire::Document,
    packages: &BTreeMap<PackageName, Arc<Package>>,
    (secrets, tags): (&Shapes, &BTreeMap<String, Arc<TlsTag>>),
    signers: &Signers,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<MarbleName, Marble> {
    let mut resolved = BTreeMap::new();
    let mut lower: BTreeMap<String, &str> = BTreeMap::new();
    for (text, wire) in &document.marbles {
        let here = at.key(text);
        let name = text
            .parse::<MarbleName>()
            .map_err(|error| faults.add(&here, Code::InvalidName, error.to_string()));
        if let Some(other) = lower.insert(text.to_ascii_lowercase(), text) {
            let message = format!("the Marble `{}` has this name in another case", shown(other));
            faults.add(&here, Code::DuplicateValue, message);
        }
        unsafe_or_unknown(wire, document, &here, faults);
        let config = config::resolve(wire, document, &here, faults);
        let given = config::with_secrets(&wire.parameters, config.as_ref());
        let parameters = parameters::resolve(&given, secrets, &here.field("Parameters"), faults);
        let names = names(text, &wire.names, &document.marbles, &here.field("Names"), faults);
        let workload = self::workload(wire, (&document.marbles, signers), config, &here, faults);
        let database = database::resolve(wire, &here, faults);
        let package = package(wire, document, packages, &here, faults);
        let Ok(name) = name else { continue };
        if workload.is_some() && !name.is_host_name() {
            let message = "its peers reach this Marble under its name, and this is no host name";
            faults.hint(&here, Code::InvalidName, message, "use lower-case letters, digits and `-`");
        }
        let Some(package) = package else { continue };
        let max_activations = NonZeroU64::new(wire.max_activations);
        let tls: Vec<_> = wire.tls.iter().filter_map(|tag| tags.get(tag)).map(Arc::clone).collect();
        if workload.is_some() && !tls.is_empty() {
            let message = "a Keep encrypts every connection of its workload, so no tag has an effect";
            faults.hint(
                &here.field("TLS"),
                Code::NotApplicable,
                message,
                "remove it; use `Access` and `Peers`",
            );
        }
        let marble = Marble { name, package, max_activations, parameters, names, workload, database, tls };
        resolved.insert(marble.name.clone(), marble);
    }
    resolved
}

fn package(
    wire: &wire::Marble,
    document: &wire::Document,
    packages: &BTreeMap<PackageName, Arc<Package>>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Arc<Package>> {
    let here = at.field("Package");
    if wire.package.is_empty() {
        faults.add(&here, Code::Missing, "a Marble needs a package, which says what code it is");
        return None;
    }
    exists(&wire.package, "package", &document.packages, &here, faults);
    packages.get(wire.package.as_str()).cloned()
}

fn unsafe_or_unknown(
    wire: &wire::Marble,
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) {
    for (i, tag) in wire.tls.iter().enumerate() {
        exists(tag, "TLS tag", &document.tls, &at.field("TLS").index(i), faults);
    }
    if wire.disable_secret_binding {
        let message = "Marbles of other names could derive the secrets of this one";
        faults.hint(&at.field("DisableSecretBinding"), Code::Unsafe, message, "remove it");
    }
}

fn names(
    own: &str,
    list: &[String],
    marbles: &BTreeMap<String, wire::Marble>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Vec<SubjectName> {
    let mut names = Vec::new();
    for (i, text) in list.iter().enumerate() {
        let here = at.index(i);
        let name = match text.parse::<IpAddr>() {
            Ok(address) => SubjectName::Ip(address),
            Err(_) if is_dns_name(text) => SubjectName::Dns(text.clone()),
            Err(_) => {
                let message = format!("`{}` is neither a DNS name in lower case nor an address", shown(text));
                faults.hint(&here, Code::InvalidName, message, "wildcards are not accepted");
                continue;
            }
        };
        if text != own && marbles.contains_key(text) {
            faults.add(&here, Code::Conflict, "another Marble has this name, and would be impersonated");
        }
        if names.contains(&name) {
            faults.add(&here, Code::DuplicateValue, "this name is already in the list");
        } else {
            names.push(name);
        }
    }
    names
}

fn workload(
    wire: &wire::Marble,
    (marbles, signers): (&BTreeMap<String, wire::Marble>, &Signers),
    config: Option<WorkloadConfig>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Workload> {
    let Some(workload) = &wire.workload else {
        let given = [
            ("Limits", wire.limits.is_some()),
            ("Access", wire.access.is_some()),
            ("Peers", wire.peers.is_some()),
            ("Log", wire.log.is_some()),
        ];
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            let message = "a Keep enforces this for its workload; another program would not";
            faults.hint(&at.field(field), Code::NotApplicable, message, "add `Workload`, or remove this");
        }
        return None;
    };
    let code = workload::code(workload, signers, &at.field("Workload"), faults);
    let keys = workload::keys(workload, &at.field("Workload").field("Keys"), faults);
    let limits = limits(wire.limits.as_ref(), &at.field("Limits"), faults);
    let access = access(wire, marbles, at, faults);
    let log = match wire.log.as_deref() {
        None | Some("Discard") => Log::Discard,
        Some("Host") => Log::Host,
        Some(other) => {
            let message = format!("`{}` is no place for a log", shown(other));
            faults.add_with(&at.field("Log"), Code::InvalidValue, message, || {
                suggestion(other, &["Discard", "Host"])
            });
            Log::Discard
        }
    };
    Some(Workload { code: code?, keys, limits, access, log, config: config.map(Arc::new) })
}

fn limits(wire: Option<&wire::Limits>, at: &Path<'_>, faults: &mut Collector<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(wire) = wire else { return limits };
    let sizes =
        [("Memory", &wire.memory, &mut limits.memory), ("BodySize", &wire.body_size, &mut limits.body_size)];
    for (field, text, limit) in sizes {
        match text.as_deref().map(|text| (text, encoding::size(text))) {
            None => {}
            Some((_, Some(size))) => *limit = size,
            Some((text, None)) => {
                let message = format!("`{}` is not a size", shown(text));
                faults.hint(
                    &at.field(field),
                    Code::InvalidValue,
                    message,
                    "write `64MiB`; units are KiB, MiB and GiB",
                );
            }
        }
    }
    match wire.cpu_per_request.as_deref().map(|text| (text, encoding::duration(text))) {
        None => {}
        Some((_, Some(duration))) => limits.cpu_per_request = duration,
        Some((text, None)) => {
            let message = format!("`{}` is not a time of at most an hour", shown(text));
            faults.hint(
                &at.field("CpuPerRequest"),
                Code::InvalidValue,
                message,
                "write `500ms`; units are ms and s",
            );
        }
    }
    match wire.concurrent_requests.map(u32::try_from) {
        None => {}
        Some(Ok(number @ 1..=65_536)) => limits.concurrent_requests = number,
        Some(_) => {
            let message = "the number of requests at the same time is from 1 to 65536";
            faults.add(&at.field("ConcurrentRequests"), Code::InvalidValue, message);
        }
    }
    limits
}

fn access(
    wire: &wire::Marble,
    marbles: &BTreeMap<String, wire::Marble>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Access {
    let field = at.field("Peers");
    let mut peers = BTreeSet::new();
    for (i, peer) in wire.peers.iter().flatten().enumerate() {
        if !marbles.contains_key(peer) {
            let message = format!("there is no Marble `{}` in this manifest", shown(peer));
            faults.add_with(&field.index(i), Code::UnknownReference, message, || {
                nearest(peer, marbles.keys().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?"))
            });
        }
        peers.extend(peer.parse::<MarbleName>().ok());
    }
    match wire.access.as_deref() {
        None | Some("Peers") => {}
        Some("Public") if peers.is_empty() => return Access::Public,
        Some("Public") => {
            let message = "anyone may connect to a public Marble, so a list of peers has no effect";
            faults.hint(&field, Code::Conflict, message, "remove `Peers`, or `Access`");
        }
        Some(other) => {
            let message = format!("`{}` is not a kind of access", shown(other));
            faults.add_with(&at.field("Access"), Code::InvalidValue, message, || {
                suggestion(other, &["Public", "Peers"])
            });
        }
    }
    Access::Peers(peers)
}
