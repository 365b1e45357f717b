//! Certificates as text (RFC 7468), as quotes and DCAP collateral carry them, or as DER one after the other.
//! Strict: nothing but white space and NUL between and after the blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{CertificateDer, Malformed};

const FORMAT: &str = "certificate chain";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// No vendor's chain has more than four certificates.
const MAX_CERTIFICATES: usize = 8;

/// Decodes one or more certificates, PEM or DER.
///
/// # Errors
/// [`Malformed`] for anything else than 1 to 8 certificates.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer>, Malformed> {
    certificates_at(bytes, 0)
}

/// As [`certificates`], for bytes that lie at `base` of the whole input.
pub(crate) fn certificates_at(bytes: &[u8], base: usize) -> Result<Vec<CertificateDer>, Malformed> {
    let chain = match bytes.first() {
        Some(0x30) => concatenated_der(bytes, base)?,
        _ => text_blocks(bytes, base)?,
    };
    match chain.len() {
        1..=MAX_CERTIFICATES => Ok(chain),
        count => Err(Malformed::value(FORMAT, "certificates", base, "1 to 8", count.to_string())),
    }
}

/// The bytes of base64 text; None when it is not base64.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// One certificate as a PEM block.
pub fn encode(certificate: &CertificateDer) -> String {
    let text = STANDARD.encode(&certificate.0);
    let mut block = format!("{BEGIN}\n");
    for line in text.as_bytes().chunks(64) {
        block.extend(line.iter().map(|&byte| char::from(byte)));
        block.push('\n');
    }
    block + END + "\n"
}

fn text_blocks(bytes: &[u8], base: usize) -> Result<Vec<CertificateDer>, Malformed> {
    let not_pem = |offset, seen: &str| Malformed::value(FORMAT, "PEM", base + offset, BEGIN, seen);
    let text =
        str::from_utf8(bytes).map_err(|error| not_pem(error.valid_up_to(), "bytes that are no text"))?;
    let mut rest = skip_blank(text);
    let mut chain = Vec::new();
    while !rest.is_empty() && chain.len() <= MAX_CERTIFICATES {
        let offset = text.len() - rest.len();
        let body = rest.strip_prefix(BEGIN).ok_or_else(|| not_pem(offset, "other text"))?;
        // Base64 has no hyphen, so that the first one begins the end.
        let (body, end) = body.split_at(body.find('-').unwrap_or(body.len()));
        let after = end
            .strip_prefix(END)
            .ok_or_else(|| Malformed::value(FORMAT, "PEM", base + offset, END, "other text, or none"))?;
        let mut digits = Vec::with_capacity(body.len());
        for line in body.split('\n') {
            digits.extend_from_slice(line.trim_ascii().as_bytes());
        }
        let der = STANDARD
            .decode(digits)
            .map_err(|error| Malformed::value(FORMAT, "PEM", base + offset, "base64", error.to_string()))?;
        chain.push(CertificateDer(der));
        rest = skip_blank(after);
    }
    Ok(chain)
}

fn skip_blank(text: &str) -> &str {
    text.trim_start_matches(|char: char| char.is_ascii_whitespace() || char == '\0')
}

fn concatenated_der(bytes: &[u8], base: usize) -> Result<Vec<CertificateDer>, Malformed> {
    let mut rest = bytes;
    let mut chain = Vec::new();
    while !rest.is_empty() && chain.len() <= MAX_CERTIFICATES {
        let offset = base + bytes.len() - rest.len();
        let length = sequence_length(rest).ok_or_else(|| {
            Malformed::value(FORMAT, "DER", offset, "a SEQUENCE of definite length", "other bytes")
        })?;
        if length > rest.len() {
            return Err(Malformed::truncated(FORMAT, "DER", offset, length, rest.len()));
        }
        let (certificate, after) = rest.split_at(length);
        chain.push(CertificateDer(certificate.to_vec()));
        rest = after;
    }
    Ok(chain)
}

/// Length of the DER SEQUENCE at the start, header included.
fn sequence_length(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [0x30, short @ 0..=0x7f, ..] => Some(2 + usize::from(short)),
        [0x30, 0x81, length, ..] => Some(3 + usize::from(length)),
        [0x30, 0x82, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(byte: u8) -> CertificateDer {
        CertificateDer(vec![0x30, 2, byte, byte])
    }

    #[test]
    fn text_round_trips_with_a_trailing_nul() {
        let text = encode(&certificate(1)) + &encode(&certificate(2)) + "\0";
        assert_eq!(certificates(text.as_bytes()), Ok(vec![certificate(1), certificate(2)]));
    }

    #[test]
    fn der_may_be_concatenated() {
        let bytes = [certificate(1).0, certificate(2).0].concat();
        assert_eq!(certificates(&bytes), Ok(vec![certificate(1), certificate(2)]));
        assert!(certificates(&bytes[..7]).is_err());
    }

    #[test]
    fn text_around_blocks_is_refused() {
        let block = encode(&certificate(1));
        assert!(certificates(format!("hello {block}").as_bytes()).is_err());
        assert!(certificates(format!("{block} hello").as_bytes()).is_err());
        assert!(certificates(b"").is_err());
        assert!(certificates(BEGIN.as_bytes()).is_err());
    }

    #[test]
    fn a_chain_of_nine_is_refused() {
        let nine = encode(&certificate(1)).repeat(9);
        assert!(certificates(nine.as_bytes()).is_err());
    }
}
