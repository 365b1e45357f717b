//! The Appraisal Policy of each platform that the manifest accepts. A platform that is not listed is not
//! accepted; only a MarbleRun manifest, which knows no `Platforms`, has SGX without listing it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use evidence::{CertificateDer, Measurement, Platform};
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, shown, suggestion};
use crate::path::Path;
use crate::references;

/// What a platform must be like beyond being genuine.
///
/// The roots of trust are the vendor's own and [`PlatformPolicy::emulated_roots`], nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlatformPolicy {
    /// Intel: the TCB statuses that are accepted; always contains `UpToDate`.
    pub accepted_tcb_statuses: BTreeSet<TcbStatus>,
    /// Intel: the advisories that may be open on a platform of status `SWHardeningNeeded`; `None` for any.
    /// In upper case.
    pub accepted_advisories: Option<BTreeSet<String>>,
    /// AMD: the least security version of each component.
    pub minimum_tcb: MinimumTcb,
    /// Intel: the least `tcbEvaluationDataNumber` of the collateral.
    pub minimum_tcb_evaluation_number: Option<u32>,
    /// AMD: product families that are refused although genuine.
    pub denied_families: BTreeSet<Family>,
    /// Roots of emulated platforms that are accepted beside the vendor's. Evidence under them is emulated.
    pub emulated_roots: Vec<CertificateDer>,
    /// TPM, CCA: whose platforms are accepted, each a certificate or a public key, PEM. Their vendors' roots are not
    /// compiled in.
    pub trust_anchors: Vec<String>,
    /// TPM, alone or under Azure: the registers that must be quoted; firmware's and boot loader's where absent.
    pub registers: Option<BTreeSet<u8>>,
    /// Azure: paravisors that are believed beside those that Microsoft signed.
    pub paravisors: BTreeSet<Measurement>,
}

impl Default for PlatformPolicy {
    /// Vendor roots only, `UpToDate` only.
    fn default() -> Self {
        Self {
            accepted_tcb_statuses: [TcbStatus::UpToDate].into(),
            accepted_advisories: None,
            minimum_tcb: MinimumTcb::default(),
            minimum_tcb_evaluation_number: None,
            denied_families: BTreeSet::new(),
            emulated_roots: Vec::new(),
            trust_anchors: Vec::new(),
            registers: None,
            paravisors: BTreeSet::new(),
        }
    }
}

/// The least security versions of an AMD platform; `None` where the manifest sets no floor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the component of the AMD TCB version of that name")]
pub struct MinimumTcb {
    pub bootloader: Option<u8>,
    pub tee: Option<u8>,
    pub snp: Option<u8>,
    pub microcode: Option<u8>,
    /// Turin and later only.
    pub fmc: Option<u8>,
}

macro_rules! words {
    ($($(#[$meta:meta])* enum $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            const WORDS: &[&str] = &[$($text,)+];

            /// The word for it, as the vendor and the manifest write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!(concat!("`{}` is not ", $what), shown(text))),
                }
            }
        }
    )+};
}

words! {
    /// The TCB status of an Intel platform. `Revoked` is not among them: it is never accepted.
    enum TcbStatus("a TCB status") {
        /// All components are at or above Intel's level.
        UpToDate = "UpToDate",
        /// The software must mitigate what the platform does not.
        SwHardeningNeeded = "SWHardeningNeeded",
        /// The platform's configuration leaves something open.
        ConfigurationNeeded = "ConfigurationNeeded",
        /// Both of the above.
        ConfigurationAndSwHardeningNeeded = "ConfigurationAndSWHardeningNeeded",
        /// A component is below Intel's level.
        OutOfDate = "OutOfDate",
        /// A component is below Intel's level, and the configuration leaves something open.
        OutOfDateConfigurationNeeded = "OutOfDateConfigurationNeeded",
    }

    /// A product family of AMD processors, as in the names of its certificates.
    enum Family("a product family of AMD") {
        /// Third generation EPYC.
        Milan = "Milan",
        /// Fourth generation EPYC.
        Genoa = "Genoa",
        /// Fifth generation EPYC.
        Turin = "Turin",
    }
}

/// Resolves `Platforms`; without it, SGX with vendor roots and the strict defaults.
pub(crate) fn resolve(
    platforms: Option<&wire::Platforms>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<Platform, Arc<PlatformPolicy>> {
    let Some(platforms) = platforms else {
        return [(Platform::Sgx, Arc::default())].into();
    };
    let listed = [
        (Platform::Sgx, &platforms.sgx, "Sgx"),
        (Platform::Tdx, &platforms.tdx, "Tdx"),
        (Platform::Snp, &platforms.snp, "Snp"),
        (Platform::AzureSnp, &platforms.azure_snp, "AzureSnp"),
        (Platform::AzureTdx, &platforms.azure_tdx, "AzureTdx"),
        (Platform::Tpm, &platforms.tpm, "Tpm"),
        (Platform::Cca, &platforms.cca, "Cca"),
    ];
    let given =
        listed.into_iter().filter_map(|(platform, wire, name)| Some((platform, wire.as_ref()?, name)));
    given
        .map(|(platform, wire, name)| (platform, Arc::new(policy(platform, wire, &at.field(name), faults))))
        .collect()
}

/// The field's name of a platform, in `Platforms` and `Measurements`.
pub(crate) fn field_of(platform: Platform) -> &'static str {
    match platform {
        Platform::Sgx => "Sgx",
        Platform::Tdx => "Tdx",
        Platform::Snp => "Snp",
        Platform::AzureSnp => "AzureSnp",
        Platform::AzureTdx => "AzureTdx",
        Platform::Tpm => "Tpm",
        Platform::Nitro => "Nitro",
        Platform::Cca => "Cca",
        Platform::Nvidia => "Nvidia",
    }
}

