//! Reference integrity manifests: whose they are, whether they are whole, and what they say of a device.

use std::collections::BTreeSet;

use evidence::CertificateDer;
use evidence::nvidia::{Device, Rim};

use super::device::Genuine;
use super::path::Path;
use crate::findings::{Context, by_rule};
use crate::trust::Anchor;
use crate::verdict::Check;
use crate::x509::{CertificateFault, ParsedCertificate, PublicKey};
use crate::{Code, Rule, SignatureAlgorithm, UnixTime};

/// The measurement, by the manifest's index, that a GPU does not make while its video decoder 0 is off.
const VIDEO_DECODER: u8 = 35;

/// A manifest that could be read, with its certificates.
pub(super) struct Manifest<'a> {
    pub(super) rim: &'a Rim,
    pool: Result<Vec<ParsedCertificate<'a>>, (&'static str, CertificateFault)>,
}

impl<'a> Manifest<'a> {
    pub(super) fn new(rim: &'a Rim) -> Self {
        let parse = |der: &'a CertificateDer| {
            ParsedCertificate::parse(der).map_err(|fault| ("a certificate of the manifest", fault))
        };
        Self { rim, pool: rim.certificates().iter().map(parse).collect() }
    }

    /// Verifies chain, signature and digest, without looking at the time.
    fn verify<'p>(&'p self, anchors: &'p [Anchor], context: &Context<'_>) -> Result<Path<'p, 'a>, Check> {
        const NAME: &str = "rim";
        let described = describe(self.rim);
        let digest = context.crypto.sha384(&[self.rim.canonical()]);
        if digest != *self.rim.digest() {
            let text = format!("{described} was altered after it was signed");
            return Err(Check::failed(NAME, Code::RimDigestMismatch, text)
                .expected(hex::encode(self.rim.digest()))
                .observed(hex::encode(digest))
                .mend("fetch the manifest from NVIDIA again"));
        }
        let pool = self.pool.as_ref().map_err(|(name, fault)| {
            Check::failed(NAME, Code::CertificateMalformed, format!("{name}: {fault}"))
        })?;
        // At least one, or the manifest would not have been read; NVIDIA writes the signer's first.
        let signer = pool.iter().find(|der| der.require_end_entity().is_ok()).unwrap_or(&pool[0]);
        let path =
            Path::build(signer, pool, anchors, context.crypto).map_err(|fault| fault.into_check(NAME))?;
        let verified = match signer.key() {
            PublicKey::P384(key) => {
                let algorithm = SignatureAlgorithm::EcdsaP384Sha384Fixed;
                let (signed, signature) = (self.rim.signed_info(), self.rim.signature());
                context.crypto.verify(algorithm, key, signed, signature).is_ok()
            }
            _ => false,
        };
        if !verified {
            let text = format!("{described} was not signed by {}: altered, or forged", signer.subject_name());
            return Err(Check::failed(NAME, Code::RimSignatureInvalid, text));
        }
        Ok(path)
    }
}

pub(super) fn describe(rim: &Rim) -> String {
    format!("the manifest of {} {}", rim.product(), rim.version())
}

/// A manifest that NVIDIA signed.
pub(super) struct Verified<'p, 'a> {
    pub(super) rim: &'a Rim,
    pub(super) path: Path<'p, 'a>,
}

/// The manifests that are authentic, and a failed check for each that is not.
pub(super) fn verify_all<'p, 'a>(
    manifests: &'p [Manifest<'a>],
    anchors: &'p [Anchor],
    context: &Context<'_>,
) -> (Vec<Verified<'p, 'a>>, Vec<Check>) {
    let (mut verified, mut failed) = (Vec::new(), Vec::new());
    for manifest in manifests {
        match manifest.verify(anchors, context) {
            Ok(path) => verified.push(Verified { rim: manifest.rim, path }),
            Err(check) => failed.push(check),
        }
    }
    (verified, failed)
}

