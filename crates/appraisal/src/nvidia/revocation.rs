//! Whether certificates of NVIDIA's are revoked, as far as that was told. The certificate that a device makes for its
//! own firmware is nobody's to revoke; those that NVIDIA issued are.

use evidence::NvidiaCollateral;

use super::ocsp::{self, Answer};
use super::path::{Link, Path};
use crate::findings::{Context, by_rule};
use crate::revocation::{self, Issuer};
use crate::verdict::Check;
use crate::{Code, Rule};

/// Looks at every certificate that NVIDIA issued, of devices and of manifests.
pub(super) fn appraise(
    devices: &[&Path<'_, '_>],
    manifests: &[&Path<'_, '_>],
    collateral: Option<&NvidiaCollateral>,
    context: &Context<'_>,
) -> Check {
    const NAME: &str = "revocation";
    let mut checks: Vec<Check> = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    let rule = context.policy.nvidia.missing_revocation;
    let mut looked_at: Vec<(&[u8], &[u8])> = Vec::new();
    let issued = devices.iter().flat_map(|path| path.links().skip(1));
    for link in issued.chain(manifests.iter().flat_map(|path| path.links())) {
        let key = (link.issuer, link.subject.serial());
        if looked_at.contains(&key) {
            continue;
        }
        match status(&link, collateral, context) {
            Status::Told(check) => checks.push(check),
            Status::Untold(reasons) => {
                checks.extend(reasons.into_iter().map(|check| by_age(check, rule)));
                unknown.push(link.subject.subject_name());
            }
        }
        looked_at.push((link.issuer, link.subject.serial()));
    }
    if !unknown.is_empty() {
        let text = format!(
            "nothing current tells whether these are revoked: {}. NVIDIA tells it of devices by OCSP alone, also \
             when it puts one on hold",
            unknown.join(", ")
        );
        checks.push(by_rule(rule, "unknown", Code::RevocationUnknown, text).mend(
            "give NVIDIA's revocation lists and OCSP responses with the Endorsements, or ask NVIDIA's attestation \
             service, too",
        ));
    }
    let group = Check::group(NAME, "revocation of NVIDIA's certificates", checks);
    match group.outcome {
        // The rule allows it, and nothing else was found.
        crate::Outcome::Skipped => Check { outcome: crate::Outcome::Passed, ..group },
        _ => group,
    }
}

/// What is not of this time is as good as not there, so the policy decides; what is forged fails.
fn by_age(check: Check, rule: Rule) -> Check {
    match check.code {
        Some(code @ (Code::CrlExpired | Code::CrlNotYetValid | Code::OcspExpired)) => Check {
            expected: check.expected,
            observed: check.observed,
            mend: check.mend,
            ..by_rule(rule, check.name, code, check.text)
        },
        _ => check,
    }
}

enum Status {
    /// Good, or revoked.
    Told(Check),
    /// Not told, with what is wrong with what was given.
    Untold(Vec<Check>),
}

/// Revocation for good is proven by any answer; everything else by the newest that is current.
fn by_ocsp(link: &Link<'_, '_>, collateral: Option<&NvidiaCollateral>, context: &Context<'_>) -> Status {
    const NAME: &str = "ocsp";
    let name = link.subject.subject_name();
    let mut stale = Vec::new();
    let mut newest: Option<ocsp::Verified> = None;
    for der in collateral.iter().flat_map(|collateral| &collateral.ocsp) {
        match ocsp::verify(der, link, context) {
            Ok(None) => {}
            Err(check) => stale.push(check),
            Ok(Some(answer)) if answer.answer == Answer::Revoked => {
                return Status::Told(revoked(&name, "has been revoked"));
            }
            Ok(Some(answer)) if !answer.is_current(context.now) => {
                let text = format!("{name}: the answer is not of this time");
                let check = Check::failed(NAME, Code::OcspExpired, text)
                    .expected(format!("{} to {}", answer.this_update, answer.next_update))
                    .observed(context.now.to_string());
                stale.push(check);
            }
            Ok(Some(answer)) => {
                newest = newest.filter(|known| known.this_update >= answer.this_update).or(Some(answer));
            }
        }
    }
    match newest.map(|newest| (newest.answer, newest.next_update)) {
        Some((Answer::Good, end)) => {
            Status::Told(Check::passed(NAME, format!("{name}: good, says its issuer, until {end}")))
        }
        Some((Answer::OnHold, _)) => Status::Told(revoked(&name, "has been put on hold")),
        _ => Status::Untold(stale),
    }
}

fn revoked(name: &str, what: &str) -> Check {
    Check::failed("ocsp", Code::CertificateRevoked, format!("{name} {what} by its issuer"))
        .mend("do not use this device; ask NVIDIA why")
}

fn status(link: &Link<'_, '_>, collateral: Option<&NvidiaCollateral>, context: &Context<'_>) -> Status {
    let name = link.subject.subject_name();
    let issuer = Issuer { name: link.issuer_name.clone(), subject: link.issuer, key: link.issuer_key };
    let mut stale = Vec::new();
    let mut good: Option<Check> = None;
    for der in collateral.iter().flat_map(|collateral| &collateral.crls) {
        let crl = match revocation::verify("crl", der, &issuer, &[link.subject], context) {
            Ok(crl) => crl,
            // Of another issuer: it is looked at for that one.
            Err(check) if check.code == Some(Code::CrlIssuerMismatch) => continue,
            Err(check) => {
                stale.push(check);
                continue;
            }
        };
        if let Some(revoked) = crl.revocation("crl") {
            return Status::Told(revoked);
        }
        match crl.currency("crl", context) {
            Ok(warning) => {
                let text =
                    || format!("{name}: not on the list of {}, until {}", issuer.name, crl.next_update);
                good = Some(warning.unwrap_or_else(|| Check::passed("crl", text())));
            }
            Err(check) => stale.push(check),
        }
    }
    match by_ocsp(link, collateral, context) {
        Status::Told(check) if check.is_failed() || good.is_none() => return Status::Told(check),
        Status::Told(_) => {}
        Status::Untold(reasons) => stale.extend(reasons),
    }
    match good {
        Some(check) => Status::Told(check),
        None => Status::Untold(stale),
    }
}
