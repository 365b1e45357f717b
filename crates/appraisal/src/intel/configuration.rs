//! What an enclave or a TD allows its host: debugging, migration, remapping of memory, performance counters
//! (S-36, S-51).

use evidence::sgx::EnclaveReport;
use evidence::tdx::{
    ATTRIBUTE_MIGRATABLE, ATTRIBUTE_PERFMON, ATTRIBUTE_SEPT_VE_DISABLE, ATTRIBUTES_UNDER_DEBUG, TdReport,
};

use crate::admission;
use crate::findings::{Context, by_rule};
use crate::verdict::Check;
use crate::{Code, Policy};

/// TDX module base specification, table "TD ATTRIBUTES": bits 0 to 7 (under debug), LASS, SEPT_VE_DISABLE,
/// MIGRATABLE, PKS, KL, TPA, PERFMON.
const KNOWN_TD_ATTRIBUTES: u64 =
    ATTRIBUTES_UNDER_DEBUG | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 31 | 1 << 62 | 1 << 63;

pub(super) fn enclave(report: &EnclaveReport, context: &Context<'_>) -> Check {
    let debug = if report.is_debug() {
        by_rule(context.policy.debug, "debug", Code::DebugEnabled, "the host may read and change the enclave")
            .expected("attribute DEBUG clear")
            .observed(format!("{:#x}", report.attributes))
            .mend("build and sign the enclave for production")
    } else {
        Check::passed("debug", "not debug")
    };
    let text = format!("attributes {:#x}, XFRM {:#x}", report.attributes, report.xfrm);
    let wanted = &context.policy.attributes;
    let mut checks = vec![debug];
    checks.extend(admission::bits("attributes", "ATTRIBUTES", report.attributes, wanted.sgx_attributes));
    checks.extend(admission::bits("xfrm", "XFRM", report.xfrm, wanted.sgx_xfrm));
    Check::group("configuration", text, checks)
}

pub(super) fn td(report: &TdReport, context: &Context<'_>) -> Check {
    let policy = context.policy;
    let mut checks = vec![
        debug(report, policy),
        sept_ve(report, policy),
        migration(report, policy),
        service_td(report, policy),
        perfmon(report, policy),
        unknown(report, policy),
    ];
    let wanted = &policy.attributes;
    checks.extend(admission::bits(
        "attributes",
        "TD attributes",
        report.td_attributes,
        wanted.tdx_attributes,
    ));
    checks.extend(admission::bits("xfam", "XFAM", report.xfam, wanted.tdx_xfam));
    let text = format!("TD attributes {:#x}, XFAM {:#x}", report.td_attributes, report.xfam);
    Check::group("configuration", text, checks)
}

fn attributes(report: &TdReport) -> String {
    format!("{:#x}", report.td_attributes)
}

fn debug(report: &TdReport, policy: &Policy) -> Check {
    const NAME: &str = "debug";
    if report.is_debug() {
        return by_rule(policy.debug, NAME, Code::DebugEnabled, "the host may read and change the TD")
            .expected("TD attributes 0 to 7 clear")
            .observed(attributes(report))
            .mend("launch the TD without debug attributes");
    }
    Check::passed(NAME, "not debug")
}

fn sept_ve(report: &TdReport, policy: &Policy) -> Check {
    const NAME: &str = "sept-ve-disable";
    if report.td_attributes & ATTRIBUTE_SEPT_VE_DISABLE == 0 {
        let text = "the host may remap the TD's memory unseen (SEPT_VE_DISABLE is off)";
        return by_rule(policy.sept_ve, NAME, Code::SeptVeEnabled, text)
            .expected("TD attribute 28 set")
            .observed(attributes(report))
            .mend("launch the TD with SEPT_VE_DISABLE");
    }
    Check::passed(NAME, "the host cannot remap memory unseen")
}

fn migration(report: &TdReport, policy: &Policy) -> Check {
    const NAME: &str = "migration";
    if report.td_attributes & ATTRIBUTE_MIGRATABLE != 0 {
        let text = "the TD may be moved to another machine";
        return by_rule(policy.migration, NAME, Code::MigrationAllowed, text)
            .expected("TD attribute 29 (MIGRATABLE) clear")
            .observed(attributes(report))
            .mend("launch the TD without MIGRATABLE");
    }
    Check::passed(NAME, "no migration")
}

fn service_td(report: &TdReport, policy: &Policy) -> Check {
    const NAME: &str = "service-td";
    match &report.td_1_5 {
        None => Check::skipped(NAME, "a TD report of TDX 1.0 does not tell service TDs"),
        Some(later) if later.mrservicetd != [0; 48] => {
            by_rule(policy.service_td, NAME, Code::ServiceTdBound, "another TD has rights over this one")
                .expected("MRSERVICETD of zeros")
                .observed(hex::encode(later.mrservicetd))
                .mend("launch the TD without a service TD")
        }
        Some(_) => Check::passed(NAME, "no service TD"),
    }
}

fn perfmon(report: &TdReport, policy: &Policy) -> Check {
    const NAME: &str = "perfmon";
    if report.td_attributes & ATTRIBUTE_PERFMON != 0 {
        let text = "the TD exposes performance counters, which tell what it does";
        return by_rule(policy.perfmon, NAME, Code::PerfmonEnabled, text)
            .expected("TD attribute 63 (PERFMON) clear")
            .observed(attributes(report))
            .mend("launch the TD without PERFMON");
    }
    Check::passed(NAME, "no performance counters")
}

fn unknown(report: &TdReport, policy: &Policy) -> Check {
    const NAME: &str = "known-attributes";
    let unknown = report.td_attributes & !KNOWN_TD_ATTRIBUTES;
    if unknown != 0 {
        let text = format!("TD attributes {unknown:#x} are not known to this version");
        return by_rule(policy.unknown_attributes, NAME, Code::AttributesUnknown, text);
    }
    Check::passed(NAME, "no unknown TD attributes")
}