/// What the manifests say of one device.
pub(super) struct Comparison {
    pub(super) checks: Vec<Check>,
    /// How many measurements were compared.
    pub(super) compared: usize,
    /// Those of `verified` that were used.
    pub(super) used: BTreeSet<usize>,
    pub(super) driver: RimResult,
    pub(super) vbios: RimResult,
}

/// How the comparison with a manifest came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RimResult {
    /// There is no such part, or no manifest for it.
    #[default]
    Absent,
    /// All measurements are as the manifest says.
    Matched,
    /// One measurement at least is not.
    Mismatched,
}

/// Compares the measurements of a device with the manifests for its driver and VBIOS.
pub(super) fn compare(
    device: &Device,
    genuine: &Genuine<'_, '_>,
    verified: &[Verified<'_, '_>],
    context: &Context<'_>,
) -> Comparison {
    let opaque = device.report().opaque();
    let mut comparison = Comparison {
        checks: Vec::new(),
        compared: 0,
        used: BTreeSet::new(),
        driver: RimResult::Absent,
        vbios: RimResult::Absent,
    };
    let is_switch = genuine.chip.starts_with("LS");
    let driver = (!is_switch).then(|| {
        comparison.part("driver-rim", "driver", opaque.driver(), (device, genuine, verified), context)
    });
    let vbios = comparison.part("vbios-rim", "VBIOS", opaque.vbios(), (device, genuine, verified), context);
    if let Some(Some(driver)) = driver
        && let Some(vbios) = vbios
        && let Some(index) = active(verified[driver].rim).intersection(&active(verified[vbios].rim)).next()
    {
        let text =
            format!("the manifests of driver and VBIOS both name measurement {index} (counted from 0)");
        comparison.checks.push(Check::failed("rim-conflict", Code::RimConflict, text));
    }
    let result = |used: Option<usize>, name: &str| match used {
        None => RimResult::Absent,
        Some(_) if comparison.checks.iter().any(|check| check.name == name && check.is_failed()) => {
            RimResult::Mismatched
        }
        Some(_) => RimResult::Matched,
    };
    (comparison.driver, comparison.vbios) =
        (result(driver.flatten(), "driver-rim"), result(vbios, "vbios-rim"));
    comparison
}

fn active(rim: &Rim) -> BTreeSet<u8> {
    rim.measurements().iter().filter(|(_, golden)| golden.active).map(|(&index, _)| index).collect()
}

impl Comparison {
    /// Compares with the manifest for one version; the place of that manifest among those verified.
    fn part(
        &mut self,
        name: &'static str,
        part: &str,
        version: Option<&str>,
        (device, genuine, verified): (&Device, &Genuine<'_, '_>, &[Verified<'_, '_>]),
        context: &Context<'_>,
    ) -> Option<usize> {
        let fits = |candidate: &Verified<'_, '_>| {
            let same_root = candidate.path.anchor.origin == genuine.path.anchor.origin;
            same_root
                && candidate.rim.product().eq_ignore_ascii_case(&genuine.chip)
                && version.is_some_and(|version| candidate.rim.version().eq_ignore_ascii_case(version))
        };
        // Of several, the one whose signer was certified last.
        let chosen = verified
            .iter()
            .enumerate()
            .filter(|(_, candidate)| fits(candidate))
            .max_by_key(|(_, candidate)| candidate.path.signer().not_before());
        let Some((index, candidate)) = chosen else {
            self.checks.push(missing(name, part, version, (device, genuine, verified), context));
            return None;
        };
        let (checks, compared) = measurements(device, candidate.rim);
        let mut parts = vec![validity(candidate, context.policy.nvidia.expired_rim, context.now)];
        if checks.is_empty() {
            let text = format!("{compared} measurements are as {} says", describe(candidate.rim));
            parts.push(Check::passed("measurements", text));
        }
        parts.extend(checks);
        self.compared += compared;
        self.used.insert(index);
        self.checks.push(Check::group(name, format!("{part}: {}", candidate.path.describe()), parts));
        Some(index)
    }
}

