//! Confidential VMs of Azure: TPM quote ← key of the virtual TPM ← SNP report or TD quote ← its vendor. The hardware
//! vouches for the paravisor, which runs beside the guest and more privileged; the paravisor for the virtual TPM; and
//! that for the guest.

mod policy;

use evidence::azure::{Attestation, Hardware, HclReport, RuntimeDigest, VmConfiguration};
use evidence::snp::ReportBody;
use evidence::tpm::Quote;
use evidence::{AmdCollateral, Endorsements, Measurement, tdx};
use serde::Serialize;

use crate::findings::{Context, Findings, by_rule};
use crate::verdict::Check;
use crate::{Code, amd, intel, tpm};
pub use policy::AzurePolicy;

/// What such Evidence claims, as far as it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AzureClaims {
    /// Version of the HCL report: 1 or 2.
    pub hcl_version: u32,
    /// SHA-256 of the SubjectPublicKeyInfo of the virtual TPM's attestation key, hexadecimal.
    pub attestation_key: String,
    /// How the paravisor says that the VM is configured.
    pub vm: VmConfiguration,
    /// What the guest wrote for the report, hexadecimal. Nothing says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
}

pub(crate) fn appraise(
    evidence: &Attestation,
    endorsements: &Endorsements,
    context: &Context<'_>,
) -> Findings {
    let refused = |checks| {
        Findings::not_genuine(Check::group("genuine", "not shown to come from a VM of Azure", checks))
    };
    let Some(quote) = evidence.quote() else {
        let text = "an HCL report alone covers nothing that its asker chose: it may be a copy";
        let check = Check::failed("quote", Code::QuoteMissing, text);
        return refused(vec![check.mend("send the quote of the virtual TPM with it")]);
    };
    let Some(mut findings) = hardware(evidence, endorsements, context) else {
        return refused(vec![Check::failed("hardware", Code::QuoteMissing, "there is no TDX quote")]);
    };
    // Every part begins with whether it is genuine.
    let mut hardware = findings.checks.remove(0);
    hardware.name = "hardware";
    if hardware.is_failed() {
        return refused(vec![hardware]);
    }
    let hcl = evidence.hcl();
    let key = &hcl.claims().attestation_key;
    let way = hardware.text.clone();
    let mut checks = vec![hardware];
    checks.push(match (hcl.hardware(), evidence.td_quote()) {
        (Hardware::Tdx(report), Some(quote)) => same_td(report.body(), quote.report()),
        (Hardware::Snp(report), _) => privilege(report.body()),
        (Hardware::Tdx(_), None) => Check::failed("hardware", Code::QuoteMissing, "there is no TDX quote"),
    });
    checks.push(key_binding(hcl, evidence.td_quote(), context));
    checks.push(tpm::check_quote(quote, key, context));
    if checks.iter().any(Check::is_failed) {
        return refused(checks);
    }
    let text = format!("TPM quote ← key of the virtual TPM ← {way}");
    findings.checks.insert(0, Check::group("genuine", text, checks));
    configuration(evidence, quote, &mut findings, context);
    findings.claims.azure = Some(AzureClaims {
        hcl_version: hcl.version(),
        attestation_key: hex::encode(context.crypto.sha256(&[&key.spki()])),
        vm: hcl.claims().configuration.clone(),
        user_data: hcl.claims().user_data.clone(),
    });
    if let Some((check, boot)) = tpm::check_event_log(evidence.event_log(), &[quote], context) {
        findings.checks.push(check);
        findings.claims.boot = boot;
    }
    findings
}

/// The hardware's part as it is appraised without Azure; None for a TD report without a quote.
fn hardware(evidence: &Attestation, endorsements: &Endorsements, context: &Context<'_>) -> Option<Findings> {
    Some(match evidence.hcl().hardware() {
        Hardware::Snp(report) => {
            let own = collateral(evidence);
            amd::appraise(report, endorsements.amd.as_ref().or(own.as_ref()), context)
        }
        Hardware::Tdx(_) => {
            intel::appraise(intel::Quote::Tdx(evidence.td_quote()?), endorsements.intel.as_ref(), context)
        }
    })
}

/// The certificates that came with the Evidence, for Endorsements that have none.
fn collateral(evidence: &Attestation) -> Option<AmdCollateral> {
    let (vek, issuers) = evidence.certificates().split_first()?;
    Some(AmdCollateral { vek: vek.clone(), issuer_chain: issuers.to_vec(), crl: None })
}

