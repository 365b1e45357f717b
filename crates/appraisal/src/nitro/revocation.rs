//! Revocation of the CAs and the leaf of a chain. AWS's root, regional and zonal CAs publish lists; the CA of an
//! instance (one day) and the leaf (three hours) have none.

use evidence::{AwsCollateral, CrlDer};
use x509_parser::asn1_rs::{Oid, oid};

use super::chain::Path;
use crate::findings::{Context, by_rule};
use crate::revocation::{self, Issuer};
use crate::verdict::Check;
use crate::x509::{ParsedCertificate, ParsedCrl};
use crate::{Code, Rule};

const CRL_DISTRIBUTION_POINTS: Oid<'static> = oid!(2.5.29.31);

/// Each list that was given and is of an issuer of the path is verified, and revokes; each certificate that names a
/// list must have a current one, or the policy says what then.
pub(super) fn check(path: &Path<'_>, collateral: Option<&AwsCollateral>, context: &Context<'_>) -> Check {
    const NAME: &str = "revocation";
    let lists = collateral.map_or(&[][..], |aws| &aws.crls);
    let subjects: Vec<_> = path.certificates.iter().collect();
    let mut checks = Vec::new();
    let mut missing = Vec::new();
    for (index, subject) in path.certificates.iter().enumerate() {
        let issuer = match path.certificates.get(index + 1) {
            Some(ca) => Issuer { name: ca.subject_name(), subject: ca.subject(), key: ca.key() },
            None => {
                let anchor = path.anchor;
                Issuer { name: anchor.name.clone(), subject: &anchor.subject, key: &anchor.key }
            }
        };
        let (found, is_current) = of_issuer(lists, &issuer, &subjects, context);
        checks.extend(found);
        if !is_current && subject.extension(&CRL_DISTRIBUTION_POINTS).is_some() {
            missing.push(subject.subject_name());
        }
    }
    checks.extend(lists.iter().filter_map(|list| foreign(list, path)));
    if !missing.is_empty() {
        checks.push(absent(&missing, context));
    }
    if checks.is_empty() {
        let text = "no certificate of the chain names a revocation list: they expire within hours";
        checks.push(Check::passed("aws-crl", text));
    }
    let text = match checks.iter().map(|check| check.outcome).max() {
        Some(crate::Outcome::Failed) => "not shown to be unrevoked",
        Some(crate::Outcome::Warned) => {
            "not checked in full: AWS's chains are short-lived, and validated without lists"
        }
        _ => "no certificate of the chain is revoked",
    };
    Check::group(NAME, text, checks)
}

/// What the lists of one issuer say, and whether one of them is the current one.
fn of_issuer(
    lists: &[CrlDer],
    issuer: &Issuer<'_>,
    subjects: &[&ParsedCertificate<'_>],
    context: &Context<'_>,
) -> (Vec<Check>, bool) {
    const NAME: &str = "aws-crl";
    let mut is_current = false;
    let mut checks = Vec::new();
    for list in lists {
        if ParsedCrl::parse(list).is_ok_and(|crl| crl.issuer() != issuer.subject) {
            continue;
        }
        let verified = match revocation::verify(NAME, list, issuer, subjects, context) {
            Ok(verified) => verified,
            // One that cannot be read is reported by `foreign`, once.
            Err(check) if check.code == Some(Code::CrlMalformed) => continue,
            Err(check) => {
                checks.push(check);
                continue;
            }
        };
        if let Some(revoked) = verified.revocation(NAME) {
            checks.push(revoked);
            continue;
        }
        match verified.currency(NAME, context) {
            Ok(warning) => {
                is_current = true;
                let text = || format!("list of {}, valid until {}", issuer.name, verified.next_update);
                checks.push(warning.unwrap_or_else(|| Check::passed(NAME, text())));
            }
            // An expired list is like none.
            Err(stale) if stale.code == Some(Code::CrlExpired) => {
                let text = format!("the list of {} expired on {}", issuer.name, verified.next_update);
                let check = by_rule(at_least_warned(context), NAME, Code::CrlExpired, text);
                checks.push(check.mend("fetch the current list from AWS"));
            }
            Err(check) => checks.push(check),
        }
    }
    (checks, is_current)
}

/// A list that is of no issuer of the path.
fn foreign(list: &CrlDer, path: &Path<'_>) -> Option<Check> {
    const NAME: &str = "aws-crl";
    match ParsedCrl::parse(list) {
        Err(fault) => Some(Check::failed(NAME, Code::CrlMalformed, fault.to_string())),
        Ok(crl) if path.certificates.iter().any(|subject| subject.issuer() == crl.issuer()) => None,
        Ok(crl) => {
            Some(Check::skipped(NAME, format!("the list of {} is of another chain", crl.issuer_name())))
        }
    }
}

fn absent(missing: &[String], context: &Context<'_>) -> Check {
    let text = format!(
        "no current revocation list for {}: a revoked CA would not be noticed. AWS says to validate documents without \
         revocation lists",
        missing.join(", ")
    );
    by_rule(at_least_warned(context), "aws-crl", Code::CrlMissing, text)
        .mend("give AWS's revocation lists with the Endorsements; the certificates name their addresses")
}

/// A verdict without revocation is always worth a warning.
fn at_least_warned(context: &Context<'_>) -> Rule {
    match context.policy.nitro.missing_crl {
        Rule::Refuse => Rule::Refuse,
        Rule::Warn | Rule::Allow => Rule::Warn,
    }
}
