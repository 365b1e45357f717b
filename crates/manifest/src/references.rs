//! Reference values beside plain measurements: tuples that belong together, and what others sign. Who may sign is said
//! in `Broker.ReferenceSigners`; what their word is worth for a package, in its `References`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evidence::{LaunchConfiguration, Measurement, Platform};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, shown, suggestion};
use crate::names::SignerName;
use crate::package;
use crate::path::Path;

/// A name of a series, in bytes; as the statements have it.
const LONGEST_SERIES: usize = 256;
/// Registers and floors of a tuple, together.
const MOST_REGISTERS: usize = 64;
/// A trust root is smaller than this.
const LARGEST_ROOT: usize = 128 * 1024;

/// Who may sign reference values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceSigner {
    /// Whoever has this key.
    Key {
        /// DER `SubjectPublicKeyInfo`.
        key: Vec<u8>,
        /// Where given, only signatures count that are in one of its logs.
        log: Option<TrustedRoot>,
    },
    /// Whoever proved this identity to a Sigstore CA.
    Sigstore {
        /// The certificate's subject.
        identity: String,
        /// The OpenID provider that vouched for it.
        issuer: String,
        /// CAs and logs.
        root: TrustedRoot,
    },
    /// Whoever has one of these keys, for CoRIMs: PEM, certificates or public keys.
    Corim(Vec<String>),
}

impl ReferenceSigner {
    /// The trust root that its signatures depend on.
    #[must_use]
    pub fn root(&self) -> Option<&TrustedRoot> {
        match self {
            Self::Key { log, .. } => log.as_ref(),
            Self::Sigstore { root, .. } => Some(root),
            Self::Corim(_) => None,
        }
    }
}

/// The trust root of a Sigstore instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustedRoot {
    /// `trusted_root.json`, whole.
    pub json: Arc<str>,
    /// Counts: an update of the manifest never brings an older one (S-63).
    pub version: u64,
    /// Until when it is believed, in seconds since 1970 (S-63).
    pub expires: i64,
}

/// Code that is known by what others sign.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatedReferences {
    /// The series of statements.
    pub series: String,
    /// Whose word counts; never empty.
    pub signers: BTreeSet<SignerName>,
    /// How many of them must say the same; 1 to all.
    pub threshold: usize,
}

/// Values that belong together: all of them must be met.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ReferenceTuple {
    /// The platform.
    pub platform: Platform,
    /// The measurement of the code; absent where registers tell what it is.
    pub measurement: Option<Measurement>,
    /// What it must have been launched with; anything, where absent.
    pub launch_configuration: Option<Vec<u8>>,
    /// Further values that must be equal, by the names that verdicts show.
    pub registers: BTreeMap<String, String>,
    /// Numbers that must be at least so great.
    pub minimum: BTreeMap<String, u64>,
}

impl std::fmt::Display for ReferenceTuple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.measurement.as_ref().map(|it| format!("measurement {it}")));
        parts.extend(self.launch_configuration.as_ref().map(|it| format!("launch {}", hex::encode(it))));
        parts.extend(self.registers.iter().map(|(name, value)| format!("{name} {value}")));
        parts.extend(self.minimum.iter().map(|(name, least)| format!("{name} {least} or more")));
        f.write_str(&parts.join(", "))
    }
}

type Signers = BTreeMap<SignerName, ReferenceSigner>;

/// Resolves `Broker.ReferenceSigners`.
pub(crate) fn signers(broker: Option<&wire::Broker>, at: &Path<'_>, faults: &mut Collector<'_>) -> Signers {
    let list = at.field("ReferenceSigners");
    broker.map_or_else(Signers::new, |broker| named(&broker.reference_signers, &list, faults))
}

