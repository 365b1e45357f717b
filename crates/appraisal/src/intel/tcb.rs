//! The status of a platform's TCB: the level that the CPU reaches, that of the TDX module, and that of the
//! quoting enclave, merged as Intel's Quote Verification Library merges them.

use evidence::sgx::EnclaveReport;
use evidence::tdx::TdReport;

use super::pck::Pck;
use super::qe_identity::{QeIdentity, masked};
use super::tcb_info::{SvnLevel, TcbInfo, TcbLevel, svn_level};
use crate::acceptance;
use crate::findings::Context;
use crate::policy::Standing;
use crate::verdict::{Check, Tcb};
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
    let mut tcb = Tcb { version: Some(version(pck, td)), ..Tcb::default() };
    let platform = match td {
        None => platform_level(pck, None, info, &mut tcb),
        Some(report) => td_level(pck, report, info, &mut tcb),
    };
    let mut checks = Vec::new();
    let platform = settle(platform, &mut checks);
    let qe = settle(qe_level(qe, identity, &mut tcb), &mut checks);
    if let (Some(platform), Some(qe)) = (platform, qe) {
        tcb.status = Some(platform.merge(qe));
    } else {
        // The platform's own status is worth showing although another part was refused.
        tcb.status = platform;
    }
    tcb.advisories.sort();
    tcb.advisories.dedup();
    if let (Some(status), 0) = (tcb.status, checks.len()) {
        checks.push(status_check(status, pck, td, info, &tcb, context));
    }
    checks.extend(acceptance::advisories(&tcb.advisories, context));
    checks.extend(acceptance::tcb_date(tcb.date, context));
    checks.push(minimum(pck, td, context));
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

/// The first level that the platform reaches: Intel lists them from new to old.
fn find_level<'l, 'a>(
    pck: &Pck,
    tee_tcb_svn: Option<&[u8; 16]>,
    info: &'l TcbInfo<'a>,
) -> Option<&'l TcbLevel<'a>> {
    info.tcb_levels.iter().find(|level| {
        let tdx = match (tee_tcb_svn, &level.tcb.tdx) {
            (None, _) => true,
            (Some(svn), Some(components)) => {
                // A module with a major version has levels of its own, see `module_level`.
                let skip = if svn[1] > 0 { 2 } else { 0 };
                svn.iter().zip(components).skip(skip).all(|(seen, component)| *seen >= component.svn)
            }
            (Some(_), None) => false,
        };
        tdx && pck.pce_svn >= level.tcb.pce_svn
            && pck.components.iter().zip(&level.tcb.sgx).all(|(seen, component)| *seen >= component.svn)
    })
}

fn platform_level(
    pck: &Pck,
    tee_tcb_svn: Option<&[u8; 16]>,
    info: &TcbInfo<'_>,
    tcb: &mut Tcb,
) -> Result<TcbStatus, Check> {
    let level = find_level(pck, tee_tcb_svn, info).ok_or_else(|| {
        Check::failed("platform", Code::TcbLevelUnknown, NO_LEVEL)
            .observed(tcb.version.clone().unwrap_or_default())
            .mend("update the platform's BIOS and microcode, then renew its PCK certificate")
    })?;
    tcb.advisories.extend(level.advisories.iter().map(ToString::to_string));
    tcb.date = Some(tcb.date.map_or(level.tcb_date, |date| date.min(level.tcb_date)));
    Ok(level.tcb_status)
}

/// A TD of TDX 1.5 tells the versions of its launch and those of now; both count.
fn td_level(pck: &Pck, report: &TdReport, info: &TcbInfo<'_>, tcb: &mut Tcb) -> Result<TcbStatus, Check> {
    let mut at = |svn: &[u8; 16]| {
        let platform = platform_level(pck, Some(svn), info, tcb)?;
        Ok::<_, Check>(platform.merge(module_level(svn, report, info, tcb)?))
    };
    let launch = at(&report.tee_tcb_svn)?;
    match &report.td_1_5 {
        Some(later) if later.tee_tcb_svn_2 != report.tee_tcb_svn => {
            Ok(TcbStatus::relaunch(launch, at(&later.tee_tcb_svn_2)?))
        }
        _ => Ok(launch),
    }
}

