//! OCSP responses (RFC 6960) that come with the Endorsements. One that a server gave to somebody else proves as much
//! as one that we asked for ourselves, as long as it is current.

use evidence::CertificateDer;

use super::path::Link;
use crate::der::{BIT_STRING, EXPLICIT_0, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use crate::findings::Context;
use crate::verdict::Check;
use crate::x509::ParsedCertificate;
use crate::{Code, UnixTime};

const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_1: u8 = 0xa1;
const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;
const UNKNOWN: u8 = 0x82;
/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1, encoded.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
/// CRLReason certificateHold (RFC 5280, §5.3.1): may be lifted.
const ON_HOLD: &[u8] = &[6];
/// A responder's certificate, and some of its issuers'.
const MAX_CERTIFICATES: usize = 8;

/// What a response says of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Good,
    OnHold,
    Revoked,
    Unknown,
}

/// An answer that the issuer stands by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verified {
    pub(super) answer: Answer,
    pub(super) this_update: UnixTime,
    pub(super) next_update: UnixTime,
}

impl Verified {
    pub(super) fn is_current(&self, now: UnixTime) -> bool {
        self.this_update <= now && now <= self.next_update
    }
}

/// Whether bytes are a successful response.
pub(crate) fn is_ocsp_response(der: &[u8]) -> bool {
    Response::read(der).is_some()
}

/// Reads and verifies a response; none when it is about other certificates.
pub(super) fn verify(
    der: &[u8],
    link: &Link<'_, '_>,
    context: &Context<'_>,
) -> Result<Option<Verified>, Check> {
    let response = Response::read(der)
        .ok_or_else(|| Check::failed("ocsp", Code::OcspMalformed, "not a successful, basic OCSP response"))?;
    let malformed = || Check::failed("ocsp", Code::OcspMalformed, "an answer of the response cannot be read");
    let mut found = None;
    let mut singles = response.singles;
    while !singles.is_empty() {
        let (same, verified) = read_single(&mut singles, link, context).ok_or_else(malformed)?;
        if same {
            found = Some(verified);
        }
    }
    let Some(verified) = found else { return Ok(None) };
    if !response.is_signed_for(link, context) {
        let text = format!(
            "the answer about {} was not signed by {}, or by whom that named",
            link.subject.subject_name(),
            link.issuer_name
        );
        return Err(Check::failed("ocsp", Code::OcspSignatureInvalid, text));
    }
    Ok(Some(verified))
}

struct Response<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    singles: Elements<'a>,
    certificates: Vec<CertificateDer>,
}

impl<'a> Response<'a> {
    /// `OCSPResponse` (RFC 6960, §4.2.1).
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Elements::new(der);
        let mut response = outer.sequence().filter(|_| outer.is_empty())?;
        let successful = response.take(ENUMERATED)? == [0];
        let mut bytes = Elements::new(response.take(EXPLICIT_0)?).sequence()?;
        let basic = bytes.take(OBJECT_IDENTIFIER)? == BASIC;
        let mut outer = Elements::new(bytes.take(OCTET_STRING)?);
        let mut parts = outer.sequence().filter(|_| outer.is_empty() && successful && basic)?;
        let signed = parts.whole(SEQUENCE)?;
        let algorithm = parts.whole(SEQUENCE)?;
        let [0, signature @ ..] = parts.take(BIT_STRING)? else { return None };
        let mut certificates = Vec::new();
        if !parts.is_empty() {
            let mut list = Elements::new(parts.take(EXPLICIT_0)?).sequence()?;
            while !list.is_empty() && certificates.len() < MAX_CERTIFICATES {
                certificates.push(CertificateDer(list.whole(SEQUENCE)?.to_vec()));
            }
        }
        let mut data = Elements::new(signed).sequence()?;
        // Version 1 is the default, and left out; the responder is named or known by its key.
        if !matches!(data.any()?.0, EXPLICIT_1 | 0xa2) {
            return None;
        }
        data.take(GENERALIZED_TIME)?;
        let singles = data.sequence()?;
        Some(Self { signed, algorithm, signature, singles, certificates })
    }

    fn is_signed_for(&self, link: &Link<'_, '_>, context: &Context<'_>) -> bool {
        let signed_by = |key: &crate::x509::PublicKey<'_>| {
            key.verify_object(self.signed, self.algorithm, self.signature, context.crypto).is_ok()
        };
        let delegated = || {
            self.certificates.iter().filter_map(|der| ParsedCertificate::parse(der).ok()).any(|responder| {
                responder.issuer() == link.issuer
                    && responder.may_answer_for_its_issuer()
                    && responder.not_before() <= context.now
                    && context.now <= responder.not_after()
                    && responder.verify_signed_by(link.issuer_key, context.crypto).is_ok()
                    && signed_by(responder.key())
            })
        };
        signed_by(link.issuer_key) || delegated()
    }
}

/// `SingleResponse`: whether it is about the certificate, and what it says.
fn read_single(
    singles: &mut Elements<'_>,
    link: &Link<'_, '_>,
    context: &Context<'_>,
) -> Option<(bool, Verified)> {
    let mut single = singles.sequence()?;
    let mut id = single.sequence()?;
    let algorithm = id.sequence()?.take(OBJECT_IDENTIFIER)?;
    let (name, key, serial) = (id.take(OCTET_STRING)?, id.take(OCTET_STRING)?, id.take(INTEGER)?);
    let is_hash = |bytes: &[u8], digest: &[u8]| match algorithm {
        SHA1 => context.crypto.sha1(&[bytes]) == *digest,
        SHA256 => context.crypto.sha256(&[bytes]) == *digest,
        SHA384 => context.crypto.sha384(&[bytes]) == *digest,
        _ => false,
    };
    let same =
        serial == link.subject.serial() && is_hash(link.issuer, name) && is_hash(link.issuer_key.bits(), key);
    let answer = match single.any()? {
        (GOOD, []) => Answer::Good,
        (REVOKED, info) => {
            let mut info = Elements::new(info);
            info.take(GENERALIZED_TIME)?;
            let reason = if info.is_empty() { None } else { Some(Elements::new(info.take(EXPLICIT_0)?)) };
            match reason.and_then(|mut reason| reason.take(ENUMERATED)) {
                Some(ON_HOLD) => Answer::OnHold,
                _ => Answer::Revoked,
            }
        }
        (UNKNOWN, _) => Answer::Unknown,
        _ => return None,
    };
    let this_update = read_time(single.take(GENERALIZED_TIME)?)?;
    // Without a next update, newer information is always there: nothing that was kept is current.
    let next_update = match single.any() {
        Some((EXPLICIT_0, time)) => read_time(Elements::new(time).take(GENERALIZED_TIME)?)?,
        _ => this_update,
    };
    Some((same, Verified { answer, this_update, next_update }))
}

/// `YYYYMMDDHHMMSSZ` (RFC 5280, §4.1.2.5.2).
fn read_time(text: &[u8]) -> Option<UnixTime> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() == 15 && text.is_ascii())?;
    let part = |start: usize, end: usize| text.get(start..end);
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}{}",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?,
        part(14, 15)?
    );
    rfc3339.parse().ok()
}
