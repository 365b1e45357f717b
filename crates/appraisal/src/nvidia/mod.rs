//! NVIDIA devices: SPDM report ← device certificate ← NVIDIA's root; measurements ← reference integrity manifests
//! ← NVIDIA's root for those.
//!
//! What an accepted verdict does not say: that the device is in the machine of whoever asked, or that it is still the
//! same one. Reports are of the device's start, and name no machine. The nonce is what binds them to the Evidence
//! of a CPU: it is compared whole, like the report data of any other Evidence.

mod collect;
mod device;
mod ocsp;
mod path;
mod policy;
mod revocation;
mod rim;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use evidence::NvidiaCollateral;
use evidence::nvidia::{Attestation, Device, MultiGpu, Rim};
use serde::Serialize;

use crate::claims::Claims;
use crate::findings::{CollateralSeen, Context, Findings, by_rule};
use crate::trust;
use crate::verdict::{Check, Origin, PlatformIdentity, Tcb};
use crate::x509::{CertificateFault, ParsedCertificate};
use crate::{Code, Outcome};
pub(crate) use collect::{fit_chain, fit_rims};
use device::Genuine;
pub use device::NvidiaArchitecture;
pub(crate) use ocsp::is_ocsp_response;
pub use policy::NvidiaPolicy;
use rim::{Manifest, RimResult, Verified};

/// What reports of NVIDIA devices claim, as far as it was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NvidiaClaims {
    /// The devices, in the order of the Evidence.
    pub devices: Vec<NvidiaDevice>,
}

/// What one device claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NvidiaDevice {
    /// The architecture, if it is one that this version knows.
    pub architecture: Option<NvidiaArchitecture>,
    /// The chip, such as `GH100`.
    pub chip: String,
    /// The serial number in the device's own certificate.
    pub serial: String,
    /// The serial number of the certificate of the key that signed, hexadecimal; another for each firmware.
    pub ueid: String,
    /// The version of the driver; switches have none.
    pub driver: Option<String>,
    /// The version of the VBIOS.
    pub vbios: Option<String>,
    /// The number of the board.
    pub board_id: Option<u32>,
    /// The digest of the firmware that the certificate was made for, hexadecimal.
    pub fwid: Option<String>,
    /// The links to other devices are not encrypted.
    pub unprotected_links: bool,
    /// Identities of switches, hexadecimal: those that a GPU is linked with, or a switch's own.
    pub switches: Vec<String>,
    /// How many measurements there are.
    pub measurements: usize,
    /// How many of them were compared with manifests.
    pub compared: usize,
    /// How the comparison with the driver's manifest came out.
    pub driver_rim: RimResult,
    /// How the comparison with the VBIOS's manifest came out.
    pub vbios_rim: RimResult,
}

type Pool<'a> = Result<Vec<ParsedCertificate<'a>>, CertificateFault>;

pub(crate) fn appraise(
    evidence: &Attestation,
    collateral: Option<&NvidiaCollateral>,
    context: &Context<'_>,
) -> Findings {
    let given = collateral.map_or(&[][..], |collateral| &collateral.device_chain);
    let pools: Vec<Pool<'_>> = evidence
        .devices()
        .iter()
        .map(|device| if device.chain().is_empty() { given } else { device.chain() })
        .map(|chain| chain.iter().map(ParsedCertificate::parse).collect())
        .collect();
    let (genuine_check, genuine) = authenticity(evidence, &pools, context);
    let Some(genuine) = genuine else { return Findings::not_genuine(genuine_check) };

    let (rims, mut rim_checks) = read_rims(collateral);
    let manifests: Vec<_> = rims.iter().map(Manifest::new).collect();
    let anchors = trust::rim_anchors(context.policy);
    let (verified, forged) = rim::verify_all(&manifests, &anchors, context);
    rim_checks.extend(forged);

    let (tcb_check, devices, used) = tcb(evidence, &genuine, &verified, rim_checks, context);
    let device_paths: Vec<_> = genuine.iter().map(|genuine| &genuine.path).collect();
    let rim_paths: Vec<_> = used.iter().map(|&index| &verified[index].path).collect();
    let revocation = revocation::appraise(&device_paths, &rim_paths, collateral, context);
    let configuration = configuration(evidence, &genuine, context);

    let serials: Vec<_> = genuine.iter().map(|genuine| genuine.serial.as_str()).collect();
    let chips: BTreeSet<_> = genuine.iter().map(|genuine| genuine.chip.as_str()).collect();
    let versions: BTreeSet<_> = devices.iter().map(version).collect();
    Findings {
        checks: vec![genuine_check, revocation, tcb_check, configuration],
        origin: origin(&genuine),
        product: Some(chips.into_iter().map(|chip| format!("NVIDIA {chip}")).collect::<Vec<_>>().join(", ")),
        identity: Some(PlatformIdentity::Device(serials.join(","))),
        tcb: Tcb { version: Some(versions.into_iter().collect::<Vec<_>>().join("; ")), ..Tcb::default() },
        claims: Claims { nvidia: Some(NvidiaClaims { devices }), ..Claims::default() },
        collateral: CollateralSeen::default(),
    }
}

