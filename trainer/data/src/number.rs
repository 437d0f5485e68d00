//! Numbers as text.

/// The largest magnitude an input or target may have; beyond it an f32 is infinite.
pub(crate) const LARGEST: f64 = f32::MAX as f64;

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notation {
    /// The byte before the decimals.
    pub decimal: u8,
    /// The byte between the thousands, if there may be one.
    pub thousands: Option<u8>,
}

impl Notation {
    /// `1234.5`.
    pub(crate) const PLAIN: Self = Self {
        decimal: b'.',
        thousands: None,
    };

    /// Reads a number. The error is the problem in words.
    pub(crate) fn parse(self, text: &str) -> Result<f64, String> {
        if self == Self::PLAIN {
            return parse(text);
        }
        match self.plain(text) {
            Some(plain) => parse(&plain),
            None => Err(format!(
                "expected a number such as {}, found {}",
                self.example(),
                crate::error::quoted(text)
            )),
        }
    }

    /// The same number as `1234.5` would be written; none if it is not written as numbers are.
    fn plain(self, text: &str) -> Option<String> {
        let (sign, text) = match text.as_bytes().first() {
            Some(b'+' | b'-') => text.split_at(1),
            _ => ("", text),
        };
        let exponent = text.find(['e', 'E']).unwrap_or(text.len());
        let (mantissa, exponent) = text.split_at(exponent);
        let (whole, fraction) = match mantissa.split_once(char::from(self.decimal)) {
            Some((whole, fraction)) => (whole, fraction),
            None => (mantissa, ""),
        };
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let whole = self.ungrouped(whole).filter(|whole| is_number(whole))?;
        is_number(fraction).then(|| format!("{sign}{whole}.{fraction}{exponent}"))
    }

    /// The digits of a whole number without what stands between its thousands, which are three digits each.
    fn ungrouped(self, whole: &str) -> Option<String> {
        let Some(separator) = self.thousands else {
            return Some(whole.to_owned());
        };
        let separates = |c: char| match separator {
            // A space that no line is broken at, wide or narrow, stands between thousands too.
            b' ' => matches!(c, ' ' | '\u{a0}' | '\u{202f}'),
            separator => c == char::from(separator),
        };
        let mut groups = whole.split(separates);
        let first = groups.next().unwrap_or_default();
        let mut groups = groups.peekable();
        if groups.peek().is_some() && !(1..=3).contains(&first.len()) {
            return None;
        }
        let mut digits = first.to_owned();
        for group in groups {
            if group.len() != 3 {
                return None;
            }
            digits.push_str(group);
        }
        Some(digits)
    }

    fn example(self) -> String {
        let (thousands, decimal) = (self.thousands.map(char::from), char::from(self.decimal));
        let thousands = thousands.map_or(String::new(), String::from);
        format!("\"1{thousands}234{decimal}5\"")
    }
}

/// Reads a number. The error is the problem in words.
pub(crate) fn parse(text: &str) -> Result<f64, String> {
    let shown = || crate::error::quoted(text);
    let value: f64 = text
        .parse()
        .map_err(|_| format!("expected a number, found {}", shown()))?;
    check(value).map_err(|problem| format!("{problem}, found {}", shown()))?;
    Ok(value)
}

