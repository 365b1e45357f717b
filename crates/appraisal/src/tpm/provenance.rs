//! Why an attestation key is believed to be in a TPM: the policy enrols the key itself, or a CA that the policy names
//! certified it. A key that vouches for itself is anyone's.

use evidence::tpm::{Attestation, AttestationKey};
use evidence::{CertificateDer, CrlDer, TpmCollateral, tpm};
use x509_parser::asn1_rs::{Oid, oid};

use crate::der::{Elements, INTEGER, OBJECT_IDENTIFIER, small_integer};
use crate::findings::{Context, by_rule};
use crate::revocation::{self, Issuer};
use crate::trust::Anchor;
use crate::trust_anchor::AnchorKey;
use crate::verdict::{Check, Origin};
use crate::x509::{ParsedCertificate, ParsedCrl, PublicKey};
use crate::{Code, Rule};

/// More CAs between key and anchor are not followed.
const MAX_DEPTH: usize = 4;
const BASIC_CONSTRAINTS: Oid<'static> = oid!(2.5.29.19);
const EXTENDED_KEY_USAGE: Oid<'static> = oid!(2.5.29.37);
/// tcg-kp-EKCertificate and tcg-kp-AIKCertificate (TCG EK Credential Profile, §3.2.16), encoded. Google's cloud puts
/// the first into certificates of attestation keys.
const TCG_USAGES: [&[u8]; 2] = [&[0x67, 0x81, 5, 8, 1], &[0x67, 0x81, 5, 8, 3]];

/// Why the key is trusted.
pub(super) struct Provenance {
    pub(super) origin: Origin,
    /// The way to the anchor, as people write it.
    pub(super) path: String,
    pub(super) checks: Vec<Check>,
    pub(super) revocation: Check,
    /// The certificate of the key, where one was needed.
    pub(super) certificate: Option<CertificateDer>,
}

pub(super) fn establish(
    evidence: &Attestation,
    key: &AttestationKey,
    collateral: Option<&TpmCollateral>,
    context: &Context<'_>,
) -> Result<Provenance, Check> {
    let spki = key.public.spki();
    if let Some(name) = enrolled(key, &spki, context) {
        let text = format!("the policy enrols this key as {name:?}");
        return Ok(Provenance {
            path: format!("attestation key, enrolled as {name:?}"),
            checks: vec![Check::passed("provenance", text)],
            revocation: Check::passed(
                "revocation",
                "the policy names the key itself: to revoke it, take it off",
            ),
            origin: Origin::Enrolled(name),
            certificate: None,
        });
    }
    let given = collateral.into_iter().flat_map(|own| &own.certificates);
    let all: Vec<&CertificateDer> = evidence.certificates().iter().chain(given).collect();
    let pool: Vec<_> = all.iter().filter_map(|der| ParsedCertificate::parse(der).ok()).collect();
    let mut leaves = pool.iter().filter(|certificate| same_key(certificate.key(), &key.public)).peekable();
    if leaves.peek().is_none() {
        return Err(not_trusted(&spki, context));
    }
    let anchors = anchors(context);
    let mut refused = None;
    for leaf in leaves {
        match climb(leaf, &pool, &anchors, context) {
            Ok(way) => {
                let crls = collateral.map_or(&[][..], |own| &own.crls);
                return Ok(Provenance {
                    origin: way.anchor.origin.clone(),
                    path: way.describe(),
                    checks: vec![
                        Check::passed("provenance", way.describe()),
                        way.validity(context),
                        usage(leaf),
                    ],
                    revocation: way.revocation(crls, context),
                    certificate: Some(CertificateDer(leaf.der.to_vec())),
                });
            }
            Err(check) => refused = refused.or(Some(check)),
        }
    }
    Err(refused.unwrap_or_else(|| not_trusted(&spki, context)))
}