fn version(device: &NvidiaDevice) -> String {
    let driver = device.driver.as_ref().map(|driver| format!("driver {driver}"));
    let vbios = device.vbios.as_ref().map(|vbios| format!("VBIOS {vbios}"));
    [driver, vbios].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// One device of an emulated platform makes the whole emulated.
fn origin(genuine: &[Genuine<'_, '_>]) -> Option<Origin> {
    let mut origins = genuine.iter().map(|genuine| &genuine.path.anchor.origin);
    let emulated = origins.clone().find(|origin| **origin != Origin::Vendor);
    emulated.or_else(|| origins.next()).cloned()
}

/// The check `genuine`, and what the certificates say of each device if all are.
fn authenticity<'p, 'c>(
    evidence: &Attestation,
    pools: &'p [Pool<'c>],
    context: &'p Context<'_>,
) -> (Check, Option<Vec<Genuine<'p, 'c>>>) {
    let mut checks = Vec::new();
    let mut all = Some(Vec::new());
    for (number, (device, pool)) in evidence.devices().iter().zip(pools).enumerate() {
        let (parts, genuine) = match pool {
            Ok(pool) => device::appraise(device, pool, context),
            Err(fault) => (vec![Check::failed("chain", Code::CertificateMalformed, fault.to_string())], None),
        };
        checks.extend(by_device("device", number, evidence, parts));
        match (all.as_mut(), genuine) {
            (Some(all), Some(genuine)) => all.push(genuine),
            _ => all = None,
        }
    }
    if evidence.covered().as_bytes().is_empty() {
        let nonces: BTreeSet<_> =
            evidence.devices().iter().map(|device| hex::encode(device.report().nonce())).collect();
        let text = "the devices' reports were made for several nonces: some of them may be replays";
        let check = Check::failed("nonce", Code::DeviceNonceMismatch, text)
            .expected("one nonce")
            .observed(nonces.into_iter().collect::<Vec<_>>().join(", "))
            .mend("ask all devices with the same fresh nonce");
        checks.push(check);
        all = None;
    }
    let text = match evidence.devices().len() {
        1 => "a report of an NVIDIA device".to_owned(),
        count => format!("reports of {count} NVIDIA devices, made for one nonce"),
    };
    (Check::group("genuine", text, checks), all)
}

/// The checks of one device: as they are when it is the only one, or as a group that names it.
fn by_device(name: &'static str, number: usize, evidence: &Attestation, checks: Vec<Check>) -> Vec<Check> {
    match evidence.devices().len() {
        1 => checks,
        _ => vec![Check::group(name, format!("gpu{number}"), checks)],
    }
}

fn read_rims(collateral: Option<&NvidiaCollateral>) -> (Vec<Rim>, Vec<Check>) {
    let (mut rims, mut failed) = (Vec::new(), Vec::new());
    for bytes in collateral.iter().flat_map(|collateral| &collateral.rims) {
        match Rim::parse(bytes) {
            Ok(rim) => rims.push(rim),
            Err(malformed) => failed.push(Check::failed("rim", Code::RimMalformed, malformed.to_string())),
        }
    }
    (rims, failed)
}

