//! Sizes and spans as people write them: `64MiB`, `250ms`.

use std::time::Duration;

/// `N`, `NKiB`, `NMiB`, `NGiB`: bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("{text:?} is no size: a whole number and B, KiB, MiB or GiB")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is no size: a whole number and B, KiB, MiB or GiB"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// `Nms`, `Ns`, `Nm`, `Nh`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text:?} is no time: a whole number and ms, s, m or h")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is no time: a whole number and ms, s, m or h"))?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(|| format!("{text:?} is too long"))
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}