fn validity(manifest: &Verified<'_, '_>, expired: Rule, now: UnixTime) -> Check {
    const NAME: &str = "validity";
    match manifest.path.validity(NAME, Code::RimExpired, now) {
        Ok(end) => Check::passed(NAME, format!("signed by certificates valid until {end}")),
        Err(failed) if failed.code == Some(Code::RimExpired) => {
            let text = format!("{}: {}", describe(manifest.rim), failed.text);
            Check {
                expected: failed.expected,
                observed: failed.observed,
                ..by_rule(expired, NAME, Code::RimExpired, text)
            }
            .mend("fetch the manifest from NVIDIA again: it is signed anew before its signer expires")
        }
        Err(failed) => failed,
    }
}

fn missing(
    name: &'static str,
    part: &str,
    version: Option<&str>,
    (device, genuine, verified): (&Device, &Genuine<'_, '_>, &[Verified<'_, '_>]),
    context: &Context<'_>,
) -> Check {
    let rule = context.policy.nvidia.missing_rim;
    let chip = &genuine.chip;
    let Some(version) = version else {
        let text =
            format!("the report does not name its {part}: its measurements were compared with nothing");
        return by_rule(rule, name, Code::RimMissing, text);
    };
    let text = format!("the measurements of {part} {version} were compared with nothing");
    let check = if verified.is_empty() {
        by_rule(rule, name, Code::RimMissing, format!("no manifest was given: {text}"))
    } else {
        let seen: Vec<_> =
            verified.iter().map(|other| format!("{} {}", other.rim.product(), other.rim.version())).collect();
        by_rule(rule, name, Code::RimMismatch, format!("the manifests are for others: {text}"))
            .expected(format!("{chip} {version}"))
            .observed(seen.join(", "))
    };
    check.mend(format!("fetch {} from NVIDIA's RIM service", rim_name(part, version, device, genuine)))
}

/// What NVIDIA's service calls the manifest, where that is known.
fn rim_name(part: &str, version: &str, device: &Device, genuine: &Genuine<'_, '_>) -> String {
    let chip = &genuine.chip;
    match (part, device.report().opaque().board()) {
        ("driver", _) if chip == "GH100" => format!("NV_GPU_DRIVER_GH100_{version}"),
        // All boards with this switch have one.
        ("VBIOS", _) if chip == "LS10" => {
            format!("NV_SWITCH_BIOS_5612_0002_890_{}", version.replace('.', ""))
        }
        ("VBIOS", Some((project, sku, chip_sku))) => {
            format!("NV_GPU_VBIOS_{project}_{sku}_{chip_sku}_{}", version.replace('.', ""))
        }
        _ => format!("the manifest of {part} {version} for {chip}"),
    }
}

/// The measurements that are not as the manifest says, and how many were compared.
fn measurements(device: &Device, rim: &Rim) -> (Vec<Check>, usize) {
    let report = device.report();
    let compared = rim
        .measurements()
        .iter()
        .filter(|(_, golden)| golden.active)
        .filter(|&(&index, _)| index != VIDEO_DECODER || !report.opaque().video_decoder_is_off());
    let mut count = 0;
    let mut failed = Vec::new();
    for (&index, golden) in compared {
        count += 1;
        // Reports count from 1, manifests from 0.
        let number = index.checked_add(1);
        let seen = number.and_then(|number| report.measurement(number)).map(|seen| seen.value.as_slice());
        if golden.alternatives.iter().any(|expected| Some(expected.as_slice()) == seen) {
            continue;
        }
        let expected: Vec<_> = golden.alternatives.iter().map(hex::encode).collect();
        let text =
            format!("measurement{} is not as the manifest says ({})", u16::from(index) + 1, golden.name);
        let check = Check::failed("measurement", Code::GpuMeasurementMismatch, text)
            .expected(expected.join(", or "))
            .observed(seen.map_or_else(|| "not in the report".into(), hex::encode))
            .mend(
                "find out what runs on the device: its firmware, its configuration or its driver was changed",
            );
        failed.push(check);
    }
    (failed, count)
}
