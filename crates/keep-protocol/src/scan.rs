//! Where the first CBOR item of some bytes ends, and whether it is built as ours are. Nothing is stored, so it bounds
//! what the decoder behind it will.

use crate::{ProtocolError, error::Fault};

/// The deepest message, a package by a signer of a Sigstore instance, has nine levels.
const MAX_DEPTH: usize = 9;
/// Items within one message; a byte or text string counts as one.
const MAX_ITEMS: usize = 32_768;

/// The length of the item that `bytes` begin with, or `None` while it is not whole.
pub(crate) fn item(bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    // How many items each open array or map still waits for.
    let mut open: Vec<u64> = Vec::new();
    let mut offset = 0;
    for _ in 0..MAX_ITEMS {
        let fault = |fault| ProtocolError::Structure { fault, offset };
        let Some(head) = head(&bytes[offset..]).map_err(fault)? else { return Ok(None) };
        let children = match head.major {
            0 | 7 => 0,
            1 => return Err(fault(Fault::Negative)),
            2 | 3 => 0,
            4 => head.argument,
            5 => head.argument.checked_mul(2).ok_or(fault(Fault::Items))?,
            _ => return Err(fault(Fault::Tag)),
        };
        if children > MAX_ITEMS as u64 {
            return Err(fault(Fault::Items));
        }
        if children > 0 && open.len() == MAX_DEPTH {
            return Err(fault(Fault::Depth));
        }
        let content = if matches!(head.major, 2 | 3) { head.argument } else { 0 };
        let end = (offset as u64 + head.size as u64).saturating_add(content);
        match usize::try_from(end) {
            Ok(end) if end <= bytes.len() => offset = end,
            _ => return Ok(None),
        }
        if children > 0 {
            open.push(children);
            continue;
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return Ok(Some(offset));
        }
    }
    Err(ProtocolError::Structure { fault: Fault::Items, offset })
}

struct Head {
    major: u8,
    argument: u64,
    size: usize,
}

fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let Some((&initial, rest)) = bytes.split_first() else { return Ok(None) };
    let (major, information) = (initial >> 5, initial & 0x1f);
    if major == 7 {
        return match information {
            20..=22 => Ok(Some(Head { major, argument: 0, size: 1 })),
            31 => Err(Fault::Indefinite),
            _ => Err(Fault::Simple),
        };
    }
    let width = match information {
        0..=23 => return Ok(Some(Head { major, argument: information.into(), size: 1 })),
        24..=27 => 1 << (information - 24),
        31 => return Err(Fault::Indefinite),
        _ => return Err(Fault::Reserved),
    };
    let Some(digits) = rest.get(..width) else { return Ok(None) };
    let argument = digits.iter().fold(0, |value: u64, digit| (value << 8) | u64::from(*digit));
    let shortest = match width {
        1 => 24,
        2 => 1 << 8,
        4 => 1 << 16,
        _ => 1 << 32,
    };
    if argument < shortest {
        return Err(Fault::LongHead);
    }
    Ok(Some(Head { major, argument, size: 1 + width }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> Fault {
        match item(bytes) {
            Err(ProtocolError::Structure { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn items_end_where_they_end() {
        let whole = [0xa1, 0x61, b'a', 0x82, 0x18, 0x20, 0x43, 1, 2, 3, 0xff];
        assert_eq!(item(&whole), Ok(Some(10)));
        for cut in 0..10 {
            assert_eq!(item(&whole[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(item(&[0xa0]), Ok(Some(1)));
        assert_eq!(item(&[0x80]), Ok(Some(1)));
    }

    #[test]
    fn what_no_message_has_is_refused() {
        assert_eq!(fault(&[0x18, 0x17]), Fault::LongHead);
        assert_eq!(fault(&[0x5b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Fault::LongHead);
        assert_eq!(fault(&[0x5f]), Fault::Indefinite);
        assert_eq!(fault(&[0xff]), Fault::Indefinite);
        assert_eq!(fault(&[0x1c]), Fault::Reserved);
        assert_eq!(fault(&[0xc0, 0x00]), Fault::Tag);
        assert_eq!(fault(&[0xfb, 0, 0, 0, 0, 0, 0, 0, 0]), Fault::Simple);
        assert_eq!(fault(&[0x20]), Fault::Negative);
        assert_eq!(fault(&[0x81; 64]), Fault::Depth);
    }

    #[test]
    fn announced_sizes_reserve_nothing() {
        assert_eq!(fault(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Fault::Items);
        assert_eq!(fault(&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Fault::Items);
        assert_eq!(item(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Ok(None));
        let mut many = vec![0x99, 0x80, 0x00];
        many.extend(vec![0; 32_768]);
        assert_eq!(fault(&many), Fault::Items);
    }
}
