//! Text to bytes and quantities: base64 and hexadecimal as Go reads them, sizes and durations with their
//! units, PEM. Each either reads all of its input or says no; nothing is padded, cut or guessed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::pem::Pem;

/// Standard base64 with padding; line breaks are skipped, as Go's decoder does.
#[must_use]
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(joined).ok()
}

/// Hexadecimal digits in pairs, in either case.
#[must_use]
pub fn hex(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok()
}

/// `64MiB`: a whole number of KiB, MiB or GiB, not zero.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (count, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    whole(count)?.checked_mul(unit)
}

/// `500ms` or `2s`: a whole number of milliseconds or seconds, not zero, at most an hour.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1000)];
    let (count, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let duration = Duration::from_millis(whole(count)?.checked_mul(unit)?);
    (duration <= Duration::from_secs(3600)).then_some(duration)
}

/// `48h`: a whole number of minutes, hours or days, not zero, at most 365 days.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    let units = [("m", 60), ("h", 3600), ("d", 24 * 3600)];
    let (count, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let span = Duration::from_secs(whole(count)?.checked_mul(unit)?);
    (span <= Duration::from_secs(365 * 24 * 3600)).then_some(span)
}

fn whole(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && *number > 0)
}

/// The contents of the one PEM block in a text, if its label is the expected one.
///
/// # Errors
/// What else it is, in words.
pub fn pem(text: &str, label: &str) -> Result<Vec<u8>, String> {
    let mut blocks = Pem::iter_from_buffer(text.as_bytes());
    let block = match blocks.next() {
        None => return Err(format!("there is no PEM block of type {label}")),
        Some(Err(error)) => return Err(format!("this is not PEM: {error}")),
        Some(Ok(block)) => block,
    };
    if block.label != label {
        return Err(format!(
            "expected a PEM block of type {label}, found {}",
            crate::fault::shown(&block.label)
        ));
    }
    if blocks.next().is_some() {
        return Err("there is more than one PEM block".to_owned());
    }
    Ok(block.contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("1GiB"), Some(1 << 30));
        for text in
            ["64", "64MB", "64 MiB", "-1MiB", "+1MiB", "0MiB", "1.5GiB", "MiB", "99999999999999999999GiB", ""]
        {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(size("18446744073709551615GiB"), None);
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Some(Duration::from_secs(2)));
        for text in ["500", "0s", "2m", "1.5s", "3601s", "-1s", "s", "18446744073709551615s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn base64_is_strict_but_for_line_breaks() {
        assert_eq!(base64("aGk=").as_deref(), Some(&b"hi"[..]));
        assert_eq!(base64("aG\r\nk=").as_deref(), Some(&b"hi"[..]));
        assert_eq!(base64("aGk"), None);
        assert_eq!(base64("aG k="), None);
        assert_eq!(base64("aGl="), None, "trailing bits");
    }
}