fn module_level(
    svn: &[u8; 16],
    report: &TdReport,
    info: &TcbInfo<'_>,
    tcb: &mut Tcb,
) -> Result<TcbStatus, Check> {
    const NAME: &str = "tdx-module";
    let (minor, major) = (svn[0], svn[1]);
    let unknown = |text: String| Check::failed(NAME, Code::TdxModuleMismatch, text);
    if major == 0 {
        let module = info
            .tdx_module
            .as_ref()
            .ok_or_else(|| unknown("Intel names no TDX module of version 0".into()))?;
        module_is(&module.mrsigner, &module.attributes, &module.attributes_mask, report)?;
        // A module of version 0 is covered by the platform's first two TDX components.
        return Ok(TcbStatus::UpToDate);
    }
    let id = format!("TDX_{major:02x}");
    let identity = info
        .tdx_module_identities
        .iter()
        .find(|identity| identity.id.eq_ignore_ascii_case(&id))
        .ok_or_else(|| unknown(format!("Intel names no TDX module {id}")))?;
    module_is(&identity.mrsigner, &identity.attributes, &identity.attributes_mask, report)?;
    let level = svn_level(&identity.tcb_levels, u16::from(minor)).ok_or_else(|| {
        Check::failed(NAME, Code::TcbLevelUnknown, format!("{id} version {minor} is below every level"))
            .mend("update the TDX module on this host")
    })?;
    note(level, tcb);
    Ok(level.tcb_status)
}

fn module_is(
    mrsigner: &[u8; 48],
    attributes: &[u8; 8],
    mask: &[u8; 8],
    report: &TdReport,
) -> Result<(), Check> {
    let mismatch = |text, expected: &[u8], observed: &[u8]| {
        Err(Check::failed("tdx-module", Code::TdxModuleMismatch, text)
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

fn qe_level(report: &EnclaveReport, identity: &QeIdentity<'_>, tcb: &mut Tcb) -> Result<TcbStatus, Check> {
    const NAME: &str = "quoting-enclave";
    if let Some(difference) = identity.difference(report) {
        let text = format!("the quoting enclave is not Intel's: {} differs", difference.field);
        return Err(Check::failed(NAME, Code::QeIdentityMismatch, text)
            .expected(difference.expected)
            .observed(difference.observed));
    }
    let level = svn_level(&identity.tcb_levels, report.isv_svn).ok_or_else(|| {
        let text = format!("the quoting enclave's version {} is below every level", report.isv_svn);
        Check::failed(NAME, Code::TcbLevelUnknown, text).mend("update the quoting enclave on this host")
    })?;
    note(level, tcb);
    Ok(level.tcb_status)
}

fn note(level: &SvnLevel<'_>, tcb: &mut Tcb) {
    tcb.advisories.extend(level.advisories.iter().map(ToString::to_string));
    tcb.date = Some(tcb.date.map_or(level.tcb_date, |date| date.min(level.tcb_date)));
}

/// Is the status one that the policy accepts? `Revoked` never is.
fn status_check(
    status: TcbStatus,
    pck: &Pck,
    td: Option<&TdReport>,
    info: &TcbInfo<'_>,
    tcb: &Tcb,
    context: &Context<'_>,
) -> Check {
    let family = hex::encode(pck.fmspc);
    let standing = Standing { status, date: tcb.date, advisories: &tcb.advisories, family: &family };
    let check = acceptance::status(&standing, context);
    if status == TcbStatus::UpToDate {
        return check;
    }
    match shortfalls(pck, td, info).as_slice() {
        [] => check.mend("see the advisories: BIOS settings, software, quoting enclave or TDX module"),
        short => check.mend(format!("update the host; UpToDate needs {}", short.join(", "))),
    }
}

/// What is missing to the newest level that Intel calls up to date.
fn shortfalls(pck: &Pck, td: Option<&TdReport>, info: &TcbInfo<'_>) -> Vec<String> {
    let Some(level) = info.tcb_levels.iter().find(|level| level.tcb_status == TcbStatus::UpToDate) else {
        return Vec::new();
    };
    let mut short: Vec<_> = pck
        .components
        .iter()
        .zip(&level.tcb.sgx)
        .enumerate()
        .filter(|(_, (seen, component))| **seen < component.svn)
        .map(|(index, (seen, component))| {
            format!("{} at {} (seen {seen})", component.name("CPU", index), component.svn)
        })
        .collect();
    if pck.pce_svn < level.tcb.pce_svn {
        short.push(format!("PCE at {} (seen {})", level.tcb.pce_svn, pck.pce_svn));
    }
    if let (Some(report), Some(components)) = (td, &level.tcb.tdx) {
        let skip = if report.tee_tcb_svn[1] > 0 { 2 } else { 0 };
        let pairs = report.tee_tcb_svn.iter().zip(components).enumerate().skip(skip);
        short.extend(pairs.filter(|(_, (seen, component))| **seen < component.svn).map(
            |(index, (seen, component))| {
                format!("{} at {} (seen {seen})", component.name("TDX", index), component.svn)
            },
        ));
    }
    short
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
