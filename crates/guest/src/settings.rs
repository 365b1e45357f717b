//! Which broker, and by which root it is known: from measured init-data, a configuration file, or arguments.
//!
//! The file is the `[kbc]` of the Confidential Data Hub's. What is measured is believed over what the host says: where
//! init-data names a broker, a file or an argument that names another one is refused (S-42).

use std::{fmt, str::FromStr};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, de::IgnoredAny};

/// The longest configuration, in bytes.
pub const MAX_CONFIGURATION: usize = 256 * 1024;

/// An `https://` URL: host, port, and a path before the protocol's own, for brokers behind a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    host: String,
    port: u16,
    prefix: String,
}

/// A broker, and the only roots by which it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBroker {
    /// Where it is.
    pub url: BrokerUrl,
    /// One or several certificates.
    pub roots: Vec<CertificateDer<'static>>,
}

/// What one source says of the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Where it is.
    pub url: Option<BrokerUrl>,
    /// By which roots it is known.
    pub roots: Option<Vec<CertificateDer<'static>>>,
}

/// Why it is not known which broker to ask.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is too long.
    #[error("the configuration has {length} bytes, and may have {MAX_CONFIGURATION}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The file is no TOML, or has what a configuration does not have.
    #[error("the configuration is malformed")]
    Toml(#[source] Box<toml::de::Error>),
    /// `name` is another than `cc_kbc`.
    #[error("[kbc] name is {seen:?}, and the only broker client here is \"cc_kbc\"")]
    Client {
        /// What it is.
        seen: String,
    },
    /// The URL is none.
    #[error("the broker's URL {0}")]
    Url(#[from] UrlError),
    /// There is no certificate.
    #[error("the broker's root is no PEM certificate")]
    Root,
    /// Nothing says where.
    #[error("nothing says which broker to ask")]
    NoUrl,
    /// Nothing says by which root.
    #[error("nothing says by which root certificate the broker is known")]
    NoRoot,
    /// What is measured says otherwise.
    #[error("{what} is another than the measured init-data's")]
    Pinned {
        /// The URL or the root, and whose.
        what: &'static str,
    },
}

impl SettingsError {
    /// What mends it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Toml(_) | Self::Client { .. } => {
                "a configuration has [kbc] with url and kbs_cert, see docs/guest.md"
            }
            Self::Url(_) => "write it like https://broker.example:8443",
            Self::Root | Self::NoRoot => {
                "give --broker-root FILE, the mesh's root certificate as `bailey verify` pins it, or kbs_cert in [kbc]"
            }
            Self::NoUrl => {
                "give --broker URL, or url in [kbc] of --config FILE or of the init-data's cdh.toml"
            }
            Self::Pinned { .. } => {
                "leave it out, so that what was measured holds, or launch with other init-data"
            }
        }
    }
}

/// Why a text is no URL of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme.
    #[error("does not begin with https://")]
    Scheme,
    /// User, query, fragment, or characters that none has.
    #[error("has more than a host, a port and a path")]
    Parts,
    /// No host or no port.
    #[error("has no host, or a port that is none")]
    Authority,
}

impl BrokerUrl {
    /// A DNS name or an IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as a `Host` header has it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }

    /// Empty, or a path without a slash at its end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for BrokerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("https://").ok_or(UrlError::Scheme)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]".contains(&byte);
        if rest.len() > 2048 || !rest.bytes().all(plain) || rest.split('/').any(|part| part == "..") {
            return Err(UrlError::Parts);
        }
        let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(UrlError::Authority)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::Authority)?;
                (
                    host,
                    if port.is_empty() {
                        None
                    } else {
                        Some(port.strip_prefix(':').ok_or(UrlError::Authority)?)
                    },
                )
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => 443,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Authority)?,
        };
        if host.is_empty() {
            return Err(UrlError::Authority);
        }
        Ok(Self { host: host.to_ascii_lowercase(), port, prefix: prefix.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.prefix)
    }
}

