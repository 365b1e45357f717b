//! Revocation lists: whose they are, who signed them, whether they are current, and what they revoke.

use evidence::CrlDer;

use crate::currency::Statement;
use crate::findings::Context;
use crate::verdict::Check;
use crate::x509::{ParsedCertificate, ParsedCrl, PublicKey};
use crate::{Code, UnixTime};

/// The CA whose list is expected.
pub(crate) struct Issuer<'a> {
    pub(crate) name: String,
    pub(crate) subject: &'a [u8],
    pub(crate) key: &'a PublicKey<'a>,
}

/// A list that its issuer signed, and what it revokes of the certificates in question.
pub(crate) struct VerifiedCrl {
    pub(crate) this_update: UnixTime,
    pub(crate) next_update: UnixTime,
    pub(crate) number: Option<u64>,
    /// The name of the first certificate that it revokes.
    pub(crate) revoked: Option<String>,
}

/// Reads and verifies a list, without looking at the time.
pub(crate) fn verify(
    name: &'static str,
    der: &CrlDer,
    issuer: &Issuer<'_>,
    subjects: &[&ParsedCertificate<'_>],
    context: &Context<'_>,
) -> Result<VerifiedCrl, Check> {
    let crl =
        ParsedCrl::parse(der).map_err(|fault| Check::failed(name, Code::CrlMalformed, fault.to_string()))?;
    if crl.issuer() != issuer.subject {
        return Err(Check::failed(name, Code::CrlIssuerMismatch, "the revocation list of another issuer")
            .expected(issuer.name.clone())
            .observed(crl.issuer_name()));
    }
    crl.verify_signed_by(issuer.key, context.crypto).map_err(|_| {
        let text = format!("the revocation list was not signed by {}: altered, or forged", issuer.name);
        Check::failed(name, Code::CrlSignatureInvalid, text)
    })?;
    let revoked = subjects
        .iter()
        .find(|certificate| certificate.issuer() == issuer.subject && crl.revokes(certificate.serial()))
        .map(|certificate| {
            format!("{} (serial {})", certificate.subject_name(), hex::encode(certificate.serial()))
        });
    Ok(VerifiedCrl {
        this_update: crl.this_update(),
        next_update: crl.next_update(),
        number: crl.number(),
        revoked,
    })
}

impl VerifiedCrl {
    /// Revocation is final: an old list proves it as well as a new one.
    pub(crate) fn revocation(&self, name: &'static str) -> Option<Check> {
        let revoked = self.revoked.as_ref()?;
        Some(
            Check::failed(
                name,
                Code::CertificateRevoked,
                format!("{revoked} has been revoked by its issuer"),
            )
            .mend("do not use this platform; ask its vendor why"),
        )
    }

    /// Whether the list is the current one: nothing or a warning when it is, the failed check otherwise.
    pub(crate) fn currency(&self, name: &'static str, context: &Context<'_>) -> Result<Option<Check>, Check> {
        let list = Statement {
            name,
            what: "the revocation list",
            issued: self.this_update,
            next_update: self.next_update,
            early: Code::CrlNotYetValid,
            expired: Code::CrlExpired,
            fetch: "fetch the current list from the vendor",
        };
        list.currency(context)
    }
}
