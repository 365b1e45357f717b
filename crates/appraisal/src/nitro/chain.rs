//! The chain of a document: leaf ← the CAs of its `cabundle`, in AWS's order (root first) ← a root that is trusted.
//! The root in the bundle is used for nothing but to name it when it is not trusted.

use evidence::nitro::Document;

use crate::Code;
use crate::chain::ChainFault;
use crate::findings::Context;
use crate::trust::Anchor;
use crate::verdict::Check;
use crate::x509::{CertificateFault, ParsedCertificate, PublicKey};

/// A verified way from the leaf to a root.
pub(super) struct Path<'a> {
    /// From the leaf upwards, without the root.
    pub(super) certificates: Vec<ParsedCertificate<'a>>,
    pub(super) anchor: &'a Anchor,
}

impl<'a> Path<'a> {
    pub(super) fn build(document: &'a Document, context: &'a Context<'_>) -> Result<Self, ChainFault> {
        let leaf = read("the document's certificate", document.certificate())?;
        let unfit = |certificate: &ParsedCertificate<'_>, fault| ChainFault::Certificate {
            name: certificate.subject_name(),
            fault,
        };
        leaf.require_end_entity().map_err(|fault| unfit(&leaf, fault))?;
        if !leaf.may_sign_data() {
            return Err(unfit(&leaf, CertificateFault::MayNotSign));
        }
        let mut certificates = vec![leaf];
        for der in document.cabundle().iter().rev() {
            let issuer = read("a certificate of the cabundle", der)?;
            let below = certificates.len() - 1;
            let subject = &certificates[below];
            if issuer.subject() != subject.issuer() {
                return Err(incomplete(subject));
            }
            if issuer.is_self_issued() {
                // Where the bundle's root stands, one that is trusted must: decided below.
                return anchored(certificates, Some(&issuer), context);
            }
            issuer.require_ca().map_err(|fault| unfit(&issuer, fault))?;
            if issuer.path_length().is_some_and(|most| (most as usize) < below) {
                return Err(unfit(&issuer, CertificateFault::PathTooLong));
            }
            verify(subject, issuer.key(), context)?;
            certificates.push(issuer);
        }
        anchored(certificates, None, context)
    }

    /// The path as people write it: leaf ← … ← root.
    pub(super) fn describe(&self) -> String {
        let names: Vec<_> = self.certificates.iter().map(ParsedCertificate::subject_name).collect();
        names.join(" ← ") + " ← " + &self.anchor.label()
    }

    /// Whether every certificate of the path is valid now, as one check.
    pub(super) fn validity(&self, context: &Context<'_>) -> Check {
        const NAME: &str = "validity";
        const FRESH: &str = "Nitro certificates live hours: ask the enclave for a new document, and appraise it fresh; \
                             a recorded one only passes at the time that it was made";
        let now = context.now;
        let windows = self
            .certificates
            .iter()
            .map(|certificate| {
                (certificate.subject_name(), certificate.not_before(), certificate.not_after())
            })
            .chain([(self.anchor.name.clone(), self.anchor.not_before, self.anchor.not_after)]);
        let mut earliest_end = self.anchor.not_after;
        for (name, not_before, not_after) in windows {
            earliest_end = earliest_end.min(not_after);
            let check = if now < not_before {
                Check::failed(NAME, Code::CertificateNotYetValid, format!("{name} is not valid yet"))
            } else if now > not_after {
                Check::failed(NAME, Code::CertificateExpired, format!("{name} has expired")).mend(FRESH)
            } else {
                continue;
            };
            return check.expected(format!("{not_before} to {not_after}")).observed(now.to_string());
        }
        Check::passed(NAME, format!("all certificates valid until {earliest_end}"))
    }
}

fn read<'a>(name: &str, der: &'a evidence::CertificateDer) -> Result<ParsedCertificate<'a>, ChainFault> {
    ParsedCertificate::parse(der).map_err(|fault| ChainFault::Certificate { name: name.to_owned(), fault })
}

fn anchored<'a>(
    certificates: Vec<ParsedCertificate<'a>>,
    presented: Option<&ParsedCertificate<'a>>,
    context: &'a Context<'_>,
) -> Result<Path<'a>, ChainFault> {
    let top = &certificates[certificates.len() - 1];
    let named: Vec<_> = context.anchors.iter().filter(|anchor| anchor.subject == top.issuer()).collect();
    if let Some(anchor) =
        named.iter().find(|anchor| top.verify_signed_by(&anchor.key, context.crypto).is_ok())
    {
        return Ok(Path { anchor, certificates });
    }
    // Refused either way. What follows finds out whether another root vouches for it, to name that.
    Err(match presented {
        Some(root) if top.verify_signed_by(root.key(), context.crypto).is_ok() => {
            ChainFault::RootNotTrusted {
                root: root.subject_name(),
                sha256: context.crypto.sha256(&[root.der]),
            }
        }
        None if named.is_empty() => incomplete(top),
        _ => signature_invalid(top),
    })
}

fn verify(
    subject: &ParsedCertificate<'_>,
    key: &PublicKey<'_>,
    context: &Context<'_>,
) -> Result<(), ChainFault> {
    subject.verify_signed_by(key, context.crypto).map_err(|_| signature_invalid(subject))
}

fn signature_invalid(subject: &ParsedCertificate<'_>) -> ChainFault {
    ChainFault::SignatureInvalid { subject: subject.subject_name(), issuer: subject.issuer_name() }
}

fn incomplete(subject: &ParsedCertificate<'_>) -> ChainFault {
    ChainFault::Incomplete { subject: subject.subject_name(), issuer: subject.issuer_name() }
}
