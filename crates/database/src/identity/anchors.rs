//! From a chain to a party. The anchors of each party are tried apart, so that the key that verified is known.

use std::collections::BTreeSet;
use std::time::Duration;

use appraisal::UnixTime;
use aws_lc_rs::digest::{SHA256, digest};
use database_manifest::{Manifest, PartyName};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime as TlsTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::Caller;

/// Certificates of one chain, leaf included; a longer one is refused unread.
const MAX_CHAIN: usize = 8;
/// Characters of a distinguished name that are kept.
const MAX_SUBJECT: usize = 256;

/// The trust anchors of all parties.
#[derive(Debug, Clone)]
pub struct Anchors(Vec<Party>);

#[derive(Debug, Clone)]
struct Party {
    name: PartyName,
    anchors: Vec<TrustAnchor<'static>>,
    revoked: BTreeSet<[u8; 32]>,
    max_validity: Option<Duration>,
}

/// An anchor of the manifest is no certificate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an anchor of the party `{party}` cannot be used")]
pub struct UnusableAnchor {
    /// Whose.
    pub party: PartyName,
    /// Why.
    #[source]
    pub source: Error,
}

/// Why someone is no party of this database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAParty {
    /// None was shown.
    #[error("a client certificate is required that a party of this database issued")]
    NoCertificate,
    /// It has no extensions and says nothing of its use.
    #[error(
        "the client certificate is X.509 version {0}, which cannot say what it is for; version 3 is required: issue it \
         with extensions, for example with `bailey certificate issue`"
    )]
    OldVersion(u32),
    /// It cannot be read.
    #[error("the client certificate is malformed")]
    Malformed,
    /// More certificates than any party needs.
    #[error("the chain has more than {MAX_CHAIN} certificates")]
    LongChain,
    /// No anchor's key verified it.
    #[error("the client certificate was not issued by a party of this database")]
    UnknownIssuer,
    /// Anchors of two parties verify it, so that it cannot say for whom it speaks.
    #[error("the chain leads to anchors of several parties")]
    Ambiguous,
    /// Its time is over.
    #[error("the client certificate, or one that issued it, expired {} (now: {})", .not_after.0, .now.0)]
    Expired {
        /// Until then it was good, seconds since 1970.
        not_after: UnixTime,
        /// It is, seconds since 1970.
        now: UnixTime,
    },
    /// Its time has not come.
    #[error("the client certificate, or one that issued it, is valid from {} (now: {})", .not_before.0, .now.0)]
    NotYetValid {
        /// From then on it is good, seconds since 1970.
        not_before: UnixTime,
        /// It is, seconds since 1970.
        now: UnixTime,
    },
    /// The party took it back.
    #[error("the client certificate is revoked by the manifest")]
    Revoked,
    /// It is made for longer than the party lets its certificates live.
    #[error("the client certificate is valid for {days} days, its party allows {}", .allowed.as_secs() / 86_400)]
    ValidTooLong {
        /// Days.
        days: u64,
        /// What the manifest allows.
        allowed: Duration,
    },
    /// Its extended key usage does not have `clientAuth`.
    #[error("the client certificate is not for client authentication (extended key usage)")]
    WrongUse,
    /// The chain breaks another rule of RFC 5280.
    #[error("the client certificate is not valid: {0}")]
    Invalid(Error),
}

impl NotAParty {
    /// A stable word for the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "NO_CERTIFICATE",
            Self::OldVersion(_) => "CERTIFICATE_OLD_VERSION",
            Self::Malformed => "CERTIFICATE_MALFORMED",
            Self::LongChain => "CERTIFICATE_LONG_CHAIN",
            Self::UnknownIssuer => "CERTIFICATE_UNKNOWN_ISSUER",
            Self::Ambiguous => "CERTIFICATE_AMBIGUOUS",
            Self::Expired { .. } => "CERTIFICATE_EXPIRED",
            Self::NotYetValid { .. } => "CERTIFICATE_NOT_YET_VALID",
            Self::Revoked => "CERTIFICATE_REVOKED",
            Self::ValidTooLong { .. } => "CERTIFICATE_VALID_TOO_LONG",
            Self::WrongUse => "CERTIFICATE_WRONG_USE",
            Self::Invalid(_) => "CERTIFICATE_INVALID",
        }
    }
}