/// Powers of ten that are exact.
const TENS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// Reads a number of few digits without an exponent, as [`parse`] does; `None` for all else.
///
/// Digits that make a whole number below 2^53 are exact, and so is the power of ten that they are divided by: the quotient
/// is the f64 next to the number (Clinger, "How to read floating point numbers accurately", 1990).
pub(crate) fn quick(text: &[u8]) -> Option<f64> {
    let (is_negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // At most 15 digits: below 10^15.
    if text.len() > TENS.len() {
        return None;
    }
    let (mut whole, mut digits, mut decimals) = (0_u64, 0, None);
    for &byte in text {
        match byte {
            b'0'..=b'9' => {
                whole = whole * 10 + u64::from(byte - b'0');
                digits += 1;
            }
            b'.' if decimals.is_none() => decimals = Some(digits),
            _ => return None,
        }
    }
    if digits == 0 || digits == TENS.len() {
        return None;
    }
    let value = whole as f64 / TENS[digits - decimals.unwrap_or(digits)];
    Some(if is_negative { -value } else { value })
}

/// Whether text stands for no number; see [`Missing`](crate::Missing).
pub(crate) fn is_missing(text: &str) -> bool {
    text.is_empty() || text.eq_ignore_ascii_case("NA") || text.eq_ignore_ascii_case("NaN")
}

/// Whether a value is a finite f32 once rounded. The error is the problem in words.
pub(crate) fn check(value: f64) -> Result<(), &'static str> {
    match value.abs() {
        size if size <= LARGEST => Ok(()),
        size if size.is_finite() => Err("expected a number that fits a 32-bit float"),
        _ => Err("expected a finite number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_quickly_is_what_is_read_with_care() {
        for text in [
            "0",
            "-0",
            "1",
            "-1.5",
            ".5",
            "5.",
            "00.10",
            "0.1",
            "0.3",
            "123456789012345",
            "9007199254740993",
            "999999999999.999",
            "0.00000000000001",
            "-.000000000000015",
            "33.3333333333333",
        ] {
            let bits = |value: f64| value.to_bits();
            if let Some(quick) = quick(text.as_bytes()) {
                assert_eq!(Ok(bits(quick)), parse(text).map(bits), "{text}");
            }
        }
        assert!(quick(b"123456789012345").is_some() && quick(b"-12345678.1234567").is_some());
        for text in [
            "",
            "-",
            ".",
            "-.",
            "+1",
            "1e5",
            "1.2.3",
            "NA",
            "1 ",
            "1234567890123456",
            "--1",
            "\u{663}",
        ] {
            assert_eq!(quick(text.as_bytes()), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_short_number_is_read_alike(whole in 0_u64..1_000_000_000_000_000, decimals in 0_usize..15, minus: bool) {
            let digits = format!("{whole:0width$}", width = decimals + 1);
            let (before, after) = digits.split_at(digits.len() - decimals);
            let text = format!("{}{before}.{after}", if minus { "-" } else { "" });
            if let Some(quick) = quick(text.as_bytes()) {
                proptest::prop_assert_eq!(Ok(quick.to_bits()), parse(&text).map(f64::to_bits));
            }
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let of = |decimal: u8, thousands: Option<u8>| Notation { decimal, thousands };
        let comma = of(b',', None);
        for (notation, text, value) in [
            (Notation::PLAIN, "1234.5", 1234.5),
            (comma, "1234,5", 1234.5),
            (comma, "-0,25", -0.25),
            (comma, ",5", 0.5),
            (comma, "5,", 5.0),
            (comma, "1,5e3", 1500.0),
            (of(b',', Some(b'.')), "1.234.567,89", 1_234_567.89),
            (of(b',', Some(b'.')), "1234567,89", 1_234_567.89),
            (of(b'.', Some(b',')), "+12,345", 12_345.0),
            (of(b',', Some(b' ')), "1\u{202f}234\u{a0}567", 1_234_567.0),
            (of(b'.', Some(b'\'')), "1'234.5", 1234.5),
        ] {
            assert_eq!(notation.parse(text), Ok(value), "{text}");
        }
        // What stands in a place that is not its own may mean another number.
        for (notation, text) in [
            (comma, "1.5"),
            (comma, "1,2,3"),
            (comma, ""),
            (comma, "-"),
            (comma, "inf"),
            (comma, "1,5e"),
            (of(b',', Some(b'.')), "1.5"),
            (of(b',', Some(b'.')), "1234.567"),
            (of(b',', Some(b'.')), ".123"),
            (of(b'.', Some(b',')), "1,23"),
            (of(b'.', Some(b',')), "1.234,5"),
            (of(b'.', Some(b' ')), "1 23"),
        ] {
            let error = notation.parse(text).expect_err(text);
            assert!(error.contains("expected a number"), "{text}: {error}");
        }
        let error = of(b',', Some(b'.')).parse("x").unwrap_err();
        assert_eq!(error, "expected a number such as \"1.234,5\", found \"x\"");
    }
}
