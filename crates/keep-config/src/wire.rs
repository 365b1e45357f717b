//! The text: as strict as it can be while every `Enarx.toml` that Enarx 0.7 reads is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use serde::Deserialize;

use crate::{
    Clients, Connect, File, Http, KeepConfig, Limits, Listen, Log, Protection, Roots, Secret, SecretPlace,
    Tmpfs, Volume, units,
};

/// The longest configuration, in bytes (Enarx: 1 MB).
pub const MAX_CONFIG: usize = 1 << 20;

/// Why a text is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Over [`MAX_CONFIG`].
    #[error("the configuration has {0} bytes; at most {MAX_CONFIG} are read")]
    TooLarge(usize),
    /// No TOML, or keys that are unknown or missing. The text names line and column.
    #[error("{0}")]
    Malformed(String),
    /// What it says cannot be.
    #[error("the configuration has {} fault(s):{}", .0.len(), list(.0))]
    Faults(Vec<Fault>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `files[2].name`.
    pub path: String,
    /// What, and what would mend it.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Wire {
    steward: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    files: Vec<WireFile>,
    #[serde(default)]
    listen: Vec<WireListen>,
    #[serde(default)]
    connect: Vec<WireConnect>,
    #[serde(default)]
    peers: Vec<String>,
    http: Option<WireListen>,
    #[serde(default)]
    volumes: Vec<WireVolume>,
    #[serde(default)]
    tmpfs: Vec<WireTmpfs>,
    #[serde(default)]
    secrets: Vec<WireSecret>,
    #[serde(default)]
    limits: WireLimits,
    #[serde(default)]
    roots: BTreeMap<String, String>,
    #[serde(default)]
    log: WireLog,
}