/// The paravisor runs at VMPL 0, and the guest below: a guest's own report could cover any runtime data.
fn privilege(body: &ReportBody) -> Check {
    const NAME: &str = "vmpl";
    match body.vmpl {
        0 => Check::passed(NAME, "the paravisor asked for the report (VMPL 0)"),
        other => Check::failed(NAME, Code::VmplMismatch, "the guest asked for the report, not the paravisor")
            .expected("VMPL 0")
            .observed(format!("VMPL {other}"))
            .mend("send the report that the paravisor keeps in the virtual TPM (index 0x01400001)"),
    }
}

/// The TD report is good on its machine only; the quote is to be the very same report, vouched for.
fn same_td(report: &tdx::TdReport, quote: &tdx::TdReport) -> Check {
    const NAME: &str = "td-report";
    // What TDX 1.5 adds is in the quote only where that is of the newer form.
    let td_1_5 = quote.td_1_5.as_ref().and(report.td_1_5.clone());
    let same = tdx::TdReport { td_1_5, ..report.clone() };
    if same == *quote {
        return Check::passed(NAME, "the TDX quote is of the TD report in the HCL report");
    }
    Check::failed(NAME, Code::TdReportMismatch, "the TDX quote is of another TD, or of another moment")
        .expected(hex::encode(report.mrtd))
        .observed(hex::encode(quote.mrtd))
        .mend("send the quote that Azure made of this very report")
}

/// The hardware's report covers the runtime data by its digest; zeros fill what the digest leaves.
fn key_binding(hcl: &HclReport, td_quote: Option<&tdx::Quote>, context: &Context<'_>) -> Check {
    const NAME: &str = "key-binding";
    let covered = match (hcl.hardware(), td_quote) {
        (Hardware::Snp(report), _) => report.body().report_data,
        (Hardware::Tdx(_), Some(quote)) => quote.report().report_data,
        (Hardware::Tdx(report), None) => report.body().report_data,
    };
    let data = [hcl.runtime_data()];
    let mut expected = match hcl.digest() {
        RuntimeDigest::Sha256 => context.crypto.sha256(&data).to_vec(),
        RuntimeDigest::Sha384 => context.crypto.sha384(&data).to_vec(),
        RuntimeDigest::Sha512 => context.crypto.sha512(&data).to_vec(),
    };
    expected.resize(covered.len(), 0);
    if expected == covered {
        return Check::passed(NAME, "the hardware's report covers the key of the virtual TPM");
    }
    let text = "the hardware's report does not cover the runtime data with the key of the virtual TPM";
    Check::failed(NAME, Code::AzureAkNotBound, text)
        .expected(hex::encode(expected))
        .observed(hex::encode(covered))
        .mend("send the HCL report as the virtual TPM has it")
}

/// Adds to the hardware's configuration what is Azure's own.
fn configuration(evidence: &Attestation, quote: &Quote, findings: &mut Findings, context: &Context<'_>) {
    let own = [paravisor(evidence, context)].into_iter().chain(tpm::coverage(&[quote], context));
    let Some(place) = findings.checks.iter_mut().find(|check| check.name == "configuration") else { return };
    let checks = place.checks.drain(..).chain(own).collect();
    *place = Check::group("configuration", place.text.clone(), checks);
}

fn paravisor(evidence: &Attestation, context: &Context<'_>) -> Check {
    const NAME: &str = "paravisor";
    let policy = &context.policy.azure;
    let (named, seen): (Vec<Measurement>, _) = match evidence.hcl().hardware() {
        Hardware::Snp(report) => {
            let body = report.body();
            let seen = format!(
                "measurement {}, ID key {}",
                hex::encode(body.measurement),
                hex::encode(body.id_key_digest)
            );
            (vec![body.measurement.into(), body.id_key_digest.into()], seen)
        }
        Hardware::Tdx(report) => {
            (vec![report.body().mrtd.into()], format!("MRTD {}", hex::encode(report.body().mrtd)))
        }
    };
    if named.iter().any(|digest| policy.paravisors.contains(digest)) {
        return Check::passed(NAME, "the paravisor is one that the policy names");
    }
    let text = "the paravisor is none that the policy names: it could make a virtual TPM with any registers";
    by_rule(policy.unknown_paravisor, NAME, Code::AzureParavisorUnknown, text)
        .observed(seen)
        .mend("if this is the paravisor of a machine of yours, name its measurement under azure.paravisors")
}
