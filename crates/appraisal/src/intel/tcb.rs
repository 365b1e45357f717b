//! The status of a platform's TCB: the level that the CPU reaches, that of the TDX module, and that of the
//! quoting enclave, merged as Intel's Quote Verification Library merges them.

use evidence::Platform;
use evidence::sgx::EnclaveReport;
use evidence::tdx::TdReport;

use super::detail::{Area, Lack, Part, part};
use super::pck::Pck;
use super::qe_identity::{QeIdentity, masked};
use super::tcb_info::{Component, SvnLevel, TcbInfo, TcbLevel, svn_level};
use crate::acceptance;
use crate::findings::Context;
use crate::policy::Standing;
use crate::verdict::{Check, Shortfall, Tcb};
use crate::{Code, TcbStatus};

const NO_LEVEL: &str = "the platform's versions are below every level that Intel lists";

/// Evaluates all parts.
pub(super) fn evaluate(
    pck: &Pck,
    td: Option<&TdReport>,
    qe: &EnclaveReport,
    info: &TcbInfo<'_>,
    identity: &QeIdentity<'_>,
    context: &Context<'_>,
) -> (Check, Tcb) {
    let mut parts = Vec::new();
    let platform = match td {
        None => platform_level("platform", pck, None, info, &mut parts),
        Some(report) => td_level(pck, report, info, &mut parts),
    };
    let mut checks = Vec::new();
    let platform = settle(platform, &mut checks);
    let qe = settle(qe_level(qe, identity, &mut parts), &mut checks);
    let status = match (platform, qe) {
        (Some(platform), Some(qe)) => Some(platform.merge(qe)),
        // The platform's own status is worth showing although another part was refused.
        _ => platform,
    };
    let mut tcb = Tcb {
        status,
        version: Some(version(pck, td)),
        date: parts.iter().map(|part| part.tcb.date).min(),
        advisories: parts.iter().flat_map(|part| &part.tcb.advisories).map(|own| own.id.clone()).collect(),
        parts: Vec::new(),
    };
    tcb.advisories.sort();
    tcb.advisories.dedup();
    if let (Some(status), 0) = (tcb.status, checks.len()) {
        checks.push(with_detail(status_check(status, pck, td, &tcb, context), status, &parts));
    }
    checks.extend(acceptance::advisories(&tcb.advisories, context));
    checks.extend(acceptance::tcb_date(tcb.date, context));
    checks.push(minimum(pck, td, context));
    tcb.parts = parts.into_iter().map(|part| part.tcb).collect();
    let text = match tcb.status {
        Some(status) => format!("{status}, by evaluation {} of Intel's", info.tcb_evaluation_data_number),
        None => "no status".into(),
    };
    (Check::group("tcb", text, checks), tcb)
}

fn settle(result: Result<TcbStatus, Check>, checks: &mut Vec<Check>) -> Option<TcbStatus> {
    result.map_err(|check| checks.push(check)).ok()
}

fn version(pck: &Pck, td: Option<&TdReport>) -> String {
    let cpu = format!("CPU {}, PCE {}", hex::encode(pck.components), pck.pce_svn);
    match td {
        Some(report) => format!("{cpu}, TEE {}", hex::encode(report.tee_tcb_svn)),
        None => cpu,
    }
}

/// How many of the first TDX components are not compared: a module with a major version has levels of its own, see
/// [`module_level`].
fn skipped(tee_tcb_svn: &[u8; 16]) -> usize {
    if tee_tcb_svn[1] > 0 { 2 } else { 0 }
}

fn reaches(level: &TcbLevel<'_>, pck: &Pck, tee_tcb_svn: Option<&[u8; 16]>) -> bool {
    let all = |seen: &[u8; 16], wanted: &[Component<'_>; 16], skip| {
        seen.iter().zip(wanted).skip(skip).all(|(seen, component)| *seen >= component.svn)
    };
    let tdx = match (tee_tcb_svn, &level.tcb.tdx) {
        (None, _) => true,
        (Some(svn), Some(components)) => all(svn, components, skipped(svn)),
        (Some(_), None) => false,
    };
    tdx && pck.pce_svn >= level.tcb.pce_svn && all(&pck.components, &level.tcb.sgx, 0)
}

/// What the platform lacks for a level.
fn lacks(level: &TcbLevel<'_>, pck: &Pck, tee_tcb_svn: Option<&[u8; 16]>) -> Vec<Lack> {
    let below = |family: &'static str, seen: [u8; 16], wanted: &[Component<'_>; 16], skip| {
        let pairs = seen.iter().zip(wanted).enumerate().skip(skip);
        let short = pairs.filter(|(_, (seen, component))| **seen < component.svn);
        let lack = |(index, (seen, component)): (usize, (&u8, &Component<'_>))| Lack {
            shortfall: Shortfall {
                component: component.name(family, index),
                seen: u16::from(*seen),
                required: u16::from(component.svn),
            },
            area: Area::of(component),
        };
        short.map(lack).collect::<Vec<_>>()
    };
    let mut found = below("CPU", pck.components, &level.tcb.sgx, 0);
    if pck.pce_svn < level.tcb.pce_svn {
        let (seen, required) = (pck.pce_svn, level.tcb.pce_svn);
        let shortfall = Shortfall { component: "PCE".into(), seen, required };
        found.push(Lack { shortfall, area: Area::Pce });
    }
    if let (Some(svn), Some(components)) = (tee_tcb_svn, &level.tcb.tdx) {
        found.extend(below("TDX", *svn, components, skipped(svn)));
    }
    found
}