/// The name under which the policy enrols the key: alone, or with its certificate.
fn enrolled(key: &AttestationKey, spki: &[u8], context: &Context<'_>) -> Option<String> {
    let of_key = |anchor: &&crate::TrustAnchor| {
        if let AnchorKey::Certificate(der) = anchor.key() {
            return ParsedCertificate::parse(der)
                .is_ok_and(|own| own.require_end_entity().is_ok() && same_key(own.key(), &key.public));
        }
        matches!(anchor.key(), AnchorKey::PublicKey(own) if own == spki)
    };
    context.policy.trust_anchors.iter().find(of_key).map(|anchor| anchor.name().to_owned())
}

fn not_trusted(spki: &[u8], context: &Context<'_>) -> Check {
    let digest = hex::encode(context.crypto.sha256(&[spki]));
    let text = "nothing says that the attestation key is in a TPM: the policy does not enrol it, and no certificate of it was given";
    Check::failed("provenance", Code::AkNotTrusted, text)
        .expected("a key under trust_anchors of the policy, or its certificate by a CA that is there")
        .observed(format!("a key whose SubjectPublicKeyInfo has SHA-256 {digest}"))
        .mend(format!(
            "if you know this TPM, enrol its key: name the key with SHA-256 {digest} under trust_anchors; \
             otherwise give the certificates of key and issuers with the Endorsements"
        ))
}

