//! Chains of any bounded length, for the vendors whose hierarchies have more than one CA between root and signer:
//! AWS, NVIDIA, and those of TPMs. Names lead the way, signatures decide it.

use crate::chain::ChainFault;
use crate::trust::Anchor;
use crate::verdict::Check;
use crate::x509::ParsedCertificate;
use crate::{Code, Crypto, UnixTime};

/// The most certificates below a root.
const MAX_LENGTH: usize = 8;

/// A verified way from a signer to a trusted root.
pub(crate) struct LongPath<'p, 'c> {
    /// The signer first; the root is not among them.
    pub(crate) certificates: Vec<&'p ParsedCertificate<'c>>,
    pub(crate) anchor: &'p Anchor,
}

impl LongPath<'_, '_> {
    /// The names, signer first.
    pub(crate) fn describe(&self) -> String {
        let mut names: Vec<_> =
            self.certificates.iter().map(|certificate| certificate.subject_name()).collect();
        names.push(self.anchor.label());
        names.join(" ← ")
    }

    /// Are all certificates valid at `now`?
    pub(crate) fn validity(&self, now: UnixTime) -> Check {
        const NAME: &str = "validity";
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
                Check::failed(NAME, Code::CertificateExpired, format!("{name} has expired"))
                    .mend("appraise fresh Evidence; or recorded Evidence at the time it was made")
            } else {
                continue;
            };
            return check.expected(format!("{not_before} to {not_after}")).observed(now.to_string());
        }
        Check::passed(NAME, format!("all certificates valid until {earliest_end}"))
    }
}

/// Finds and verifies the way from `signer` to one of `anchors`, through `pool`.
pub(crate) fn build<'p, 'c>(
    signer: &'p ParsedCertificate<'c>,
    pool: &'p [ParsedCertificate<'c>],
    anchors: &'p [Anchor],
    crypto: &dyn Crypto,
) -> Result<LongPath<'p, 'c>, ChainFault> {
    signer
        .require_end_entity()
        .map_err(|fault| ChainFault::Certificate { name: signer.subject_name(), fault })?;
    let mut certificates = vec![signer];
    while let Some(subject) = certificates.last().copied() {
        let mut named = anchors.iter().filter(|anchor| anchor.subject == subject.issuer());
        if let Some(anchor) = named.find(|anchor| subject.verify_signed_by(&anchor.key, crypto).is_ok()) {
            return Ok(LongPath { certificates, anchor });
        }
        if certificates.len() >= MAX_LENGTH {
            break;
        }
        match issuer(subject, pool, crypto) {
            Ok(issuer) => certificates.push(issuer),
            // Refused either way; find out whether another root vouches for it, to name that.
            Err(fault) => {
                let presented = pool
                    .iter()
                    .filter(|other| other.subject() == subject.issuer() && other.is_self_issued())
                    .find(|root| subject.verify_signed_by(root.key(), crypto).is_ok());
                return Err(presented.map_or(fault, |root| ChainFault::RootNotTrusted {
                    root: root.subject_name(),
                    sha256: crypto.sha256(&[root.der]),
                }));
            }
        }
    }
    Err(ChainFault::Incomplete { subject: signer.subject_name(), issuer: "a trusted root".into() })
}

fn issuer<'p, 'c>(
    subject: &ParsedCertificate<'c>,
    pool: &'p [ParsedCertificate<'c>],
    crypto: &dyn Crypto,
) -> Result<&'p ParsedCertificate<'c>, ChainFault> {
    let mut fault = ChainFault::Incomplete { subject: subject.subject_name(), issuer: subject.issuer_name() };
    for candidate in
        pool.iter().filter(|other| other.subject() == subject.issuer() && !other.is_self_issued())
    {
        if let Err(unfit) = candidate.require_ca() {
            fault = ChainFault::Certificate { name: candidate.subject_name(), fault: unfit };
        } else if subject.verify_signed_by(candidate.key(), crypto).is_ok() {
            return Ok(candidate);
        } else {
            let (subject, issuer) = (subject.subject_name(), candidate.subject_name());
            fault = ChainFault::SignatureInvalid { subject, issuer };
        }
    }
    Err(fault)
}
