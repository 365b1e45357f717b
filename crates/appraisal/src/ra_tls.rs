//! Whether the key of an RA-TLS certificate is the one that the Evidence in it was made for. The TLS handshake proves
//! that the peer holds the key; this, that a TEE does.

use evidence::ra_tls::{Certificate, Claims, HashAlgorithm};
use evidence::{Covered, ReportData};

use crate::verdict::Check;
use crate::{Code, Crypto};

/// The report data that Evidence over these claims has: SHA-256 of their bytes, and zeros.
pub fn report_data(claims: &Claims, crypto: &dyn Crypto) -> ReportData {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&crypto.sha256(&[&claims.bytes]));
    ReportData(bytes)
}

/// Whether the claims name the key of the certificate that they are in.
pub fn names_key(certificate: &Certificate, crypto: &dyn Crypto) -> bool {
    let (claims, key) = (&certificate.claims, &certificate.key[..]);
    match claims.algorithm {
        HashAlgorithm::Sha256 => claims.key_hash == crypto.sha256(&[key]),
        HashAlgorithm::Sha384 => claims.key_hash == crypto.sha384(&[key]),
        HashAlgorithm::Sha512 => claims.key_hash == crypto.sha512(&[key]),
    }
}

pub(crate) fn check(certificate: &Certificate, crypto: &dyn Crypto) -> Check {
    const NAME: &str = "tls-key";
    let mend = "let the attester make a certificate for a key of its own, and Evidence for that key";
    if !names_key(certificate, crypto) {
        let text = "the Evidence was made for another key than that of the certificate";
        return Check::failed(NAME, Code::CertificateKeyNotBound, text)
            .expected(hex::encode(crypto.sha256(&[&certificate.key])))
            .observed(hex::encode(&certificate.claims.key_hash))
            .mend(mend);
    }
    let expected = Covered::from(report_data(&certificate.claims, crypto));
    let seen = certificate.evidence.covered();
    if seen != expected {
        let text = "the Evidence does not cover the claims that name the certificate's key";
        return Check::failed(NAME, Code::CertificateKeyNotBound, text)
            .expected(expected.to_string())
            .observed(seen.to_string())
            .mend(mend);
    }
    Check::passed(NAME, "the Evidence was made for the key of the certificate")
}