/// CAs that the policy names, and the roots of emulated platforms.
fn anchors(context: &Context<'_>) -> Vec<Anchor> {
    let named = context.policy.trust_anchors.iter().filter_map(|anchor| {
        let AnchorKey::Certificate(der) = anchor.key() else { return None };
        let certificate = ParsedCertificate::parse(der).ok()?;
        certificate.require_ca().ok()?;
        Some(Anchor {
            origin: Origin::Enrolled(anchor.name().to_owned()),
            name: certificate.subject_name(),
            subject: certificate.subject().to_vec(),
            key: certificate.key().clone().into_owned(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    });
    named.chain(context.anchors.iter().cloned()).collect()
}

pub(crate) fn same_key(certified: &PublicKey<'_>, own: &tpm::PublicKey) -> bool {
    match (certified, own) {
        (PublicKey::Rsa(certified), tpm::PublicKey::Rsa(own))
        | (PublicKey::P256(certified), tpm::PublicKey::P256(own))
        | (PublicKey::P384(certified), tpm::PublicKey::P384(own)) => certified[..] == own[..],
        _ => false,
    }
}

/// A CA that certifies for other purposes, too, must not let holders of its other certificates make quotes.
fn usage(leaf: &ParsedCertificate<'_>) -> Check {
    const NAME: &str = "usage";
    let fits = leaf.extension(&EXTENDED_KEY_USAGE).is_some_and(|value| {
        let Some(mut usages) = Elements::new(value).sequence() else { return false };
        std::iter::from_fn(|| usages.take(OBJECT_IDENTIFIER)).any(|usage| TCG_USAGES.contains(&usage))
    });
    if fits {
        return Check::passed(NAME, "certified as a key of a TPM");
    }
    Check::failed(NAME, Code::AkCertificateUnfit, "the certificate does not say that the key is one of a TPM")
        .expected("extended key usage 2.23.133.8.3 (AIK) or 2.23.133.8.1 (EK)")
        .mend("let the CA issue a certificate for attestation keys, or enrol the key itself")
}

/// From the key's certificate to an anchor.
struct Way<'p, 'c> {
    certificates: Vec<&'p ParsedCertificate<'c>>,
    anchor: &'p Anchor,
}

fn climb<'p, 'c>(
    leaf: &'p ParsedCertificate<'c>,
    pool: &'p [ParsedCertificate<'c>],
    anchors: &'p [Anchor],
    context: &Context<'_>,
) -> Result<Way<'p, 'c>, Check> {
    const NAME: &str = "provenance";
    let crypto = context.crypto;
    if let Err(fault) = leaf.require_end_entity() {
        let text = format!("{}: {fault}", leaf.subject_name());
        return Err(Check::failed(NAME, Code::CertificateMalformed, text));
    }
    let mut certificates = vec![leaf];
    loop {
        let top = certificates[certificates.len() - 1];
        let named = || anchors.iter().filter(|anchor| anchor.subject == top.issuer());
        if let Some(anchor) = named().find(|anchor| top.verify_signed_by(&anchor.key, crypto).is_ok()) {
            return Ok(Way { certificates, anchor });
        }
        let depth = certificates.len() - 1;
        let issuers = || pool.iter().filter(|other| other.subject() == top.issuer());
        let fit = |other: &&ParsedCertificate<'_>| {
            other.require_ca().is_ok()
                && path_length(other).is_none_or(|longest| depth <= usize::from(longest))
                && top.verify_signed_by(other.key(), crypto).is_ok()
        };
        let next = issuers().filter(|other| !other.is_self_issued()).find(fit);
        match next {
            Some(next) if certificates.len() <= MAX_DEPTH => certificates.push(next),
            _ => {
                let root = issuers().filter(|other| other.is_self_issued()).find(fit);
                let known = named().next().is_some() || issuers().next().is_some();
                return Err(refused(top, root, known, context));
            }
        }
    }
}

fn refused(
    top: &ParsedCertificate<'_>,
    root: Option<&ParsedCertificate<'_>>,
    known: bool,
    context: &Context<'_>,
) -> Check {
    const NAME: &str = "provenance";
    let (subject, issuer) = (top.subject_name(), top.issuer_name());
    if let Some(root) = root {
        let digest = hex::encode(context.crypto.sha256(&[root.der]));
        let text =
            format!("the attestation key is certified under {issuer:?}, which the policy does not name");
        return Check::failed(NAME, Code::RootNotTrusted, text)
            .expected("a CA under trust_anchors of the policy")
            .observed(format!("{issuer}, SHA-256 {digest}"))
            .mend(
                "if you trust whoever holds this root to certify keys of TPMs, name it under trust_anchors",
            );
    }
    if known {
        let text = format!("{subject} was not signed by {issuer}: altered, forged, or by a CA that may not");
        return Check::failed(NAME, Code::ChainSignatureInvalid, text);
    }
    let text = format!("the certificate of {issuer}, which issued {subject}, is missing");
    Check::failed(NAME, Code::ChainIncomplete, text).expected(issuer).mend(
        "give the issuer's certificate with the Endorsements, or name it under trust_anchors of the policy",
    )
}

/// How many CAs may be below this one (RFC 5280, §4.2.1.9); None when any number.
fn path_length(certificate: &ParsedCertificate<'_>) -> Option<u16> {
    let mut constraints = Elements::new(certificate.extension(&BASIC_CONSTRAINTS)?).sequence()?;
    let number = std::iter::from_fn(|| constraints.any()).find(|(tag, _)| *tag == INTEGER)?;
    Some(small_integer(number.1).unwrap_or(0))
}

impl Way<'_, '_> {
    fn describe(&self) -> String {
        // Certificates of TPM keys often have no subject.
        let issuers = self.certificates.iter().skip(1).map(|issuer| issuer.subject_name());
        let names = ["attestation key".to_owned()].into_iter().chain(issuers).chain([self.anchor.label()]);
        names.collect::<Vec<_>>().join(" ← ")
    }

    fn validity(&self, context: &Context<'_>) -> Check {
        const NAME: &str = "validity";
        let own = self.certificates.iter().map(|certificate| {
            let name = match certificate.subject_name() {
                name if name.is_empty() => "the certificate of the attestation key".into(),
                name => name,
            };
            (name, certificate.not_before(), certificate.not_after())
        });
        let anchor = (self.anchor.name.clone(), self.anchor.not_before, self.anchor.not_after);
        let mut end = self.anchor.not_after;
        for (name, not_before, not_after) in own.chain([anchor]) {
            end = end.min(not_after);
            let check = if context.now < not_before {
                Check::failed(NAME, Code::CertificateNotYetValid, format!("{name} is not valid yet"))
            } else if context.now > not_after {
                Check::failed(NAME, Code::CertificateExpired, format!("{name} has expired"))
                    .mend("let the TPM's key be certified anew")
            } else {
                continue;
            };
            return check.expected(format!("{not_before} to {not_after}")).observed(context.now.to_string());
        }
        Check::passed(NAME, format!("all certificates valid until {end}"))
    }

    /// Each certificate against the lists of its issuer.
    fn revocation(&self, crls: &[CrlDer], context: &Context<'_>) -> Check {
        let issuers = self.certificates.iter().skip(1).map(|issuer| Issuer {
            name: issuer.subject_name(),
            subject: issuer.subject(),
            key: issuer.key(),
        });
        let anchor =
            Issuer { name: self.anchor.name.clone(), subject: &self.anchor.subject, key: &self.anchor.key };
        let links = self.certificates.iter().zip(issuers.chain([anchor]));
        let checks: Vec<_> =
            links.map(|(subject, issuer)| one_issuer(subject, &issuer, crls, context)).collect();
        let text = match checks.iter().any(Check::is_failed) {
            true => "not shown to be free of revocation",
            false => "nothing on the path is known to be revoked",
        };
        Check::group("revocation", text, checks)
    }
}

fn one_issuer(
    subject: &ParsedCertificate<'_>,
    issuer: &Issuer<'_>,
    crls: &[CrlDer],
    context: &Context<'_>,
) -> Check {
    const NAME: &str = "crl";
    // A verdict without revocation is always worth a warning.
    let rule = match context.policy.tpm.crl {
        Rule::Refuse => Rule::Refuse,
        Rule::Warn | Rule::Allow => Rule::Warn,
    };
    let own = crls.iter().filter(|der| ParsedCrl::parse(der).is_ok_and(|crl| crl.issuer() == issuer.subject));
    let mut best: Option<Check> = None;
    for der in own {
        let check = match revocation::verify(NAME, der, issuer, &[subject], context) {
            Err(check) => check,
            Ok(verified) => match (verified.revocation(NAME), verified.currency(NAME, context)) {
                (Some(revoked), _) => return revoked,
                (None, Ok(warning)) => warning.unwrap_or_else(|| {
                    let (issued, end) = (verified.this_update, verified.next_update);
                    Check::passed(NAME, format!("list of {} of {issued}, valid until {end}", issuer.name))
                }),
                // An expired list is like none.
                (None, Err(stale)) if stale.code == Some(Code::CrlExpired) && rule != Rule::Refuse => {
                    Check::warned(NAME, Code::CrlExpired, stale.text)
                }
                (None, Err(stale)) => stale,
            },
        };
        best = match best {
            Some(kept) if kept.outcome <= check.outcome => Some(kept),
            _ => Some(check),
        };
    }
    best.unwrap_or_else(|| {
        let text =
            format!("no revocation list of {} was given: a revoked key would not be noticed", issuer.name);
        by_rule(rule, NAME, Code::CrlMissing, text).mend("give the CA's list with the Endorsements")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_is_read_where_a_ca_has_one() {
        let length =
            |der: &[u8]| path_length(&ParsedCertificate::parse(&CertificateDer(der.to_vec())).unwrap());
        assert_eq!(length(include_bytes!("../../tests/vectors/tpm/swtpm-ca.der")), Some(0));
        assert_eq!(length(include_bytes!("../../tests/vectors/tpm/swtpm-rsassa-sha256.der")), None);
        assert_eq!(length(include_bytes!("../../roots/intel-sgx-root-ca.der")), Some(1));
    }
}