fn policy(
    platform: Platform,
    wire: &wire::Platform,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> PlatformPolicy {
    not_applicable(platform, wire, at, faults);
    let anchored = matches!(platform, Platform::Tpm | Platform::Cca);
    if anchored && wire.trust_anchors.is_empty() {
        let message =
            format!("nothing says whose platforms of kind {platform} are accepted, so none would be");
        let hint = "give certificates or public keys of the vendors, or of single machines";
        faults.hint(&at.field("TrustAnchors"), Code::Missing, message, hint);
    }
    PlatformPolicy {
        accepted_tcb_statuses: tcb_statuses(
            &wire.accepted_tcb_statuses,
            &at.field("AcceptedTCBStatuses"),
            faults,
        ),
        accepted_advisories: advisories(&wire.accepted_advisories, &at.field("AcceptedAdvisories"), faults),
        minimum_tcb: minimum_tcb(wire.minimum_tcb.as_ref(), &at.field("MinimumTcb"), faults),
        minimum_tcb_evaluation_number: wire
            .minimum_tcb_evaluation_number
            .and_then(|number| in_range(number, &at.field("MinimumTcbEvaluationNumber"), faults)),
        denied_families: words(&wire.denied_families, Family::WORDS, &at.field("DeniedFamilies"), faults),
        emulated_roots: emulated_roots(&wire.emulated_roots, &at.field("EmulatedRoots"), faults),
        trust_anchors: references::anchors(&wire.trust_anchors, &at.field("TrustAnchors"), faults)
            .unwrap_or_default(),
        registers: wire.registers.as_ref().map(|list| registers(list, &at.field("Registers"), faults)),
        paravisors: paravisors(platform, &wire.paravisors, &at.field("Paravisors"), faults),
    }
}

/// What a platform has no such thing of, and would be ignored.
fn not_applicable(platform: Platform, wire: &wire::Platform, at: &Path<'_>, faults: &mut Collector<'_>) {
    let amd = matches!(platform, Platform::Snp | Platform::AzureSnp);
    let intel = matches!(platform, Platform::Sgx | Platform::Tdx | Platform::AzureTdx);
    let azure = matches!(platform, Platform::AzureSnp | Platform::AzureTdx);
    let for_intel = if amd {
        (
            "AMD's platforms have no such thing, so this would be ignored",
            "use `MinimumTcb` and `DeniedFamilies`",
        )
    } else {
        ("this is for Intel's platforms, and would be ignored here", "remove it")
    };
    let for_amd = if intel {
        ("this is for AMD's platforms, and would be ignored here", "use `AcceptedTCBStatuses`")
    } else {
        ("this is for AMD's platforms, and would be ignored here", "remove it")
    };
    let for_others = ("this platform has no such thing, so it would be ignored", "remove it");
    let given = [
        ("AcceptedTCBStatuses", !intel && !wire.accepted_tcb_statuses.is_empty(), for_intel),
        ("AcceptedAdvisories", !intel && !wire.accepted_advisories.is_empty(), for_intel),
        ("MinimumTcbEvaluationNumber", !intel && wire.minimum_tcb_evaluation_number.is_some(), for_intel),
        ("MinimumTcb", !amd && wire.minimum_tcb.is_some(), for_amd),
        ("DeniedFamilies", !amd && !wire.denied_families.is_empty(), for_amd),
        ("EmulatedRoots", !amd && !intel && !wire.emulated_roots.is_empty(), for_others),
        ("TrustAnchors", (amd || intel) && !wire.trust_anchors.is_empty(), for_others),
        ("Registers", !azure && platform != Platform::Tpm && wire.registers.is_some(), for_others),
        ("Paravisors", !azure && !wire.paravisors.is_empty(), for_others),
    ];
    for (field, _, (message, hint)) in given.into_iter().filter(|(_, is_foreign, _)| *is_foreign) {
        faults.hint(&at.field(field), Code::NotApplicable, message, hint);
    }
}

fn registers(list: &[u64], at: &Path<'_>, faults: &mut Collector<'_>) -> BTreeSet<u8> {
    let mut registers = BTreeSet::new();
    for (i, number) in list.iter().enumerate() {
        match u8::try_from(*number) {
            Ok(register @ 0..=23) if registers.insert(register) => {}
            Ok(0..=23) => faults.add(&at.index(i), Code::DuplicateValue, "this is named twice"),
            _ => faults.add(&at.index(i), Code::InvalidValue, "a TPM has registers 0 to 23"),
        }
    }
    registers
}

fn paravisors(
    platform: Platform,
    list: &[String],
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeSet<Measurement> {
    // MEASUREMENT and ID_KEY_DIGEST of SNP and MRTD of TDX have the same length.
    let below = if platform == Platform::AzureSnp { Platform::Snp } else { Platform::Tdx };
    list.iter()
        .enumerate()
        .filter_map(|(i, text)| crate::package::measurement(below, text, &at.index(i), faults))
        .collect()
}

/// Reads a list of statuses; `UpToDate` is always accepted (reference §1.10).
pub(crate) fn tcb_statuses(
    list: &[String],
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeSet<TcbStatus> {
    for (i, _) in list.iter().enumerate().filter(|(_, status)| *status == "Revoked") {
        let message = "a platform whose keys are revoked proves nothing, so this can never be accepted";
        faults.hint(&at.index(i), Code::UnsafeTcbStatus, message, "remove it");
    }
    let mut statuses = BTreeSet::from([TcbStatus::UpToDate]);
    let others = list.iter().enumerate().filter(|(_, status)| *status != "Revoked");
    for (i, status) in others {
        statuses.extend(word::<TcbStatus>(status, TcbStatus::WORDS, &at.index(i), faults));
    }
    statuses
}

/// Reads a list of advisories; an empty list means any.
pub(crate) fn advisories(
    list: &[String],
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<BTreeSet<String>> {
    let mut advisories = BTreeSet::new();
    for (i, advisory) in list.iter().enumerate() {
        let plain = advisory.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if advisory.is_empty() || advisory.len() > 64 || !plain {
            let message = format!("`{}` is not the number of an advisory", shown(advisory));
            faults.hint(&at.index(i), Code::InvalidValue, message, "they read like INTEL-SA-00615");
        }
        advisories.insert(advisory.to_ascii_uppercase());
    }
    (!advisories.is_empty()).then_some(advisories)
}

fn minimum_tcb(wire: Option<&wire::MinimumTcb>, at: &Path<'_>, faults: &mut Collector<'_>) -> MinimumTcb {
    let Some(wire) = wire else { return MinimumTcb::default() };
    let mut component = |number: Option<u64>, name| in_range(number?, &at.field(name), faults);
    MinimumTcb {
        bootloader: component(wire.bootloader, "Bootloader"),
        tee: component(wire.tee, "Tee"),
        snp: component(wire.snp, "Snp"),
        microcode: component(wire.microcode, "Microcode"),
        fmc: component(wire.fmc, "Fmc"),
    }
}

fn in_range<T: TryFrom<u64>>(number: u64, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<T> {
    let fitting = T::try_from(number).ok();
    if fitting.is_none() {
        let bits = size_of::<T>() * 8;
        faults.add(at, Code::InvalidValue, format!("{number} does not fit into {bits} bits"));
    }
    fitting
}

fn words<T: FromStr<Err = String> + Ord>(
    list: &[String],
    known: &[&str],
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeSet<T> {
    list.iter().enumerate().filter_map(|(i, text)| word(text, known, &at.index(i), faults)).collect()
}

fn word<T: FromStr<Err = String>>(
    text: &str,
    known: &[&str],
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(message) => {
            faults.add_with(at, Code::InvalidValue, message, || suggestion(text, known));
            None
        }
    }
}

fn emulated_roots(list: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> Vec<CertificateDer> {
    let mut roots = Vec::new();
    for (i, text) in list.iter().enumerate() {
        match root(text) {
            Ok(root) if roots.contains(&root) => {
                faults.add(&at.index(i), Code::DuplicateValue, "this root is already in the list");
            }
            Ok(root) => roots.push(root),
            Err(message) => faults.hint(
                &at.index(i),
                Code::InvalidCertificate,
                message,
                "give one self-signed CA certificate as PEM, as in the emulator's `roots` directory",
            ),
        }
    }
    roots
}

fn root(text: &str) -> Result<CertificateDer, String> {
    let der = certificate(text)?;
    let (_, parsed) = X509Certificate::from_der(&der.0).map_err(|error| error.to_string())?;
    if !parsed.is_ca() || parsed.subject() != parsed.issuer() {
        return Err("this certificate is not a self-signed CA".to_owned());
    }
    Ok(der)
}

/// The one certificate of a PEM text.
pub(crate) fn certificate(text: &str) -> Result<CertificateDer, String> {
    let der = encoding::pem(text, "CERTIFICATE")?;
    match X509Certificate::from_der(&der) {
        Ok(([], _)) => Ok(CertificateDer(der)),
        Ok(_) => Err("there are bytes after the certificate".to_owned()),
        Err(error) => Err(format!("this is not an X.509 certificate: {error}")),
    }
}
