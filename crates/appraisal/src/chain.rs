//! From a signer's certificate to a trusted root, by names and signatures. Chains of TEE vendors have one of
//! two shapes, so this is not a general path builder: the signer below the root, or one CA between them.
//! Certificates may come in any order, and those that do not help are ignored.

use crate::currency::ends_soon;
use crate::findings::Context;
use crate::trust::Anchor;
use crate::verdict::Check;
use crate::x509::{CertificateFault, ParsedCertificate};
use crate::{Code, Crypto};

/// A verified way from a signer to a root.
#[derive(Clone, Copy)]
pub(crate) struct Path<'p, 'c> {
    pub(crate) signer: &'p ParsedCertificate<'c>,
    pub(crate) issuer: Option<&'p ParsedCertificate<'c>>,
    pub(crate) anchor: &'p Anchor,
}

impl Path<'_, '_> {
    /// The path as people write it: signer ← issuer ← root.
    pub(crate) fn describe(&self) -> String {
        let mut text = self.signer.subject_name();
        if let Some(issuer) = self.issuer {
            text = text + " ← " + &issuer.subject_name();
        }
        text + " ← " + &self.anchor.label()
    }

    /// Whether every certificate of the path is valid at `now`, as one check.
    pub(crate) fn validity(&self, context: &Context<'_>) -> Check {
        const NAME: &str = "validity";
        let now = context.now;
        let certificates = [Some(self.signer), self.issuer].into_iter().flatten();
        let windows = certificates
            .map(|certificate| {
                (certificate.subject_name(), certificate.not_before(), certificate.not_after())
            })
            .chain([(self.anchor.name.clone(), self.anchor.not_before, self.anchor.not_after)]);
        let mut earliest_end = self.anchor.not_after;
        let mut warning = None;
        for (name, not_before, not_after) in windows {
            earliest_end = earliest_end.min(not_after);
            if ends_soon(not_before, not_after, context) {
                let text = format!("{name} ends {not_after}, {} days left", now.days_until(not_after));
                warning = Some(Check::warned(NAME, Code::CollateralExpiresSoon, text));
            }
            let check = if now < not_before {
                Check::failed(NAME, Code::CertificateNotYetValid, format!("{name} is not valid yet"))
            } else if now > not_after {
                Check::failed(NAME, Code::CertificateExpired, format!("{name} has expired"))
                    .mend("fetch the renewed certificate from the vendor")
            } else {
                continue;
            };
            return check.expected(format!("{not_before} to {not_after}")).observed(now.to_string());
        }
        let fetch = "fetch the renewed certificate from the vendor";
        warning
            .map(|warning| warning.mend(fetch))
            .unwrap_or_else(|| Check::passed(NAME, format!("all certificates valid until {earliest_end}")))
    }
}

/// How many CAs there are between signer and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    SignerBelowRoot,
    OneIssuer,
}

/// Why no path was found.
#[derive(Debug)]
pub(crate) enum ChainFault {
    Certificate { name: String, fault: CertificateFault },
    Incomplete { subject: String, issuer: String },
    SignatureInvalid { subject: String, issuer: String },
    RootNotTrusted { root: String, sha256: [u8; 32] },
}

impl ChainFault {
    /// The fault as a failed check.
    pub(crate) fn into_check(self, name: &'static str) -> Check {
        match self {
            Self::Certificate { name: certificate, fault } => {
                Check::failed(name, Code::CertificateMalformed, format!("{certificate}: {fault}"))
            }
            Self::Incomplete { subject, issuer } => {
                let text = format!("the certificate of {issuer}, which issued {subject}, is missing");
                Check::failed(name, Code::ChainIncomplete, text)
                    .expected(issuer)
                    .mend("give the issuer's certificate with the Endorsements")
            }
            Self::SignatureInvalid { subject, issuer } => {
                let text = format!("{subject} was not signed by {issuer}: altered, or forged");
                Check::failed(name, Code::ChainSignatureInvalid, text)
            }
            Self::RootNotTrusted { root, sha256 } => {
                let text = format!(
                    "the chain ends in {root:?}, which is no hardware vendor's root: an emulated or development \
                     root, or a forgery"
                );
                Check::failed(name, Code::RootNotTrusted, text)
                    .expected("a root of the hardware's vendor, or one that the policy names as emulated")
                    .observed(format!("{root}, SHA-256 {}", hex::encode(sha256)))
                    .mend(
                        "if you run this emulated platform, name its root in the policy; never in production",
                    )
            }
        }
    }
}

