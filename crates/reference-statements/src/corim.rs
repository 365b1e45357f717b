//! Signed CoRIMs as statements. A CoRIM has neither series nor serial: its identity is the series, and the beginning of
//! its validity, which it must have, is what it is ordered by.

use appraisal::{CorimPolicy, ReadReferences, ReferencesRefused, UnixTime, Unsigned};
use crypto_aws_lc::AwsLc;
use evidence::corim::{Document, Validity};

use crate::refused::Refused;
use crate::signer::{Signer, Signers};
use crate::values::Values;

pub(crate) fn verify(bytes: &[u8], signers: &Signers) -> Result<(Vec<String>, Values), Refused> {
    let document = Document::parse(bytes).map_err(ReferencesRefused::from)?;
    let Document::Signed(signed) = &document else { return Err(Refused::Unsigned) };
    let (outer, corim) = (signed.signature_validity(), signed.unverified());
    let (issued, expires) = span(outer, corim.validity)?;
    let (mut by, mut values) = (Vec::new(), None);
    for (name, signer) in signers.iter() {
        let Signer::Corim(anchors) = signer else { continue };
        let policy = CorimPolicy { signers: anchors, unsigned: Unsigned::Refused };
        // Held at a time when it holds: whether it does now is asked at each use.
        match ReadReferences::from_file_bytes(bytes, policy, issued, &AwsLc) {
            Ok(read) => {
                by.push(name.to_owned());
                values = Some(read.reference_values);
            }
            Err(ReferencesRefused::UnknownSigner { .. }) => {}
            Err(refused) => return Err(refused.into()),
        }
    }
    let Some(reference_values) = values else {
        return Err(Refused::UnknownSigner { known: signers.len(), reasons: Vec::new() });
    };
    let values = Values {
        series: corim.id.clone(),
        serial: u64::try_from(issued.0).map_err(|_| Refused::malformed("CoRIM", "it begins before 1970"))?,
        issued,
        not_before: None,
        expires,
        subjects: Default::default(),
        reference_values,
    };
    Ok((by, values.checked()?))
}

/// When both signature and manifest hold.
fn span(outer: Validity, inner: Validity) -> Result<(UnixTime, UnixTime), Refused> {
    let begins = [outer.not_before, inner.not_before].into_iter().flatten().max();
    let ends = [outer.not_after, inner.not_after].into_iter().flatten().min();
    let begins =
        begins.ok_or_else(|| Refused::malformed("CoRIM", "it does not say from when on it holds"))?;
    Ok((UnixTime(begins), UnixTime(ends.ok_or(Refused::NoExpiry)?)))
}
