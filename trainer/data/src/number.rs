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

/// Powers of ten that are exact, in an f64 too.
const TENS: [u64; 20] = {
    let mut tens = [1; 20];
    let mut power = 1;
    while power < tens.len() {
        tens[power] = tens[power - 1] * 10;
        power += 1;
    }
    tens
};

/// The most digits that [`quick`] reads: they make a whole number below 2^64.
const QUICK_DIGITS: usize = TENS.len() - 1;
/// Below this, which is 2^53, each whole number is an f64.
const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;

/// Reads a number of few digits without an exponent, as [`parse`] does; `None` for all else.
///
/// Eight characters are taken at a time. The bytes of a word are looked at in one step ("Bit Twiddling Hacks", determine if a
/// word has a byte greater than n), and eight digits become a number by three multiplications (Lemire, "Quickly parsing
/// eight digits", 2018).
#[inline]
pub(crate) fn quick(text: &[u8]) -> Option<f64> {
    let (is_negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (whole, decimals) = match text.len() {
        0 => return None,
        1..=8 => short(text)?,
        _ => long(text)?,
    };
    let ten = TENS[decimals];
    let value = match whole < EXACT {
        // Both are exact: the quotient is the f64 next to the number (Clinger, "How to read floating point numbers
        // accurately", 1990).
        true => whole as f64 / ten as f64,
        false => quotient(whole, ten),
    };
    Some(if is_negative { -value } else { value })
}

/// The digits of at most eight characters as a whole number, and how many are decimals.
#[inline]
fn short(text: &[u8]) -> Option<(u64, usize)> {
    let length = text.len();
    let values = word(text) ^ ZEROS;
    let others = others(values);
    let run = first_of(others).min(length);
    if run == length {
        return Some((eight_digits(values << (64 - 8 * length)), 0));
    }
    // The next that is no digit must be the end.
    let is_number = text[run] == b'.' && length > 1 && first_of(others & (others - 1)) >= length;
    let before = (1 << (8 * run)) - 1;
    let digits = values & before | values >> 8 & !before;
    is_number.then(|| (eight_digits(digits << (72 - 8 * length)), length - 1 - run))
}

/// As [`short`], for any number of characters, of which few may be digits.
fn long(text: &[u8]) -> Option<(u64, usize)> {
    if text.len() > QUICK_DIGITS + 1 {
        return None;
    }
    let (mut rest, mut whole, mut digits, mut decimals) = (text, 0_u64, 0, None);
    while !rest.is_empty() {
        let length = rest.len().min(8);
        let values = word(rest) ^ ZEROS;
        let run = first_of(others(values)).min(length);
        digits += run;
        if digits > QUICK_DIGITS {
            return None;
        }
        if run > 0 {
            whole = whole * TENS[run] + eight_digits(values << (64 - 8 * run));
        }
        rest = &rest[run..];
        if run < length {
            if rest[0] != b'.' || decimals.is_some() {
                return None;
            }
            decimals = Some(digits);
            rest = &rest[1..];
        }
    }
    Some((whole, digits - decimals.unwrap_or(digits)))
}

/// The high bit of each byte that is over 9, which is no digit; those above the first may be wrong.
#[inline(always)]
fn others(values: u64) -> u64 {
    (values | values.wrapping_add(EACH * 0x76)) & EACH << 7
}

/// The place of the first byte of which the high bit is set; 8 if there is none.
#[inline(always)]
fn first_of(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// A word of eight bytes 1: times a byte, it has that byte eight times.
const EACH: u64 = u64::from_le_bytes([1; 8]);
/// The text of eight digits 0.
const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// The first eight bytes of a text that is not empty; zeros where it has fewer.
#[inline(always)]
fn word(text: &[u8]) -> u64 {
    let four = |at: usize| -> u64 {
        let bytes = text[at..at + 4].try_into().unwrap_or_default();
        u32::from_le_bytes(bytes).into()
    };
    match text.len() {
        8.. => u64::from_le_bytes(text[..8].try_into().unwrap_or_default()),
        // Two halves that overlap have the same bytes where they do.
        length @ 4.. => four(0) | four(length - 4) << (8 * (length - 4)),
        length => {
            let byte = |at: usize| u64::from(text[at]) << (8 * at);
            byte(0) | byte(length / 2) | byte(length - 1)
        }
    }
}

/// The number that eight digits make, of which the first is the lowest byte.
#[inline(always)]
fn eight_digits(values: u64) -> u64 {
    const BYTES: u64 = 0x0000_00FF_0000_00FF;
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let upper = (pairs & BYTES).wrapping_mul(100 + (1_000_000 << 32));
    let lower = (pairs >> 16 & BYTES).wrapping_mul(1 + (10_000 << 32));
    upper.wrapping_add(lower) >> 32
}

/// The f64 next to the quotient of two whole numbers that are not 0; of two that are as near, the even one.
fn quotient(dividend: u64, divisor: u64) -> f64 {
    let (up, down) = (dividend.leading_zeros(), divisor.leading_zeros());
    let (dividend, divisor) = (
        u128::from(dividend << up) << 63,
        u128::from(divisor << down),
    );
    // At least 63 bits, and at most 64: the dividend is between a half and twice the divisor, times 2^63.
    let (bits, rest) = ((dividend / divisor) as u64, dividend % divisor);
    let dropped = 64 - f64::MANTISSA_DIGITS - bits.leading_zeros();
    let (kept, half) = (bits >> dropped, 1 << (dropped - 1));
    let below = bits & ((1 << dropped) - 1);
    let is_up = below > half || below == half && (rest > 0 || kept % 2 == 1);
    let exponent = dropped as i32 - 63 + down as i32 - up as i32;
    // Both factors are exact, and so is their product: no exponent is near the least or the greatest.
    let two_to = f64::from_bits(((1023 + exponent) as u64) << (f64::MANTISSA_DIGITS - 1));
    (kept + u64::from(is_up)) as f64 * two_to
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
            "12345678",
            "1234567.8",
            "123456789.01234567",
            "9007199254740993.5",
            "9007199254740992.5",
            "9007199254740991.5",
            "9999999999999999999",
            "0.9999999999999999999",
            ".9999999999999999999",
            "123.45000000000002",
            "0.1000000000000000055",
            "1234567890123456789",
        ] {
            let bits = |value: f64| value.to_bits();
            if let Some(quick) = quick(text.as_bytes()) {
                assert_eq!(Ok(bits(quick)), parse(text).map(bits), "{text}");
            }
        }
        let long = [
            "123456789012345",
            "-12345678.1234567",
            "9007199254740993",
            "-123456789.0123456789",
        ];
        assert!(long.iter().all(|text| quick(text.as_bytes()).is_some()));
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
            "12345678901234567890",
            "0.00000000000000000001",
            "1234567.89.1",
            "--1",
            "\u{663}",
        ] {
            assert_eq!(quick(text.as_bytes()), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_short_number_is_read_alike(
            whole in proptest::prop_oneof![0_u64..1000, 0_u64..1_000_000_000, 0_u64..10_000_000_000_000_000_000],
            decimals in 0_usize..20,
            minus: bool,
        ) {
            let digits = format!("{whole:0width$}", width = decimals + 1);
            let (before, after) = digits.split_at(digits.len() - decimals);
            let text = format!("{}{before}.{after}", if minus { "-" } else { "" });
            let quick = quick(text.as_bytes());
            proptest::prop_assert!(quick.is_some() || digits.len() > QUICK_DIGITS);
            if let Some(quick) = quick {
                proptest::prop_assert_eq!(Ok(quick.to_bits()), parse(&text).map(f64::to_bits));
            }
        }

        /// Halves between two floats are the hardest.
        #[test]
        fn numbers_near_the_middle_of_two_floats_are_read_alike(
            mantissa in EXACT..10_000_000_000_000_000, off in -2_i64..3, tail in 0_u64..1000,
        ) {
            for text in [
                format!("{}.5", mantissa.wrapping_add_signed(off)),
                format!("{mantissa}.{tail:03}"),
                format!("{}", mantissa * 512 + 256),
            ] {
                if let Some(quick) = quick(text.as_bytes()) {
                    proptest::prop_assert_eq!(Ok(quick.to_bits()), parse(&text).map(f64::to_bits));
                }
            }
        }

        #[test]
        fn any_text_is_no_other_number(text in "-?[0-9.+eE:/ ]{0,22}") {
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
