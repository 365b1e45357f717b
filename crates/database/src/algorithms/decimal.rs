//! Decimal numbers in text form, exactly: rounding to multiples must not pass through binary fractions, whose last digits
//! would tell what was rounded away.

/// `mantissa / 10^scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    mantissa: i128,
    scale: u32,
}

/// No number of more digits is rounded.
const MAX_DIGITS: usize = 36;

impl Decimal {
    /// `-12.50`, `1e-7`. `None`: no number, or too long.
    fn parse(text: &str) -> Option<Self> {
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match digits.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, digits.strip_prefix('+').unwrap_or(digits)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|it| it.is_ascii_digit()) {
            return None;
        }
        let kept = all.trim_start_matches('0');
        if kept.len() > MAX_DIGITS {
            return None;
        }
        let mantissa: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
        let mantissa = if negative { -mantissa } else { mantissa };
        let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        match u32::try_from(scale) {
            Ok(scale) => Some(Self { mantissa, scale }),
            Err(_) => Some(Self { mantissa: mantissa.checked_mul(power(scale.unsigned_abs())?)?, scale: 0 }),
        }
    }

    fn at_scale(self, scale: u32) -> Option<i128> {
        self.mantissa.checked_mul(power(scale.checked_sub(self.scale)?)?)
    }

    fn write(self) -> String {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.mantissa.unsigned_abs(), width = self.scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.scale as usize);
        match fraction.trim_end_matches('0') {
            "" => format!("{sign}{whole}"),
            fraction => format!("{sign}{whole}.{fraction}"),
        }
    }
}

fn power(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

/// The nearest multiple of `step`, ties away from zero. `None`: not a number that has one.
pub fn round_to(text: &str, step: f64) -> Option<String> {
    let (value, step) = (Decimal::parse(text)?, Decimal::parse(&format!("{step}"))?);
    let scale = value.scale.max(step.scale);
    let (value, step) = (value.at_scale(scale)?, step.at_scale(scale)?);
    if step <= 0 {
        return None;
    }
    let (count, rest) = (value / step, value % step);
    let away = rest.unsigned_abs().checked_mul(2)? >= step.unsigned_abs();
    let count = if away { count.checked_add(value.signum())? } else { count };
    Some(Decimal { mantissa: count.checked_mul(step)?, scale }.write())
}

/// Whether a text is a decimal number of a length that `numeric` takes without loss.
pub fn is_numeric(text: &str) -> bool {
    !text.contains(['e', 'E']) && Decimal::parse(text).is_some()
}

/// Which of two decimal numbers is greater. `None`: one is no number.
pub fn compare(one: &str, other: &str) -> Option<std::cmp::Ordering> {
    let (one, other) = (Decimal::parse(one)?, Decimal::parse(other)?);
    let scale = one.scale.max(other.scale);
    Some(one.at_scale(scale)?.cmp(&other.at_scale(scale)?))
}

/// The one text of a decimal number.
pub fn canonical(text: &str) -> Option<String> {
    Decimal::parse(text).map(Decimal::write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_exactly_and_ties_away_from_zero() {
        for (value, step, expected) in [
            ("12", 5.0, "10"),
            ("13", 5.0, "15"),
            ("12.5", 5.0, "15"),
            ("-12.5", 5.0, "-15"),
            ("-12", 5.0, "-10"),
            ("0.3", 0.1, "0.3"),
            ("0.1500000000000000001", 0.1, "0.2"),
            ("0.14999999999999999", 0.1, "0.1"),
            ("1e3", 7.0, "1001"),
            ("2", 3.0, "3"),
            ("1.5", 3.0, "3"),
            ("1.4", 3.0, "0"),
            ("9223372036854775807", 1000.0, "9223372036854776000"),
            ("1.25e-3", 0.0005, "0.0015"),
        ] {
            assert_eq!(round_to(value, step).as_deref(), Some(expected), "{value} {step}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_rounded() {
        for value in ["", "-", ".", "NaN", "Infinity", "1e999999", "1_0", "0x1", &"9".repeat(60)] {
            assert_eq!(round_to(value, 1.0), None, "{value}");
        }
        for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(round_to("1", step), None, "{step}");
        }
    }

    #[test]
    fn numbers_have_one_text() {
        for (text, expected) in
            [("+1.50", "1.5"), ("-0", "0"), ("007", "7"), ("0.10", "0.1"), ("-0.5", "-0.5")]
        {
            assert_eq!(canonical(text).as_deref(), Some(expected));
        }
    }

    proptest::proptest! {
        #[test]
        fn the_result_is_a_multiple_and_no_other_is_nearer(value in -1_000_000i64..1_000_000, step in 1i64..5000) {
            let result: i64 = round_to(&value.to_string(), step as f64).unwrap().parse().unwrap();
            assert_eq!(result % step, 0);
            assert!((result - value).abs() * 2 <= step);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.eE]{0,50}", step in proptest::num::f64::ANY) {
            let _ = round_to(&text, step);
            let _ = compare(&text, "1.5");
        }
    }
}