/// The first level that the platform reaches: Intel lists them from new to old.
fn platform_level(
    name: &'static str,
    pck: &Pck,
    tee_tcb_svn: Option<&[u8; 16]>,
    info: &TcbInfo<'_>,
    parts: &mut Vec<Part>,
) -> Result<TcbStatus, Check> {
    let levels = &info.tcb_levels;
    match levels.iter().position(|level| reaches(level, pck, tee_tcb_svn)) {
        Some(reached) => {
            parts.push(part(name, levels, reached, |level| lacks(level, pck, tee_tcb_svn)));
            Ok(levels[reached].tcb_status)
        }
        None => {
            let check = Check::failed(name, Code::TcbLevelUnknown, NO_LEVEL)
                .mend("update the platform's BIOS and microcode, then renew its PCK certificate");
            // The last level is the one that demands least.
            Err(match levels.last() {
                Some(lowest) => below(check, &lacks(lowest, pck, tee_tcb_svn)),
                None => check,
            })
        }
    }
}

fn below(check: Check, lacks: &[Lack]) -> Check {
    let list = |value: fn(&Shortfall) -> u16| {
        let each =
            lacks.iter().map(|lack| format!("{} at {}", lack.shortfall.component, value(&lack.shortfall)));
        each.collect::<Vec<_>>().join(", ")
    };
    check.expected(list(|shortfall| shortfall.required)).observed(list(|shortfall| shortfall.seen))
}

/// A TD of TDX 1.5 tells the versions of its launch and those of now; both count.
fn td_level(
    pck: &Pck,
    report: &TdReport,
    info: &TcbInfo<'_>,
    parts: &mut Vec<Part>,
) -> Result<TcbStatus, Check> {
    let mut at = |names: [&'static str; 2], svn: &[u8; 16]| {
        let platform = platform_level(names[0], pck, Some(svn), info, parts)?;
        Ok::<_, Check>(platform.merge(module_level(names[1], svn, report, info, parts)?))
    };
    let launch = at(["platform", "tdx-module"], &report.tee_tcb_svn)?;
    match &report.td_1_5 {
        Some(later) if later.tee_tcb_svn_2 != report.tee_tcb_svn => {
            let now = at(["platform-now", "tdx-module-now"], &later.tee_tcb_svn_2)?;
            Ok(TcbStatus::relaunch(launch, now))
        }
        _ => Ok(launch),
    }
}

fn module_level(
    name: &'static str,
    svn: &[u8; 16],
    report: &TdReport,
    info: &TcbInfo<'_>,
    parts: &mut Vec<Part>,
) -> Result<TcbStatus, Check> {
    let (minor, major) = (svn[0], svn[1]);
    let unknown = |text: String| Check::failed(name, Code::TdxModuleMismatch, text);
    if major == 0 {
        let module = info
            .tdx_module
            .as_ref()
            .ok_or_else(|| unknown("Intel names no TDX module of version 0".into()))?;
        module_is(name, &module.mrsigner, &module.attributes, &module.attributes_mask, report)?;
        // A module of version 0 is covered by the platform's first two TDX components.
        return Ok(TcbStatus::UpToDate);
    }
    let id = format!("TDX_{major:02x}");
    let identity = info
        .tdx_module_identities
        .iter()
        .find(|identity| identity.id.eq_ignore_ascii_case(&id))
        .ok_or_else(|| unknown(format!("Intel names no TDX module {id}")))?;
    module_is(name, &identity.mrsigner, &identity.attributes, &identity.attributes_mask, report)?;
    let part =
        svn_part(name, &identity.tcb_levels, minor.into(), &format!("TDX module {id}"), Area::TdxModule);
    settle_part(
        part.ok_or_else(|| {
            Check::failed(name, Code::TcbLevelUnknown, format!("{id} version {minor} is below every level"))
                .mend("update the TDX module on this host")
        }),
        parts,
    )
}

fn settle_part(part: Result<Part, Check>, parts: &mut Vec<Part>) -> Result<TcbStatus, Check> {
    let part = part?;
    let status = part.tcb.status;
    parts.push(part);
    Ok(status)
}

/// A part with one security version.
fn svn_part(name: &'static str, levels: &[SvnLevel<'_>], svn: u16, what: &str, area: Area) -> Option<Part> {
    let reached = svn_level(levels, svn)?;
    Some(part(name, levels, reached, |level| {
        let required = level.tcb.isvsvn;
        vec![Lack { shortfall: Shortfall { component: what.to_owned(), seen: svn, required }, area }]
    }))
}

