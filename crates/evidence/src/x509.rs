//! Certificates that carry Evidence, taken apart: the key and the extensions, and nothing else, as nothing else of them
//! counts. Strict DER (X.690): definite lengths in their shortest form.

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// What counts of a certificate.
pub(crate) struct Parts<'a> {
    /// DER `SubjectPublicKeyInfo`.
    pub(crate) key: &'a [u8],
    /// The extensions: contents of the object identifier, and value.
    pub(crate) extensions: Vec<(&'a [u8], &'a [u8])>,
}

/// Takes a certificate of version 3 apart (RFC 5280, §4.1).
pub(crate) fn take_apart(der: &[u8]) -> Option<Parts<'_>> {
    let mut whole = Der(der);
    let mut certificate = Der(whole.take(SEQUENCE)?);
    let mut signed = Der(certificate.take(SEQUENCE)?);
    certificate.take(SEQUENCE)?;
    certificate.take(BIT_STRING)?;
    (whole.0.is_empty() && certificate.0.is_empty()).then_some(())?;
    // Version; serial number; signature algorithm, issuer, validity and subject.
    for tag in [VERSION, INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        signed.take(tag)?;
    }
    let before = signed.0;
    signed.take(SEQUENCE)?;
    let (key, _) = before.split_at(before.len() - signed.0.len());
    // Unique ids, which nobody has used for decades, may stand before.
    for tag in [0x81, 0x82] {
        if signed.0.first() == Some(&tag) {
            signed.take(tag)?;
        }
    }
    let mut list = Der(Der(signed.take(EXTENSIONS)?).take(SEQUENCE)?);
    signed.0.is_empty().then_some(())?;
    let mut extensions = Vec::new();
    while !list.0.is_empty() {
        let mut extension = Der(list.take(SEQUENCE)?);
        let id = extension.take(OBJECT_IDENTIFIER)?;
        // The flag "critical".
        if extension.0.first() == Some(&BOOLEAN) {
            extension.take(BOOLEAN)?;
        }
        let value = extension.take(OCTET_STRING)?;
        extension.0.is_empty().then_some(())?;
        extensions.push((id, value));
    }
    Some(Parts { key, extensions })
}

/// The elements that are left to read.
pub(crate) struct Der<'a>(pub(crate) &'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next element, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (seen, contents) = self.any()?;
        (seen == tag).then_some(contents)
    }

    /// Tag and contents of the next element.
    pub(crate) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
                let shortest = digits.first() != Some(&0) && length > 0x7f;
                shortest.then_some((length, rest))?
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_encoding() {
        assert_eq!(Der(&[4, 1, 7]).take(OCTET_STRING), Some(&[7][..]));
        let long = [&[4, 0x81, 0x80][..], &[0; 128]].concat();
        assert_eq!(Der(&long).take(OCTET_STRING).map(<[u8]>::len), Some(128));
        for wrong in [&[4, 0x81, 1, 7][..], &[4, 0x82, 0, 0x80], &[4, 0x80, 0, 0], &[4, 2, 7], &[4], &[]] {
            assert_eq!(Der(wrong).take(OCTET_STRING), None, "{wrong:?}");
        }
    }
}
