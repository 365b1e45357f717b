//! The parts of MarbleRun's manifest that govern the coordinator itself: infrastructures, recovery keys,
//! TLS tags, configuration. All are checked in full; what this version lacks is then refused.

use std::collections::BTreeMap;

use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, shown, suggestion};
use crate::path::Path;
use crate::support::{self, Feature};
use crate::user::exists;

pub(crate) fn check(document: &wire::Document, at: &Path<'_>, faults: &mut Collector<'_>) {
    infrastructures(document, &at.field("Infrastructures"), faults);
    recovery_keys(&document.recovery_keys, &at.field("RecoveryKeys"), faults);
    tls_tags(document, &at.field("TLS"), faults);
    config(document, &at.field("Config"), faults);
}

fn infrastructures(document: &wire::Document, at: &Path<'_>, faults: &mut Collector<'_>) {
    for (name, infrastructure) in &document.infrastructures {
        let here = at.key(name);
        for (field, number) in [("QESVN", infrastructure.qe_svn), ("PCESVN", infrastructure.pce_svn)] {
            if u16::try_from(number).is_err() {
                faults.add(
                    &here.field(field),
                    Code::InvalidValue,
                    format!("{number} does not fit into 16 bits"),
                );
            }
        }
        let cpu_svn = &infrastructure.cpu_svn.0;
        if !cpu_svn.is_empty() && cpu_svn.len() != 16 {
            faults.add(&here.field("CPUSVN"), Code::InvalidValue, format!("{} bytes, not 16", cpu_svn.len()));
        }
    }
    if !document.infrastructures.is_empty() {
        support::refuse(Feature::Infrastructures, at, faults);
    }
}

fn recovery_keys(keys: &BTreeMap<String, String>, at: &Path<'_>, faults: &mut Collector<'_>) {
    for (name, text) in keys {
        if let Err(message) = rsa_key(text) {
            faults.hint(&at.key(name), Code::InvalidCertificate, message, "give one RSA public key as PEM");
        }
    }
    if !keys.is_empty() {
        support::refuse(Feature::RecoveryKeys, at, faults);
    }
}

fn rsa_key(text: &str) -> Result<(), String> {
    let der = encoding::pem(text, "PUBLIC KEY")?;
    match SubjectPublicKeyInfo::from_der(&der) {
        Ok(([], key)) if key.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION => Ok(()),
        Ok(([], _)) => Err("this is not an RSA key".to_owned()),
        Ok(_) => Err("there are bytes after the key".to_owned()),
        Err(error) => Err(format!("this is not a public key: {error}")),
    }
}

fn tls_tags(document: &wire::Document, at: &Path<'_>, faults: &mut Collector<'_>) {
    for (name, tag) in &document.tls {
        let here = at.key(name);
        let incoming = here.field("Incoming");
        for (i, entry) in tag.incoming.iter().enumerate() {
            let here = incoming.index(i);
            port(entry, &here, faults);
            if entry.cert.is_empty() && entry.disable_client_auth {
                let message = "without a `Cert` of its own the connection needs the client's certificate";
                faults.add(&here.field("DisableClientAuth"), Code::Conflict, message);
            }
            if !entry.cert.is_empty() {
                exists(&entry.cert, "secret", &document.secrets, &here.field("Cert"), faults);
                if !entry.disable_client_auth {
                    let message = "a `Cert` of its own needs `DisableClientAuth: true`";
                    faults.add(&here.field("Cert"), Code::Conflict, message);
                }
            }
        }
        let outgoing = here.field("Outgoing");
        for (i, entry) in tag.outgoing.iter().enumerate() {
            let here = outgoing.index(i);
            port(entry, &here, faults);
            if entry.addr.is_empty() {
                faults.add(&here.field("Addr"), Code::Missing, "an outgoing connection needs an address");
            }
        }
    }
    if !document.tls.is_empty() {
        support::refuse(Feature::TlsTags, at, faults);
    }
}

fn port(entry: &wire::TlsEntry, at: &Path<'_>, faults: &mut Collector<'_>) {
    let text = &entry.port.0;
    if text.is_empty() {
        faults.add(&at.field("Port"), Code::Missing, "a connection needs a port");
    } else if !text.parse::<u16>().is_ok_and(|port| port != 0) {
        faults.add(&at.field("Port"), Code::InvalidValue, format!("`{}` is not a port", shown(text)));
    }
}

fn config(document: &wire::Document, at: &Path<'_>, faults: &mut Collector<'_>) {
    let config = &document.config;
    match config.seal_mode.as_str() {
        "" | "ProductKey" => {}
        "UniqueKey" | "Disabled" => support::refuse(Feature::SealMode, &at.field("SealMode"), faults),
        other => word(
            other,
            "a seal mode",
            &["ProductKey", "UniqueKey", "Disabled"],
            &at.field("SealMode"),
            faults,
        ),
    }
    let gates = at.field("FeatureGates");
    for (i, gate) in config.feature_gates.iter().enumerate() {
        const KNOWN: [&str; 3] = ["SignQuoteEndpoint", "MonotonicCounter", "AzureHSMSealing"];
        if !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(gate)) {
            word(gate, "a feature gate", &KNOWN, &gates.index(i), faults);
        }
    }
    if !config.feature_gates.is_empty() {
        support::refuse(Feature::Gates, &gates, faults);
    }
    thresholds(document, at, faults);
    if config.rotate_root_secret {
        support::refuse(Feature::RotateRootSecret, &at.field("RotateRootSecret"), faults);
    }
}

fn thresholds(document: &wire::Document, at: &Path<'_>, faults: &mut Collector<'_>) {
    let config = &document.config;
    let updaters = document.users.values().filter(|user| {
        user.roles.iter().filter_map(|role| document.roles.get(role)).any(|role| {
            role.resource_type == "Manifest"
                && role.actions.iter().any(|action| action.eq_ignore_ascii_case("UpdateManifest"))
        })
    });
    let limits = [
        (
            "UpdateThreshold",
            config.update_threshold,
            updaters.count(),
            "users who may update",
            Feature::UpdateThreshold,
        ),
        (
            "RecoveryThreshold",
            config.recovery_threshold,
            document.recovery_keys.len(),
            "recovery keys",
            Feature::RecoveryThreshold,
        ),
    ];
    for (field, threshold, available, what, feature) in limits.into_iter().filter(|limit| limit.1 != 0) {
        let here = at.field(field);
        if threshold > available as u64 {
            faults.add(&here, Code::InvalidValue, format!("{threshold} is more than the {available} {what}"));
        }
        if feature == Feature::RecoveryThreshold && threshold == 1 {
            faults.add(
                &here,
                Code::InvalidValue,
                "a threshold of one would let any single key recover the state",
            );
        }
        support::refuse(feature, &here, faults);
    }
}

fn word(text: &str, what: &str, known: &[&str], at: &Path<'_>, faults: &mut Collector<'_>) {
    let message = format!("`{}` is not {what}", shown(text));
    faults.add_with(at, Code::InvalidValue, message, || suggestion(text, known));
}