/// The Confidential Data Hub's configuration. What of it is about its other tasks is known by name and not used;
/// anything else is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    kbc: Option<KbcWire>,
    #[serde(rename = "socket")]
    _socket: Option<IgnoredAny>,
    #[serde(rename = "credentials")]
    _credentials: Option<IgnoredAny>,
    #[serde(rename = "image")]
    _image: Option<IgnoredAny>,
    #[serde(rename = "aa")]
    _aa: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KbcWire {
    name: Option<String>,
    url: Option<String>,
    kbs_cert: Option<String>,
}

impl Said {
    /// Reads a configuration of the Confidential Data Hub (TOML).
    ///
    /// # Errors
    /// When it is malformed, or has what such a configuration does not have.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        if text.len() > MAX_CONFIGURATION {
            return Err(SettingsError::TooLong { length: text.len() });
        }
        let wire: Wire = toml::from_str(text).map_err(|error| SettingsError::Toml(Box::new(error)))?;
        let Some(kbc) = wire.kbc else { return Ok(Self::default()) };
        if let Some(seen) = kbc.name.filter(|name| name != "cc_kbc") {
            return Err(SettingsError::Client { seen });
        }
        Ok(Self {
            url: kbc.url.map(|url| url.parse()).transpose()?,
            roots: kbc.kbs_cert.map(|pem| roots(pem.as_bytes())).transpose()?,
        })
    }
}

/// Reads one or several PEM certificates.
///
/// # Errors
/// When there is none.
pub fn roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.ok().filter(|found| !found.is_empty()).ok_or(SettingsError::Root)
}

impl KnownBroker {
    /// From what was measured, and what the host says in its file and its arguments (which come before the file).
    ///
    /// # Errors
    /// When one of them contradicts what was measured, or URL or root are missing.
    pub fn settle(measured: &Said, file: &Said, arguments: &Said) -> Result<Self, SettingsError> {
        let url = pinned(
            [&measured.url, &file.url, &arguments.url],
            ["the configuration's url", "the URL of --broker"],
        )?;
        let roots = pinned(
            [&measured.roots, &file.roots, &arguments.roots],
            ["the configuration's kbs_cert", "the root of --broker-root"],
        )?;
        // A URL of the host's choosing under a measured root would be another server of the same mesh.
        if measured.roots.is_some() && measured.url.is_none() && url.is_some() {
            return Err(SettingsError::Pinned { what: "the broker's URL, of which it says nothing," });
        }
        Ok(Self { url: url.ok_or(SettingsError::NoUrl)?, roots: roots.ok_or(SettingsError::NoRoot)? })
    }
}

