//! From a signer to a root through several CAs: NVIDIA's chains have three between them.

use crate::chain::{ChainFault, find_anchor, find_issuer};
use crate::trust::Anchor;
use crate::verdict::Check;
use crate::x509::{CertificateFault, ParsedCertificate, PublicKey};
use crate::{Code, Crypto, UnixTime};

/// CAs between signer and root.
const MAX_ISSUERS: usize = 4;

/// A verified way from a signer to a root.
pub(super) struct Path<'p, 'c> {
    /// The signer, and then its issuers up to the one below the root.
    pub(super) certificates: Vec<&'p ParsedCertificate<'c>>,
    pub(super) anchor: &'p Anchor,
}

impl<'p, 'c> Path<'p, 'c> {
    /// Finds and verifies the way from `signer` to one of `anchors`, through `pool`.
    pub(super) fn build(
        signer: &'p ParsedCertificate<'c>,
        pool: &'p [ParsedCertificate<'c>],
        anchors: &'p [Anchor],
        crypto: &dyn Crypto,
    ) -> Result<Self, ChainFault> {
        let unfit = |certificate: &ParsedCertificate<'_>, fault| ChainFault::Certificate {
            name: certificate.subject_name(),
            fault,
        };
        signer.require_end_entity().map_err(|fault| unfit(signer, fault))?;
        let mut certificates = vec![signer];
        let mut last = signer;
        while certificates.len() <= MAX_ISSUERS
            && !anchors.iter().any(|anchor| anchor.subject == last.issuer())
        {
            let issuer = match find_issuer(last, pool, crypto) {
                Ok(issuer) => issuer,
                // A root that nobody trusts is named as such.
                Err(ChainFault::Incomplete { .. }) => break,
                Err(fault) => return Err(fault),
            };
            let below = certificates.len() - 1;
            if issuer.path_length().is_some_and(|longest| below > longest as usize) {
                return Err(unfit(issuer, CertificateFault::MayNotSign));
            }
            certificates.push(issuer);
            last = issuer;
        }
        let anchor = find_anchor(last, pool, anchors, crypto)?;
        Ok(Self { certificates, anchor })
    }

    pub(super) fn signer(&self) -> &'p ParsedCertificate<'c> {
        self.certificates[0]
    }

    /// The path as people write it: signer ← issuers ← root.
    pub(super) fn describe(&self) -> String {
        let mut names: Vec<_> =
            self.certificates.iter().map(|certificate| certificate.subject_name()).collect();
        names.push(self.anchor.label());
        names.join(" ← ")
    }

    /// Each certificate with the name and key of its issuer.
    pub(super) fn links(&self) -> impl Iterator<Item = Link<'_, 'c>> {
        self.certificates.iter().enumerate().map(|(index, &subject)| match self.certificates.get(index + 1) {
            Some(issuer) => Link {
                subject,
                issuer_name: issuer.subject_name(),
                issuer: issuer.subject(),
                issuer_key: issuer.key(),
            },
            None => Link {
                subject,
                issuer_name: self.anchor.name.clone(),
                issuer: &self.anchor.subject,
                issuer_key: &self.anchor.key,
            },
        })
    }

    /// Whether every certificate of the path, the root too, is valid at `now`: until when, or the check that failed.
    pub(super) fn validity(
        &self,
        name: &'static str,
        expired: Code,
        now: UnixTime,
    ) -> Result<UnixTime, Check> {
        let mut earliest_end = self.anchor.not_after;
        let root = (self.anchor.name.clone(), self.anchor.not_before, self.anchor.not_after);
        let windows = self.certificates.iter().map(|certificate| {
            (certificate.subject_name(), certificate.not_before(), certificate.not_after())
        });
        for (subject, not_before, not_after) in windows.chain([root]) {
            earliest_end = earliest_end.min(not_after);
            let check = if now < not_before {
                Check::failed(name, Code::CertificateNotYetValid, format!("{subject} is not valid yet"))
            } else if now > not_after {
                Check::failed(name, expired, format!("{subject} has expired"))
            } else {
                continue;
            };
            return Err(check.expected(format!("{not_before} to {not_after}")).observed(now.to_string()));
        }
        Ok(earliest_end)
    }
}

/// A certificate and its issuer.
pub(super) struct Link<'a, 'c> {
    pub(super) subject: &'a ParsedCertificate<'c>,
    pub(super) issuer_name: String,
    pub(super) issuer: &'a [u8],
    pub(super) issuer_key: &'a PublicKey<'a>,
}
