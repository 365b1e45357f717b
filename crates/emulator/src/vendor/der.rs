//! Distinguished Encoding Rules, writing only (ITU-T X.690 §8, §10): the dozen types that X.509 certificates
//! and CRLs are made of. It exists because no certificate builder writes what AMD and Intel write: RSASSA-PSS
//! with SHA-384, serial number zero, vendor extensions in the vendors' order. Nothing is parsed here.

use time::OffsetDateTime;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const UTF8_STRING: u8 = 0x0c;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// Tag, length, content.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = Vec::with_capacity(content.len() + significant.len() + 2);
    out.push(tag);
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        // At most eight bytes, so the count fits the low seven bits.
        long => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

pub(super) fn sequence<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    tlv(SEQUENCE, &concatenate(parts))
}

pub(super) fn set<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    tlv(SET, &concatenate(parts))
}

/// `[number] EXPLICIT content`.
pub(super) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// `[number] IMPLICIT` of a primitive type with this content.
pub(super) fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, content)
}

/// A non-negative INTEGER from its big-endian bytes: leading zeros go, a sign byte comes where it must.
pub(super) fn integer(big_endian: &[u8]) -> Vec<u8> {
    tlv(INTEGER, &magnitude(big_endian))
}

pub(super) fn enumerated(value: u8) -> Vec<u8> {
    tlv(ENUMERATED, &magnitude(&[value]))
}

pub(super) fn boolean(value: bool) -> Vec<u8> {
    tlv(BOOLEAN, &[if value { 0xff } else { 0x00 }])
}

pub(super) fn null() -> Vec<u8> {
    tlv(NULL, &[])
}

pub(super) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, bytes)
}

/// A BIT STRING whose last byte has this many unused low bits.
pub(super) fn bit_string(unused: u8, bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &concatenate([&[unused][..], bytes]))
}

pub(super) fn utf8_string(text: &str) -> Vec<u8> {
    tlv(UTF8_STRING, text.as_bytes())
}

pub(super) fn ia5_string(text: &str) -> Vec<u8> {
    tlv(IA5_STRING, text.as_bytes())
}

/// An OBJECT IDENTIFIER of at least two arcs, the first two small, as all of ours are.
pub(super) fn oid(arcs: &[u64]) -> Vec<u8> {
    let (root, rest) = arcs.split_at(2);
    let mut content = vec![(root[0] * 40 + root[1]) as u8];
    for arc in rest {
        let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        content.extend((0..groups).rev().map(|group| {
            let more = if group == 0 { 0x00 } else { 0x80 };
            more | (arc >> (7 * group) & 0x7f) as u8
        }));
    }
    tlv(OBJECT_IDENTIFIER, &content)
}

/// UTCTime until 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5).
pub(super) fn time(at: OffsetDateTime) -> Vec<u8> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    if (1950..2050).contains(&at.year()) {
        tlv(UTC_TIME, format!("{:02}{rest}", at.year() % 100).as_bytes())
    } else {
        tlv(GENERALIZED_TIME, format!("{:04}{rest}", at.year()).as_bytes())
    }
}

fn concatenate<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    parts.into_iter().fold(Vec::new(), |mut out, part| {
        out.extend_from_slice(part.as_ref());
        out
    })
}

fn magnitude(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    match &big_endian[zeros..] {
        [] => vec![0],
        significant if significant[0] >= 0x80 => concatenate([&[0][..], significant]),
        significant => significant.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn lengths_take_the_short_and_the_long_form() {
        assert_eq!(octet_string(&[]), [0x04, 0x00]);
        assert_eq!(octet_string(&[0; 127])[..2], [0x04, 0x7f]);
        assert_eq!(octet_string(&[0; 128])[..3], [0x04, 0x81, 0x80]);
        assert_eq!(octet_string(&[0; 300])[..4], [0x04, 0x82, 0x01, 0x2c]);
    }

    #[test]
    fn integers_are_minimal_and_never_negative() {
        assert_eq!(integer(&[0]), [0x02, 0x01, 0x00]);
        assert_eq!(integer(&[]), [0x02, 0x01, 0x00]);
        assert_eq!(integer(&[0, 0, 0x0e]), [0x02, 0x01, 0x0e]);
        assert_eq!(integer(&[0xff]), [0x02, 0x02, 0x00, 0xff]);
    }

    #[test]
    fn object_identifiers_match_real_certificates() {
        // From the PCK certificate of sgx/…quote-v3-sgx-268c06.bin and a Genoa VCEK.
        assert_eq!(hex::encode(oid(&[1, 2, 840, 113741, 1, 13, 1, 2, 18])), "060b2a864886f84d010d010212");
        assert_eq!(hex::encode(oid(&[1, 3, 6, 1, 4, 1, 3704, 1, 3, 8])), "060a2b060104019c78010308");
    }

    #[test]
    fn times_change_their_type_in_2050() {
        assert_eq!(time(datetime!(2049-12-31 23:59:59 UTC)), b"\x17\x0d491231235959Z");
        assert_eq!(time(datetime!(2050-01-01 00:00:00 UTC)), b"\x18\x0f20500101000000Z");
    }
}