fn module_is(
    name: &'static str,
    mrsigner: &[u8; 48],
    attributes: &[u8; 8],
    mask: &[u8; 8],
    report: &TdReport,
) -> Result<(), Check> {
    let mismatch = |text, expected: &[u8], observed: &[u8]| {
        Err(Check::failed(name, Code::TdxModuleMismatch, text)
            .expected(hex::encode(expected))
            .observed(hex::encode(observed)))
    };
    if report.mrsignerseam != *mrsigner {
        return mismatch("the TDX module has another signer", mrsigner, &report.mrsignerseam);
    }
    // Intel writes the attributes in the byte order of the report.
    let seen = report.seam_attributes.to_le_bytes();
    if masked(seen, *mask) != *attributes {
        return mismatch("the TDX module has other attributes", attributes, &seen);
    }
    Ok(())
}

fn qe_level(
    report: &EnclaveReport,
    identity: &QeIdentity<'_>,
    parts: &mut Vec<Part>,
) -> Result<TcbStatus, Check> {
    const NAME: &str = "quoting-enclave";
    if let Some(difference) = identity.difference(report) {
        let text = format!("the quoting enclave is not Intel's: {} differs", difference.field);
        return Err(Check::failed(NAME, Code::QeIdentityMismatch, text)
            .expected(difference.expected)
            .observed(difference.observed));
    }
    let part = svn_part(NAME, &identity.tcb_levels, report.isv_svn, "quoting enclave", Area::QuotingEnclave);
    settle_part(
        part.ok_or_else(|| {
            let text = format!("the quoting enclave's version {} is below every level", report.isv_svn);
            Check::failed(NAME, Code::TcbLevelUnknown, text).mend("update the quoting enclave on this host")
        }),
        parts,
    )
}

/// Is the status one that the policy accepts? `Revoked` never is.
fn status_check(
    status: TcbStatus,
    pck: &Pck,
    td: Option<&TdReport>,
    tcb: &Tcb,
    context: &Context<'_>,
) -> Check {
    let family = hex::encode(pck.fmspc);
    let platform = if td.is_some() { Platform::Tdx } else { Platform::Sgx };
    let standing =
        Standing { platform, status, date: tcb.date, advisories: &tcb.advisories, family: &family };
    acceptance::status(&standing, context)
}

/// The check of the status with the parts that it was merged from, and what mends them.
fn with_detail(check: Check, status: TcbStatus, parts: &[Part]) -> Check {
    let details = parts.iter().map(|part| part.check(check.outcome)).chain(check.checks).collect();
    let relaunch =
        matches!(status, TcbStatus::TDRelaunchAdvised | TcbStatus::TDRelaunchAdvisedConfigurationNeeded);
    let current =
        |part: &&Part| !relaunch || part.tcb.name.ends_with("-now") || part.tcb.name == "quoting-enclave";
    let advice =
        relaunch.then(|| "relaunch the TD: what runs now is newer than what it was launched under".into());
    let mends: Vec<String> =
        advice.into_iter().chain(parts.iter().filter(current).filter_map(Part::mend)).collect();
    let check = Check { checks: details, ..check };
    if mends.is_empty() || status == TcbStatus::UpToDate { check } else { check.mend(mends.join("; ")) }
}

/// The policy's own floors.
fn minimum(pck: &Pck, td: Option<&TdReport>, context: &Context<'_>) -> Check {
    const NAME: &str = "minimum";
    let minimum = &context.policy.minimum;
    let tee =
        td.zip(minimum.tdx_tee_tcb_svn).map(|(report, floor)| ("TEE_TCB_SVN", report.tee_tcb_svn, floor));
    let cpu = minimum.intel_cpu_svn.map(|floor| ("CPUSVN components", pck.components, floor));
    if tee.is_none() && cpu.is_none() && minimum.intel_pce_svn.is_none() {
        return Check::skipped(NAME, "the policy names no minimum TCB beside Intel's status");
    }
    let below = |text: String, expected: String, observed: String| {
        Check::failed(NAME, Code::TcbBelowMinimum, text)
            .expected(expected)
            .observed(observed)
            .mend("update the host, or lower the minimum in the policy")
    };
    for (name, seen, floor) in tee.into_iter().chain(cpu) {
        if let Some(index) = (0..16).find(|&index| seen[index] < floor[index]) {
            let text = format!("{name}: component {} is {}, below {}", index + 1, seen[index], floor[index]);
            return below(text, hex::encode(floor), hex::encode(seen));
        }
    }
    match minimum.intel_pce_svn {
        Some(floor) if pck.pce_svn < floor => below(
            format!("PCESVN {} is below {floor}", pck.pce_svn),
            floor.to_string(),
            pck.pce_svn.to_string(),
        ),
        _ => Check::passed(NAME, "at or above the policy's minimum"),
    }
}