// Struct variants only: with internal tags, serde lets newtype variants pass with unknown fields.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum WireFile {
    Null { name: Option<String> },
    Stdin { name: Option<String> },
    Stdout { name: Option<String> },
    Stderr { name: Option<String> },
    Listen { prot: Prot, name: String, addr: Option<IpAddr>, port: Option<u16>, client: Option<String> },
    Connect { prot: Prot, host: String, name: Option<String>, port: Option<u16>, roots: Option<String> },
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Prot {
    Tls,
    Tcp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireListen {
    prot: Prot,
    addr: Option<IpAddr>,
    port: Option<u16>,
    client: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireConnect {
    prot: Prot,
    host: String,
    port: Option<u16>,
    roots: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireVolume {
    name: String,
    path: String,
    size: String,
    #[serde(default)]
    read_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTmpfs {
    path: String,
    size: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSecret {
    name: String,
    env: Option<String>,
    file: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct WireLimits {
    memory: Option<String>,
    cpu: Option<String>,
    wall: Option<String>,
    open_files: Option<u32>,
    connections: Option<u32>,
    output: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WireLog {
    to: Option<String>,
    key: Option<String>,
}

pub(crate) fn parse(text: &str) -> Result<KeepConfig, ConfigError> {
    if text.len() > MAX_CONFIG {
        return Err(ConfigError::TooLarge(text.len()));
    }
    let wire: Wire = toml::from_str(text).map_err(|error| ConfigError::Malformed(error.to_string()))?;
    let mut faults = Faults(Vec::new());
    let config = check(wire, &mut faults);
    if faults.0.is_empty() { Ok(config) } else { Err(ConfigError::Faults(faults.0)) }
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Fault { path: path.into(), problem: problem.into() });
    }

    /// The value, or its default beside a fault.
    fn take<T: Default>(&mut self, path: &str, result: Result<T, String>) -> T {
        result.unwrap_or_else(|problem| {
            self.add(path, problem);
            T::default()
        })
    }
}

fn check(wire: Wire, faults: &mut Faults) -> KeepConfig {
    let known: BTreeSet<String> = wire.roots.keys().cloned().collect();
    if let Some(steward) = &wire.steward
        && !steward.starts_with("https://")
    {
        faults.add("steward", "refusing to use an unencrypted steward url: write https://");
    }
    let variable =
        |name: &str, value: &str| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    for (name, _) in wire.env.iter().filter(|(name, value)| !variable(name, value)) {
        faults.add(format!("env.{name}"), "no environment variable: a name without '=', and no zero bytes");
    }
    for (index, _) in wire.args.iter().enumerate().filter(|(_, arg)| arg.contains('\0')) {
        faults.add(format!("args[{index}]"), "has a zero byte");
    }
    for name in ["web", "marbles", "anyone"].iter().filter(|name| known.contains(**name)) {
        faults.add(format!("roots.{name}"), "is a word with a meaning of its own; choose another name");
    }
    for (name, pem) in &wire.roots {
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            faults.add(format!("roots.{name}"), "holds no certificate in PEM");
        }
    }
    let files: Vec<File> = wire
        .files
        .into_iter()
        .enumerate()
        .map(|(index, entry)| file(entry, &format!("files[{index}]"), &known, faults))
        .collect();
    let listen: Vec<Listen> = wire
        .listen
        .into_iter()
        .enumerate()
        .map(|(index, entry)| listen_at(entry, &format!("listen[{index}]"), &known, faults))
        .collect();
    let connect: Vec<Connect> = wire
        .connect
        .into_iter()
        .enumerate()
        .map(|(index, entry)| connect_to(entry, &format!("connect[{index}]"), &known, faults))
        .collect();
    let http = wire
        .http
        .map_or_else(Http::default, |entry| Http { listen: listen_at(entry, "http", &known, faults) });
    let volumes = volumes(wire.volumes, faults);
    let tmpfs: Vec<Tmpfs> = wire
        .tmpfs
        .into_iter()
        .enumerate()
        .map(|(index, entry)| {
            let at = format!("tmpfs[{index}]");
            absolute(&entry.path, &format!("{at}.path"), faults);
            Tmpfs { size: faults.take(&format!("{at}.size"), units::size(&entry.size)), path: entry.path }
        })
        .collect();
    let secrets = wire
        .secrets
        .into_iter()
        .enumerate()
        .filter_map(|(index, entry)| secret(entry, &format!("secrets[{index}]"), faults))
        .collect();
    apart(volumes.iter().map(|volume| &volume.path).chain(tmpfs.iter().map(|tmpfs| &tmpfs.path)), faults);
    KeepConfig {
        steward: wire.steward,
        args: wire.args,
        env: wire.env,
        files,
        listen,
        connect,
        peers: wire.peers,
        http,
        volumes,
        tmpfs,
        secrets,
        limits: limits(wire.limits, faults),
        roots: wire.roots,
        log: log(wire.log, faults),
    }
}

fn file(entry: WireFile, at: &str, known: &BTreeSet<String>, faults: &mut Faults) -> File {
    let or = |name: Option<String>, kind: &str| name.unwrap_or_else(|| kind.to_owned());
    let file = match entry {
        WireFile::Null { name } => File::Null { name: or(name, "null") },
        WireFile::Stdin { name } => File::Stdin { name: or(name, "stdin") },
        WireFile::Stdout { name } => File::Stdout { name: or(name, "stdout") },
        WireFile::Stderr { name } => File::Stderr { name: or(name, "stderr") },
        WireFile::Listen { prot, name, addr, port, client } => File::Listen {
            name,
            listen: listen_at(WireListen { prot, addr, port, client }, at, known, faults),
        },
        WireFile::Connect { prot, host, name, port, roots } => File::Connect {
            name: name.unwrap_or_else(|| host.clone()),
            connect: connect_to(WireConnect { prot, host, port, roots }, at, known, faults),
        },
    };
    if file.name().contains([':', '\0']) {
        faults.add(
            format!("{at}.name"),
            format!("{:?} has a ':', which separates names in FD_NAMES", file.name()),
        );
    }
    file
}

fn default_port(prot: Prot) -> u16 {
    match prot {
        Prot::Tls => 443,
        Prot::Tcp => 80,
    }
}

fn listen_at(entry: WireListen, at: &str, known: &BTreeSet<String>, faults: &mut Faults) -> Listen {
    let protection = match (entry.prot, entry.client.as_deref()) {
        (Prot::Tcp, None) => Protection::Tcp,
        (Prot::Tcp, Some(_)) => {
            faults
                .add(format!("{at}.client"), "clients show certificates over TLS only: write prot = \"tls\"");
            Protection::Tcp
        }
        (Prot::Tls, None | Some("anyone")) => Protection::Tls(Clients::Anyone),
        (Prot::Tls, Some("marbles")) => Protection::Tls(Clients::Marbles),
        (Prot::Tls, Some(name)) => {
            Protection::Tls(Clients::Named(root(name, &format!("{at}.client"), known, faults)))
        }
    };
    Listen {
        addr: entry.addr.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        port: entry.port.unwrap_or_else(|| default_port(entry.prot)),
        protection,
    }
}

fn connect_to(entry: WireConnect, at: &str, known: &BTreeSet<String>, faults: &mut Faults) -> Connect {
    let protection = match (entry.prot, entry.roots.as_deref()) {
        (Prot::Tcp, None) => Protection::Tcp,
        (Prot::Tcp, Some(_)) => {
            faults
                .add(format!("{at}.roots"), "servers show certificates over TLS only: write prot = \"tls\"");
            Protection::Tcp
        }
        (Prot::Tls, None | Some("web")) => Protection::Tls(Roots::Web),
        (Prot::Tls, Some("marbles")) => Protection::Tls(Roots::Marbles),
        (Prot::Tls, Some(name)) => {
            Protection::Tls(Roots::Named(root(name, &format!("{at}.roots"), known, faults)))
        }
    };
    if entry.host.is_empty() || entry.host.len() > 253 || entry.host.contains(['/', '\0', ' ']) {
        faults.add(format!("{at}.host"), format!("{:?} is no name or address of a host", entry.host));
    }
    Connect { port: entry.port.unwrap_or_else(|| default_port(entry.prot)), host: entry.host, protection }
}

fn root(name: &str, at: &str, known: &BTreeSet<String>, faults: &mut Faults) -> String {
    if !known.contains(name) {
        faults.add(at, format!("{name:?} is no key of [roots]"));
    }
    name.to_owned()
}

fn volumes(entries: Vec<WireVolume>, faults: &mut Faults) -> Vec<Volume> {
    let mut names = BTreeSet::new();
    let mut volumes = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = format!("volumes[{index}]");
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=63).contains(&entry.name.len()) || !entry.name.bytes().all(plain) {
            faults.add(format!("{at}.name"), format!("{:?}: 1 to 63 of a-z, 0-9 and '-'", entry.name));
        }
        if !names.insert(entry.name.clone()) {
            faults.add(format!("{at}.name"), format!("{:?} is the name of another volume", entry.name));
        }
        absolute(&entry.path, &format!("{at}.path"), faults);
        let size = faults.take(&format!("{at}.size"), units::size(&entry.size));
        volumes.push(Volume { name: entry.name, path: entry.path, size, read_only: entry.read_only });
    }
    volumes
}

fn absolute(path: &str, at: &str, faults: &mut Faults) {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain)) {
        faults.add(at, format!("{path:?} is no absolute path without '.', '..' and double slashes"));
    }
}