/// The check `tcb`, the claims of each device, and the manifests that were used.
fn tcb(
    evidence: &Attestation,
    genuine: &[Genuine<'_, '_>],
    verified: &[Verified<'_, '_>],
    mut checks: Vec<Check>,
    context: &Context<'_>,
) -> (Check, Vec<NvidiaDevice>, BTreeSet<usize>) {
    let (mut devices, mut used) = (Vec::new(), BTreeSet::new());
    for (number, (device, genuine)) in evidence.devices().iter().zip(genuine).enumerate() {
        let comparison = rim::compare(device, genuine, verified, context);
        let mut parts = floors(device, genuine, &context.policy.nvidia);
        devices.push(claims(device, genuine, &comparison));
        used.extend(comparison.used);
        parts.extend(comparison.checks);
        checks.extend(by_device("device", number, evidence, parts));
    }
    for (_, unused) in verified.iter().enumerate().filter(|(index, _)| !used.contains(index)) {
        let text = format!("{} was not used: no device here has that version", rim::describe(unused.rim));
        checks.push(Check::skipped("rim", text));
    }
    let versions: BTreeSet<_> = devices.iter().map(version).collect();
    let text = format!(
        "versions that NVIDIA ranks in no list: {}",
        versions.into_iter().collect::<Vec<_>>().join("; ")
    );
    let group = Check::group("tcb", text, checks);
    let check = match group.outcome {
        // What was skipped was allowed by the policy.
        Outcome::Skipped => Check { outcome: Outcome::Passed, ..group },
        _ => group,
    };
    (check, devices, used)
}

fn claims(device: &Device, genuine: &Genuine<'_, '_>, comparison: &rim::Comparison) -> NvidiaDevice {
    let report = device.report();
    let opaque = report.opaque();
    NvidiaDevice {
        architecture: genuine.architecture,
        chip: genuine.chip.clone(),
        serial: genuine.serial.clone(),
        ueid: genuine.ueid.clone(),
        driver: opaque.driver().map(str::to_owned),
        vbios: opaque.vbios().map(str::to_owned),
        board_id: opaque.board_id(),
        fwid: opaque.fwid().map(hex::encode),
        unprotected_links: opaque.multi_gpu() == Some(MultiGpu::ProtectedPcie),
        switches: opaque.switches().map(hex::encode).collect(),
        measurements: report.measurements().len(),
        compared: comparison.compared,
        driver_rim: comparison.driver,
        vbios_rim: comparison.vbios,
    }
}

/// Driver and VBIOS against the policy's floors.
fn floors(device: &Device, genuine: &Genuine<'_, '_>, policy: &NvidiaPolicy) -> Vec<Check> {
    let opaque = device.report().opaque();
    let driver_floor = policy.minimum_driver.as_deref().filter(|_| !genuine.chip.starts_with("LS"));
    let vbios_floor = policy.minimum_vbios.get(&genuine.chip).map(String::as_str);
    vec![floor("driver", opaque.driver(), driver_floor, 10), floor("vbios", opaque.vbios(), vbios_floor, 16)]
}

fn floor(name: &'static str, seen: Option<&str>, least: Option<&str>, radix: u32) -> Check {
    let shown = seen.unwrap_or("none");
    let Some(least) = least else {
        return Check::skipped(name, format!("{shown}; the policy has no floor for it"));
    };
    let order = seen.and_then(|seen| Some(components(seen, radix)?.cmp(&components(least, radix)?)));
    match order {
        Some(Ordering::Equal | Ordering::Greater) => {
            Check::passed(name, format!("{shown}, at least {least}"))
        }
        _ => Check::failed(
            name,
            Code::TcbBelowMinimum,
            "below the policy's floor, or no version that can be read",
        )
        .expected(format!("at least {least}"))
        .observed(shown)
        .mend("update the device's driver or firmware"),
    }
}

/// The numbers of a dotted version.
fn components(version: &str, radix: u32) -> Option<Vec<u64>> {
    version.split('.').map(|part| u64::from_str_radix(part, radix).ok()).collect()
}