/// Resolves signers under their names.
pub(crate) fn named(
    list: &BTreeMap<String, wire::ReferenceSigner>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Signers {
    let mut signers = Signers::new();
    for (name, wire) in list {
        let here = at.key(name);
        match name.parse::<SignerName>() {
            Err(error) => faults.add(&here, Code::InvalidName, error.to_string()),
            Ok(name) => {
                if let Some(signer) = signer(wire, &here, faults) {
                    signers.insert(name, signer);
                }
            }
        }
    }
    signers
}

fn signer(
    wire: &wire::ReferenceSigner,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<ReferenceSigner> {
    let log = wire.log.as_ref().map(|log| trusted_root(log, &at.field("Log"), faults));
    if wire.log.is_some() && wire.key.is_none() {
        let message = "only signatures of a `Key` can come with or without a log";
        faults.hint(
            &at.field("Log"),
            Code::NotApplicable,
            message,
            "`Sigstore` has its log in `TrustedRoot`",
        );
    }
    match (&wire.key, &wire.sigstore, wire.corim.0.as_slice()) {
        (Some(key), None, []) => match encoding::pem(key, "PUBLIC KEY") {
            Ok(key) => {
                Some(ReferenceSigner::Key { key, log: log.map_or(Some(None), |root| root.map(Some))? })
            }
            Err(message) => {
                let hint = "`openssl pkey -pubout` prints it; P-256, P-384 and Ed25519 are known";
                faults.hint(&at.field("Key"), Code::InvalidCertificate, message, hint);
                None
            }
        },
        (None, Some(sigstore), []) => sigstore_signer(sigstore, &at.field("Sigstore"), faults),
        (None, None, keys @ [_, ..]) => anchors(keys, &at.field("Corim"), faults).map(ReferenceSigner::Corim),
        (None, None, []) => {
            let hint = "give one of `Key`, `Sigstore` and `Corim`";
            faults.hint(at, Code::Missing, "nothing says how this signer is recognised", hint);
            None
        }
        _ => {
            let hint = "keep one of `Key`, `Sigstore` and `Corim`";
            faults.hint(at, Code::Conflict, "this signer is recognised in more than one way", hint);
            None
        }
    }
}

fn sigstore_signer(
    wire: &wire::SigstoreSigner,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<ReferenceSigner> {
    for (field, text) in [("Identity", &wire.identity), ("Issuer", &wire.issuer)] {
        if text.is_empty() || text.len() > 1024 {
            let message = "anybody can have a certificate of a Sigstore CA: this must be said";
            let hint = "write it as the certificate has it, such as a workflow's URI, in 1 to 1024 bytes";
            faults.hint(&at.field(field), Code::Missing, message, hint);
        }
    }
    let here = at.field("TrustedRoot");
    let Some(root) = &wire.trusted_root else {
        faults.hint(&here, Code::Missing, "nothing says which CAs and logs are meant", "give the trust root");
        return None;
    };
    let root = trusted_root(root, &here, faults)?;
    Some(ReferenceSigner::Sigstore { identity: wire.identity.clone(), issuer: wire.issuer.clone(), root })
}

fn trusted_root(wire: &wire::TrustedRoot, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<TrustedRoot> {
    let is_json = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&wire.json).is_ok();
    if !is_json || wire.json.len() > LARGEST_ROOT {
        let message = "this is not the text of a `trusted_root.json`";
        faults.hint(&at.field("Json"), Code::InvalidValue, message, "put the file's whole text here");
    }
    if wire.version.is_none() {
        let hint = "take that of the TUF metadata that came with it, and count up with each change";
        faults.hint(
            &at.field("Version"),
            Code::Missing,
            "a trust root is never replaced by an older one",
            hint,
        );
    }
    let expires = OffsetDateTime::parse(&wire.expires, &Rfc3339).map(OffsetDateTime::unix_timestamp);
    if expires.is_err() {
        let message =
            "a trust root that nobody replaces keeps keys that are long withdrawn, so it has an end";
        faults.hint(
            &at.field("Expires"),
            Code::InvalidValue,
            message,
            "write a time such as 2027-06-01T00:00:00Z",
        );
    }
    Some(TrustedRoot { json: wire.json.as_str().into(), version: wire.version?, expires: expires.ok()? })
}

/// Certificates and public keys, PEM, as texts: what they are keys of is for appraisal to say.
pub(crate) fn anchors(list: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Vec<String>> {
    let mut anchors = Vec::new();
    for (i, text) in list.iter().enumerate() {
        let fits = ["PUBLIC KEY", "CERTIFICATE"].iter().any(|label| encoding::pem(text, label).is_ok());
        if !fits {
            let message = "expected one certificate or one public key, PEM";
            faults.add(&at.index(i), Code::InvalidCertificate, message);
        } else if anchors.contains(text) {
            faults.add(&at.index(i), Code::DuplicateValue, "this is already in the list");
        } else {
            anchors.push(text.clone());
        }
    }
    (anchors.len() == list.len()).then_some(anchors)
}

/// Resolves a package's `References`.
pub(crate) fn stated(
    wire: &wire::References,
    signers: &Signers,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<StatedReferences> {
    if wire.series.is_empty() || wire.series.len() > LONGEST_SERIES {
        let message = "expected the series of statements that are about this code, in 1 to 256 bytes";
        faults.add(&at.field("Series"), Code::Missing, message);
    }
    let list = at.field("Signers");
    if wire.signers.is_empty() {
        faults.hint(&list, Code::Missing, "nobody's word counts", "name some of `Broker.ReferenceSigners`");
    }
    let mut named = BTreeSet::new();
    for (i, name) in wire.signers.iter().enumerate() {
        let here = list.index(i);
        match signers.keys().find(|known| known.as_str() == name) {
            Some(known) if named.insert(known.clone()) => {}
            Some(_) => faults.add(&here, Code::DuplicateValue, "this is named twice"),
            None => {
                let message = format!("there is no signer `{}` in `Broker.ReferenceSigners`", shown(name));
                let known: Vec<_> = signers.keys().map(SignerName::as_str).collect();
                faults.add_with(&here, Code::UnknownReference, message, || suggestion(name, &known));
            }
        }
    }
    let threshold = wire.threshold.map_or(named.len(), |it| usize::try_from(it).unwrap_or(usize::MAX));
    if threshold == 0 || threshold > wire.signers.len() {
        let message = format!("{threshold} of {} signers is no threshold", wire.signers.len());
        faults.add(&at.field("Threshold"), Code::InvalidValue, message);
    }
    Some(StatedReferences { series: wire.series.clone(), signers: named, threshold })
}

/// Resolves a package's `ReferenceValues`.
pub(crate) fn tuples(
    list: &[wire::ReferenceTuple],
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Vec<ReferenceTuple>> {
    let mut tuples = Vec::new();
    for (i, wire) in list.iter().enumerate() {
        let here = at.index(i);
        match tuple(wire, &here, faults) {
            Some(tuple) if tuples.contains(&tuple) => {
                faults.add(&here, Code::DuplicateValue, "this is already in the list");
            }
            tuple => tuples.extend(tuple),
        }
    }
    (tuples.len() == list.len()).then_some(tuples)
}

fn tuple(wire: &wire::ReferenceTuple, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<ReferenceTuple> {
    let Ok(platform) = wire.platform.parse::<Platform>() else {
        let message = format!("`{}` is not a platform", shown(&wire.platform));
        let known = Platform::ALL.map(|platform| platform.as_str());
        faults.add_with(&at.field("Platform"), Code::InvalidValue, message, || {
            suggestion(&wire.platform, &known)
        });
        return None;
    };
    if wire.measurement.is_none() && wire.registers.is_empty() {
        let message = "this names neither a measurement nor a register, so it would accept any code";
        faults.add(at, Code::Missing, message);
        return None;
    }
    let measurement = wire
        .measurement
        .as_ref()
        .map(|text| package::measurement(platform, text, &at.field("Measurement"), faults));
    let launched = wire.launch_configuration.as_ref().map(|text| {
        let length = LaunchConfiguration::length_on(platform);
        let bytes = encoding::hex(text).filter(|bytes| bytes.len() == length && length > 0);
        if bytes.is_none() {
            let message = format!("a launch configuration on {platform} has {} digits", 2 * length);
            faults.add(&at.field("LaunchConfiguration"), Code::InvalidMeasurement, message);
        }
        bytes
    });
    if wire.registers.len() + wire.minimum.len() > MOST_REGISTERS {
        let message = format!("more than {MOST_REGISTERS} values");
        faults.add(&at.field("Registers"), Code::InvalidValue, message);
    }
    let list = at.field("Registers");
    for (name, value) in &wire.registers {
        let plain = value.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
        if !is_register(name) || value.is_empty() || value.len() > 256 || !plain {
            let message = format!("`{}` could never be equal", shown(value));
            let hint = "write digests in lower-case hexadecimal, under the names that verdicts show: `rtmr1`, `pcr7.sha256`";
            faults.hint(&list.key(name), Code::InvalidValue, message, hint);
        }
    }
    let list = at.field("Minimum");
    for name in wire.minimum.keys().filter(|name| !is_register(name)) {
        faults.add(&list.key(name), Code::InvalidName, "this is no name of a register");
    }
    Some(ReferenceTuple {
        platform,
        measurement: measurement.map_or(Some(None), |it| it.map(Some))?,
        launch_configuration: launched.map_or(Some(None), |it| it.map(Some))?,
        registers: wire.registers.clone(),
        minimum: wire.minimum.clone(),
    })
}

fn is_register(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'z' | b'.' | b'_' | b'-'))
}