impl Anchors {
    /// Those of the manifest.
    ///
    /// # Errors
    ///
    /// [`UnusableAnchor`], with the first that is no certificate.
    pub fn new(manifest: &Manifest) -> Result<Self, UnusableAnchor> {
        let party = |(name, party): (&PartyName, &database_manifest::Party)| {
            let anchors = party
                .anchors
                .iter()
                .map(|anchor| anchor_from_trusted_cert(&anchor.der.as_slice().into()).map(|it| it.to_owned()))
                .collect::<Result<_, _>>()
                .map_err(|source| UnusableAnchor { party: name.clone(), source })?;
            Ok(Party {
                name: name.clone(),
                anchors,
                revoked: party.revoked.clone(),
                max_validity: party.max_validity,
            })
        };
        manifest.parties.iter().map(party).collect::<Result<_, _>>().map(Self)
    }

    /// Whoever proved to have the key of the chain's first certificate.
    ///
    /// # Errors
    ///
    /// [`NotAParty`], with a sentence that the client may see.
    pub fn caller(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Caller, NotAParty> {
        let (leaf, intermediates) = chain.split_first().ok_or(NotAParty::NoCertificate)?;
        if chain.len() > MAX_CHAIN {
            return Err(NotAParty::LongChain);
        }
        let (rest, parsed) = X509Certificate::from_der(leaf).map_err(|_| NotAParty::Malformed)?;
        if !rest.is_empty() {
            return Err(NotAParty::Malformed);
        }
        if parsed.version() != X509Version::V3 {
            return Err(NotAParty::OldVersion(parsed.version().0.saturating_add(1)));
        }
        let certificate = sha256(leaf);
        let party = self.party(leaf, intermediates, now)?;
        if let Some(allowed) = party.max_validity {
            let validity = parsed.validity();
            let seconds = validity.not_after.timestamp().saturating_sub(validity.not_before.timestamp());
            let seconds = u64::try_from(seconds).unwrap_or(0);
            if seconds > allowed.as_secs() {
                return Err(NotAParty::ValidTooLong { days: seconds / 86_400, allowed });
            }
        }
        let subject =
            parsed.subject().to_string().chars().filter(|it| !it.is_control()).take(MAX_SUBJECT).collect();
        Ok(Caller { party: party.name.clone(), certificate, subject })
    }

    /// The one party whose anchors verify the chain.
    fn party(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<&Party, NotAParty> {
        let leaf = EndEntityCert::try_from(leaf).map_err(|error| reason(error, now))?;
        let mut found = None;
        let mut refused = NotAParty::UnknownIssuer;
        for party in &self.0 {
            match party.verify(&leaf, intermediates, now) {
                Ok(()) if found.is_some() => return Err(NotAParty::Ambiguous),
                Ok(()) => found = Some(party),
                Err(NotAParty::UnknownIssuer) => {}
                Err(other) => refused = other,
            }
        }
        found.ok_or(refused)
    }
}

impl Party {
    fn verify(
        &self,
        leaf: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), NotAParty> {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let time = TlsTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.0).unwrap_or(0)));
        let path = leaf
            .verify_for_usage(
                algorithms,
                &self.anchors,
                intermediates,
                time,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(|error| reason(error, now))?;
        let revoked = |der: &[u8]| self.revoked.contains(&sha256(der));
        if revoked(&leaf.der()) || path.intermediate_certificates().any(|it| revoked(&it.der())) {
            return Err(NotAParty::Revoked);
        }
        Ok(())
    }
}

fn reason(error: Error, now: UnixTime) -> NotAParty {
    let seconds = |time: TlsTime| UnixTime(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match error {
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => NotAParty::UnknownIssuer,
        Error::CertExpired { not_after, .. } => NotAParty::Expired { not_after: seconds(not_after), now },
        Error::CertNotValidYet { not_before, .. } => {
            NotAParty::NotYetValid { not_before: seconds(not_before), now }
        }
        Error::UnsupportedCertVersion => NotAParty::OldVersion(1),
        Error::RequiredEkuNotFoundContext(_) => NotAParty::WrongUse,
        Error::BadDer | Error::BadDerTime => NotAParty::Malformed,
        other => NotAParty::Invalid(other),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}