/// The check `configuration`.
fn configuration(evidence: &Attestation, genuine: &[Genuine<'_, '_>], context: &Context<'_>) -> Check {
    let mut checks = Vec::new();
    for (number, (device, genuine)) in evidence.devices().iter().zip(genuine).enumerate() {
        let parts = vec![
            architecture(device, genuine, &context.policy.nvidia),
            debug(genuine, context),
            links(device, &context.policy.nvidia),
        ];
        checks.extend(by_device("device", number, evidence, parts));
    }
    checks.push(distinct(genuine, &context.policy.nvidia));
    let text = "the report is of the device's start, and names no machine: nothing shows that the device is in that of \
                whoever asked for it, or stays there";
    checks.push(
        by_rule(context.policy.nvidia.not_colocated, "co-location", Code::DeviceNotColocated, text)
            .mend("make the nonce cover the Evidence of the CPU, and ask anew before each use"),
    );
    Check::group("configuration", "what the devices say of their state", checks)
}

fn architecture(device: &Device, genuine: &Genuine<'_, '_>, policy: &NvidiaPolicy) -> Check {
    const NAME: &str = "architecture";
    let seen = genuine.architecture.map_or_else(|| genuine.chip.clone(), |known| known.as_str().to_owned());
    if let Some(called) = device.architecture()
        && !called.eq_ignore_ascii_case(&seen)
    {
        let text = "the device's certificate is of another architecture than its sender says";
        return Check::failed(NAME, Code::DeviceArchitectureNotExpected, text)
            .expected(called.chars().take(40).collect::<String>())
            .observed(seen);
    }
    match &policy.architectures {
        Some(accepted) if !genuine.architecture.is_some_and(|known| accepted.contains(&known)) => {
            let names: Vec<_> = accepted.iter().map(|known| known.as_str()).collect();
            Check::failed(
                NAME,
                Code::DeviceArchitectureNotExpected,
                "the policy does not name this architecture",
            )
            .expected(names.join(", or "))
            .observed(seen)
        }
        _ => Check::passed(NAME, format!("{seen} ({})", genuine.chip)),
    }
}

fn debug(genuine: &Genuine<'_, '_>, context: &Context<'_>) -> Check {
    const NAME: &str = "debug";
    if genuine.insecure {
        let text =
            "the device's certificate says that its firmware is in a debug, recovery or insecure state";
        return by_rule(context.policy.debug, NAME, Code::DebugEnabled, text).mend("use a production device");
    }
    let text = "the certificate tells of no debug state; a development mode of the driver shows in its measurements \
                alone";
    Check::passed(NAME, text)
}

fn links(device: &Device, policy: &NvidiaPolicy) -> Check {
    const NAME: &str = "links";
    match device.report().opaque().multi_gpu() {
        Some(MultiGpu::ProtectedPcie) => {
            let text = "the links between the GPUs are not encrypted (protected PCIe): the switches see what crosses them";
            by_rule(policy.unprotected_links, NAME, Code::GpuLinksUnprotected, text)
                .mend("attest the switches, too, or run each GPU for itself")
        }
        Some(MultiGpu::Single) => Check::passed(NAME, "the device works for itself"),
        Some(MultiGpu::Multiple) => Check::passed(NAME, "links between the devices are encrypted"),
        None => Check::skipped(NAME, "the device does not tell of its links"),
    }
}

fn distinct(genuine: &[Genuine<'_, '_>], policy: &NvidiaPolicy) -> Check {
    const NAME: &str = "distinct";
    let serials: BTreeSet<_> = genuine.iter().map(|genuine| genuine.serial.as_str()).collect();
    if serials.len() == genuine.len() {
        return Check::passed(NAME, "each device is there once");
    }
    let text = format!("{} reports, but of {} devices only", genuine.len(), serials.len());
    by_rule(policy.duplicate_device, NAME, Code::DeviceDuplicate, text)
        .expected(format!("{} devices", genuine.len()))
        .observed(serials.into_iter().collect::<Vec<_>>().join(", "))
}
