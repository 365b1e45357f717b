//! What an enclave or a TD allows its host: debugging, migration, remapping of memory, performance counters
//! (S-36, S-51).

use evidence::sgx::EnclaveReport;
use evidence::tdx::{
    ATTRIBUTE_MIGRATABLE, ATTRIBUTE_PERFMON, ATTRIBUTE_SEPT_VE_DISABLE, ATTRIBUTE_SERVTD_EXT, TdReport,
};

use super::claims::{EnclaveAttributes, TdAttributes};
use crate::admission;
use crate::findings::{Context, by_rule};
use crate::verdict::Check;
use crate::{Code, Policy};

/// x87 and SSE state, which every TD and enclave has (XFAM and XFRM bits 0 and 1).
const STATE_FIXED: u64 = 0b11;
/// State that TDX modules let a TD use (TDX module base specification, "XFAM"): x87, SSE, AVX, AVX-512 (5 to 7),
/// PT, PKRU, CET (11, 12), UINTR, LBR, AMX (17, 18), APX.
const STATE_KNOWN: u64 = 0b111 | 0b111 << 5 | 1 << 8 | 1 << 9 | 0b11 << 11 | 1 << 14 | 1 << 15 | 0b111 << 17;

pub(super) fn enclave(report: &EnclaveReport, context: &Context<'_>) -> Check {
    let policy = context.policy;
    let debug = if report.is_debug() {
        by_rule(policy.debug, "debug", Code::DebugEnabled, "the host may read and change the enclave")
            .expected("attribute DEBUG clear")
            .observed(format!("{:#x}", report.attributes))
            .mend("build and sign the enclave for production")
    } else {
        Check::passed("debug", "not debug")
    };
    let unknown = EnclaveAttributes::new(report.attributes).unknown;
    let known = if unknown == 0 {
        Check::passed("known-attributes", "no unknown attributes")
    } else {
        let text = format!("attributes {unknown:#x} are not known to this version");
        by_rule(policy.unknown_attributes, "known-attributes", Code::AttributesUnknown, text)
    };
    let text = format!("attributes {:#x}, XFRM {:#x}", report.attributes, report.xfrm);
    let wanted = &policy.attributes;
    let mut checks = vec![debug, known];
    checks.extend(admission::bits("attributes", "ATTRIBUTES", report.attributes, wanted.sgx_attributes));
    checks.extend(admission::bits("xfrm", "XFRM", report.xfrm, wanted.sgx_xfrm));
    let misc = u64::from(report.misc_select);
    checks.extend(admission::bits("misc-select", "MISCSELECT", misc, wanted.sgx_misc_select));
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
        xfam(report, policy),
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
        let text = match TdAttributes::new(report.td_attributes) {
            TdAttributes { debug: true, .. } => "the host may read and change the TD",
            TdAttributes { profiling: true, .. } => "the host may profile the TD, which tells what it does",
            _ => "an attribute of the group \"TD under debug\" is set: the TD is not to be trusted",
        };
        return by_rule(policy.debug, NAME, Code::DebugEnabled, text)
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
    let refused = |text, observed: String| {
        by_rule(policy.service_td, NAME, Code::ServiceTdBound, text)
            .expected("no service TD, and attribute 17 (SERVTD_EXT) clear")
            .observed(observed)
            .mend("launch the TD without a service TD")
    };
    let bound = "another TD has rights over this one";
    if report.td_attributes & ATTRIBUTE_SERVTD_EXT != 0 {
        let text = "service TDs may be bound to this one after its launch (SERVTD_EXT)";
        return refused(text, attributes(report));
    }
    if let Some(extended) = &report.extended {
        let digests = [extended.current_service_td, extended.initial_service_td];
        if let Some(digest) = digests.iter().find(|digest| **digest != [0; 48]) {
            return refused(bound, hex::encode(digest));
        }
    }
    match &report.td_1_5 {
        None => Check::skipped(NAME, "a TD report of TDX 1.0 does not tell service TDs"),
        Some(later) if later.mrservicetd != [0; 48] => refused(bound, hex::encode(later.mrservicetd)),
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
    let unknown = TdAttributes::new(report.td_attributes).unknown;
    if unknown != 0 {
        let text = format!("TD attributes {unknown:#x} are not known to this version");
        return by_rule(policy.unknown_attributes, NAME, Code::AttributesUnknown, text);
    }
    Check::passed(NAME, "no unknown TD attributes")
}

/// The TDX module lets no TD be launched otherwise: another value is of a module that this version does not know.
fn xfam(report: &TdReport, policy: &Policy) -> Check {
    const NAME: &str = "xfam";
    let (unknown, missing) = (report.xfam & !STATE_KNOWN, STATE_FIXED & !report.xfam);
    if unknown != 0 || missing != 0 {
        let text = format!("CPU state {unknown:#x} is not known to this version, or {missing:#x} is missing");
        return by_rule(policy.unknown_attributes, NAME, Code::AttributesUnknown, text)
            .expected(format!("bits {STATE_FIXED:#x} set, and none beyond {STATE_KNOWN:#x}"))
            .observed(format!("{:#x}", report.xfam));
    }
    Check::passed(NAME, "no unknown CPU state")
}