/// No mount may hide another one.
fn apart<'a>(paths: impl Iterator<Item = &'a String>, faults: &mut Faults) {
    let mut seen: Vec<&String> = Vec::new();
    for path in paths {
        let within = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        if let Some(other) = seen.iter().find(|other| within(path, other) || within(other, path)) {
            faults.add(path.clone(), format!("lies within {other}, or the reverse: mounts must be apart"));
        }
        seen.push(path);
    }
}

fn secret(entry: WireSecret, at: &str, faults: &mut Faults) -> Option<Secret> {
    let place = match (entry.env, entry.file) {
        (Some(name), None) => SecretPlace::Env(name),
        (None, Some(path)) => {
            absolute(&path, &format!("{at}.file"), faults);
            SecretPlace::File(path)
        }
        _ => {
            faults.add(at, "write `env = \"NAME\"` or `file = \"/path\"`, one of them");
            return None;
        }
    };
    Some(Secret { name: entry.name, place })
}

fn limits(wire: WireLimits, faults: &mut Faults) -> Limits {
    let default = Limits::default();
    let size = |text: Option<String>, at: &str, faults: &mut Faults| {
        text.map(|text| faults.take(&format!("limits.{at}"), units::size(&text)))
    };
    let memory = size(wire.memory, "memory", faults).unwrap_or(default.memory);
    let output = size(wire.output, "output", faults);
    let span = |text: Option<String>, at: &str, faults: &mut Faults| {
        text.map(|text| faults.take(&format!("limits.{at}"), units::span(&text)))
    };
    Limits {
        memory,
        cpu: span(wire.cpu, "cpu", faults),
        wall: span(wire.wall, "wall", faults),
        open_files: wire.open_files.unwrap_or(default.open_files),
        connections: wire.connections.unwrap_or(default.connections),
        output,
    }
}

fn log(wire: WireLog, faults: &mut Faults) -> Log {
    match (wire.to.as_deref(), wire.key.as_deref()) {
        (None | Some("nobody"), None) => Log::Nobody,
        (Some("host"), None) => Log::Host,
        (Some("owner"), Some(key)) => Log::Owner(faults.take("log.key", public_key(key))),
        (Some("owner"), None) => {
            faults.add("log.key", "missing: an X25519 public key, 64 hex digits (bailey key log makes one)");
            Log::Nobody
        }
        (_, Some(_)) => {
            faults.add("log.key", "is for `to = \"owner\"` only");
            Log::Nobody
        }
        (Some(other), None) => {
            faults.add("log.to", format!("{other:?}: write nobody, host or owner"));
            Log::Nobody
        }
    }
}

fn public_key(text: &str) -> Result<[u8; 32], String> {
    let problem = || format!("{text:?} is no X25519 public key: 64 hex digits");
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(problem());
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| problem())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| problem())?;
    }
    Ok(key)
}
