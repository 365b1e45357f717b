//! TLS tags: connections that the runtime of a native program (EGo, Edgeless RT) encrypts for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::document as wire;
use crate::fault::{Code, Collector, shown};
use crate::names::SecretName;
use crate::path::Path;
use crate::user::exists;

/// A named set of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsTag {
    /// Connections that the program accepts.
    pub incoming: Vec<Incoming>,
    /// Connections that the program opens.
    pub outgoing: Vec<Outgoing>,
}

/// A port on which connections are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incoming {
    /// The port.
    pub port: u16,
    /// The secret whose certificate is shown, to clients that need none; the Marble's own, to Marbles only, where
    /// absent.
    pub certificate: Option<SecretName>,
}

/// A place to which connections are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing {
    /// A host name or address.
    pub address: String,
    /// The port.
    pub port: u16,
}

pub(crate) fn resolve(
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<String, Arc<TlsTag>> {
    let mut tags = BTreeMap::new();
    for (name, tag) in &document.tls {
        let here = at.key(name);
        let list = here.field("Incoming");
        let incoming = tag.incoming.iter().enumerate();
        let incoming =
            incoming.filter_map(|(i, entry)| incoming_entry(entry, document, &list.index(i), faults));
        let incoming = incoming.collect();
        let list = here.field("Outgoing");
        let outgoing = tag.outgoing.iter().enumerate();
        let outgoing =
            outgoing.filter_map(|(i, entry)| outgoing_entry(entry, &list.index(i), faults)).collect();
        tags.insert(name.clone(), Arc::new(TlsTag { incoming, outgoing }));
    }
    tags
}

fn incoming_entry(
    entry: &wire::TlsEntry,
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Incoming> {
    let port = port(entry, at, faults);
    if !entry.addr.is_empty() {
        let message = "connections are accepted on every address, so this would be ignored";
        faults.hint(&at.field("Addr"), Code::NotApplicable, message, "remove it");
    }
    if entry.cert.is_empty() {
        if entry.disable_client_auth {
            let message = "without a `Cert` of its own the connection needs the client's certificate";
            faults.add(&at.field("DisableClientAuth"), Code::Conflict, message);
        }
        return Some(Incoming { port: port?, certificate: None });
    }
    let here = at.field("Cert");
    if exists(&entry.cert, "secret", &document.secrets, &here, faults)
        && !document.secrets[&entry.cert].kind.starts_with("cert-")
    {
        faults.add(&here, Code::Conflict, format!("the secret `{}` is no certificate", shown(&entry.cert)));
    }
    if !entry.disable_client_auth {
        faults.add(&here, Code::Conflict, "a `Cert` of its own needs `DisableClientAuth: true`");
    }
    Some(Incoming { port: port?, certificate: Some(entry.cert.parse().ok()?) })
}

fn outgoing_entry(entry: &wire::TlsEntry, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Outgoing> {
    let port = port(entry, at, faults);
    if entry.addr.is_empty() {
        faults.add(&at.field("Addr"), Code::Missing, "an outgoing connection needs an address");
    }
    for (field, given) in [("Cert", !entry.cert.is_empty()), ("DisableClientAuth", entry.disable_client_auth)]
    {
        if given {
            let message = "a Marble always shows its own certificate, so this would be ignored";
            faults.hint(&at.field(field), Code::NotApplicable, message, "remove it");
        }
    }
    Some(Outgoing { address: entry.addr.clone(), port: port? })
}

fn port(entry: &wire::TlsEntry, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<u16> {
    let text = &entry.port.0;
    let port = text.parse::<u16>().ok().filter(|port| *port != 0);
    if text.is_empty() {
        faults.add(&at.field("Port"), Code::Missing, "a connection needs a port");
    } else if port.is_none() {
        faults.add(&at.field("Port"), Code::InvalidValue, format!("`{}` is not a port", shown(text)));
    }
    port
}