fn pinned<T: Clone + PartialEq>(
    [measured, file, arguments]: [&Option<T>; 3],
    [of_file, of_arguments]: [&'static str; 2],
) -> Result<Option<T>, SettingsError> {
    let Some(measured) = measured else { return Ok(arguments.clone().or_else(|| file.clone())) };
    for (said, what) in [(file, of_file), (arguments, of_arguments)] {
        if said.as_ref().is_some_and(|said| said != measured) {
            return Err(SettingsError::Pinned { what });
        }
    }
    Ok(Some(measured.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> BrokerUrl {
        text.parse().expect("a URL")
    }

    fn said(text: &str, root: u8) -> Said {
        Said { url: Some(url(text)), roots: Some(vec![vec![root].into()]) }
    }

    #[test]
    fn urls_have_a_host_a_port_and_a_path() {
        let broker = url("https://Broker.example/behind/proxy/");
        assert_eq!((broker.host(), broker.port(), broker.prefix()), ("broker.example", 443, "/behind/proxy"));
        assert_eq!(broker.authority(), "broker.example");
        let broker = url("https://[::1]:8443");
        assert_eq!((broker.host(), broker.port(), broker.authority().as_str()), ("::1", 8443, "[::1]:8443"));
        assert_eq!(url("https://127.0.0.1:8080").to_string(), "https://127.0.0.1:8080");
        for (text, expected) in [
            ("http://broker.example", UrlError::Scheme),
            ("https://user@broker.example", UrlError::Parts),
            ("https://broker.example/?x", UrlError::Parts),
            ("https://broker.example/a/../b", UrlError::Parts),
            ("https://broker.example\r\n", UrlError::Parts),
            ("https://:443", UrlError::Authority),
            ("https://broker.example:0", UrlError::Authority),
            ("https://broker.example:99999", UrlError::Authority),
            ("https://[::1", UrlError::Authority),
            ("https://[zz]", UrlError::Authority),
            ("https://[::1]443", UrlError::Authority),
        ] {
            assert_eq!(text.parse::<BrokerUrl>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_configuration_of_the_confidential_data_hub_is_read() {
        let pem =
            rcgen::generate_simple_self_signed(["broker".to_owned()]).expect("a certificate").cert.pem();
        let text = format!(
            "socket = \"unix:///run/cdh.sock\"\n[kbc]\nname = \"cc_kbc\"\nurl = \"https://broker:8080\"\nkbs_cert = \
             \"\"\"\n{pem}\"\"\"\n[image]\nmax_concurrent_layer_downloads_per_image = 3\n"
        );
        let read = Said::from_toml(&text).expect("a configuration");
        assert_eq!(read.url, Some(url("https://broker:8080")));
        assert_eq!(read.roots.map(|roots| roots.len()), Some(1));
        assert_eq!(Said::from_toml("").expect("nothing is said"), Said::default());
    }

    #[test]
    fn s41_unknown_settings_are_errors() {
        let malformed = |text: &str| matches!(Said::from_toml(text), Err(SettingsError::Toml(_)));
        assert!(malformed("[kbc]\nurl = \"https://b\"\nskip_verification = true"));
        assert!(malformed("insecure = true"));
        assert!(malformed("[kbc]\nurl = 1"));
        assert!(matches!(
            Said::from_toml("[kbc]\nname = \"offline_fs_kbc\""),
            Err(SettingsError::Client { .. })
        ));
        assert!(matches!(Said::from_toml("[kbc]\nkbs_cert = \"no PEM\""), Err(SettingsError::Root)));
        assert!(matches!(
            Said::from_toml("[kbc]\nurl = \"http://b\""),
            Err(SettingsError::Url(UrlError::Scheme))
        ));
        assert!(matches!(
            Said::from_toml(&" ".repeat(MAX_CONFIGURATION + 1)),
            Err(SettingsError::TooLong { .. })
        ));
    }

    #[test]
    fn arguments_come_before_the_file_and_both_are_needed_somewhere() {
        let none = Said::default();
        let (file, arguments) = (said("https://file", 1), said("https://arguments", 2));
        let settled = KnownBroker::settle(&none, &file, &arguments).expect("both are there");
        assert_eq!(settled.url, url("https://arguments"));
        let mixed =
            KnownBroker::settle(&none, &file, &Said { url: None, ..arguments }).expect("both are there");
        assert_eq!(mixed.url, url("https://file"));
        assert_eq!(mixed.roots, vec![CertificateDer::from(vec![2])]);
        assert!(matches!(KnownBroker::settle(&none, &none, &none), Err(SettingsError::NoUrl)));
        let rootless = Said { roots: None, ..file };
        assert!(matches!(KnownBroker::settle(&none, &rootless, &none), Err(SettingsError::NoRoot)));
    }

    #[test]
    fn s42_nobody_overrides_the_broker_of_the_measured_init_data() {
        let none = Said::default();
        let measured = said("https://broker", 1);
        assert_eq!(
            KnownBroker::settle(&measured, &none, &none).expect("measured").url,
            url("https://broker")
        );
        assert!(KnownBroker::settle(&measured, &measured, &measured).is_ok(), "the same may be said again");
        for other in [said("https://evil", 1), said("https://broker", 2), said("https://broker:444", 1)] {
            for (file, arguments) in [(&other, &none), (&none, &other), (&measured, &other)] {
                let refused = KnownBroker::settle(&measured, file, arguments);
                assert!(matches!(refused, Err(SettingsError::Pinned { .. })), "{other:?}");
            }
        }
        let root_only = Said { url: None, ..measured };
        let elsewhere = Said { roots: None, ..said("https://marble", 1) };
        assert!(matches!(
            KnownBroker::settle(&root_only, &none, &elsewhere),
            Err(SettingsError::Pinned { .. })
        ));
    }
}