/// Finds and verifies the way from `signer` to one of `anchors`, through `pool`.
pub(crate) fn build<'p, 'c>(
    signer: &'p ParsedCertificate<'c>,
    pool: &'p [ParsedCertificate<'c>],
    anchors: &'p [Anchor],
    shape: Shape,
    crypto: &dyn Crypto,
) -> Result<Path<'p, 'c>, ChainFault> {
    signer
        .require_end_entity()
        .map_err(|fault| ChainFault::Certificate { name: signer.subject_name(), fault })?;
    match shape {
        Shape::SignerBelowRoot => {
            let anchor = find_anchor(signer, pool, anchors, crypto)?;
            Ok(Path { signer, issuer: None, anchor })
        }
        Shape::OneIssuer => {
            let issuer = find_issuer(signer, pool, crypto)?;
            let anchor = find_anchor(issuer, pool, anchors, crypto)?;
            Ok(Path { signer, issuer: Some(issuer), anchor })
        }
    }
}

/// CAs may share a name (AMD has two of the name `SEV-Genoa`), so the signature decides.
pub(crate) fn find_issuer<'p, 'c>(
    subject: &ParsedCertificate<'c>,
    pool: &'p [ParsedCertificate<'c>],
    crypto: &dyn Crypto,
) -> Result<&'p ParsedCertificate<'c>, ChainFault> {
    let mut named =
        pool.iter().filter(|other| other.subject() == subject.issuer() && !other.is_self_issued());
    let mut fault = ChainFault::Incomplete { subject: subject.subject_name(), issuer: subject.issuer_name() };
    named
        .find(|issuer| match issuer.require_ca() {
            Err(unfit) => {
                fault = ChainFault::Certificate { name: issuer.subject_name(), fault: unfit };
                false
            }
            Ok(()) => {
                let verified = subject.verify_signed_by(issuer.key(), crypto).is_ok();
                if !verified {
                    let (subject, issuer) = (subject.subject_name(), issuer.subject_name());
                    fault = ChainFault::SignatureInvalid { subject, issuer };
                }
                verified
            }
        })
        .ok_or(fault)
}

pub(crate) fn find_anchor<'p>(
    subject: &ParsedCertificate<'_>,
    pool: &[ParsedCertificate<'_>],
    anchors: &'p [Anchor],
    crypto: &dyn Crypto,
) -> Result<&'p Anchor, ChainFault> {
    let named = || anchors.iter().filter(|anchor| anchor.subject == subject.issuer());
    if let Some(anchor) = named().find(|anchor| subject.verify_signed_by(&anchor.key, crypto).is_ok()) {
        return Ok(anchor);
    }
    // Refused either way. What follows finds out whether another root vouches for it, to name that.
    let presented = pool
        .iter()
        .filter(|other| other.subject() == subject.issuer() && other.is_self_issued())
        .find(|root| subject.verify_signed_by(root.key(), crypto).is_ok());
    let (subject_name, issuer) = (subject.subject_name(), subject.issuer_name());
    Err(match presented {
        Some(root) => {
            ChainFault::RootNotTrusted { root: root.subject_name(), sha256: crypto.sha256(&[root.der]) }
        }
        None if named().next().is_some() => ChainFault::SignatureInvalid { subject: subject_name, issuer },
        None => ChainFault::Incomplete { subject: subject_name, issuer },
    })
}
