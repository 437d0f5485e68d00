//! Numbers, durations and times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Four significant digits: `0.08127`, `12.35`, `1235`; very large and very small values in
/// scientific notation.
pub fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    // The exponent after rounding to four digits, so that 9.9996 becomes 10.00, not 10.000.
    let scientific = format!("{value:.3e}");
    let exponent = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    match exponent {
        Some(exponent @ -4..=5) => format!("{value:.*}", (3 - exponent).max(0) as usize),
        _ => scientific,
    }
}

/// A metric by its name: losses and errors with four significant digits, scores with four decimals.
pub fn metric(name: &str, value: f64) -> String {
    match name {
        "loss" | "rmse" | "mae" => significant(value),
        _ if value.abs() < 100.0 => format!("{value:.4}"),
        _ => significant(value),
    }
}

/// An integer with thousands separators: `12,345`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 worker`, `2 workers`, `1,024 leaves`.
pub fn count(value: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        thousands(value),
        if value == 1 { one } else { many }
    )
}

/// A rate: thousands separators, and one decimal below ten.
pub fn rate(per_second: f64) -> String {
    if per_second < 9.95 {
        format!("{per_second:.1}")
    } else {
        thousands(per_second.round() as u64)
    }
}

/// The two greatest units of a duration: `45s`, `1m 05s`, `2h 03m`, `3d 04h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m {:02}s", seconds % 60),
        () if days == 0 => format!("{hours}h {:02}m", minutes % 60),
        () => format!("{days}d {:02}h", hours % 24),
    }
}

/// As [`duration`], but with one decimal below ten seconds: `2.4s`.
pub fn elapsed(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{:.1}s", seconds.max(0.0));
    }
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "ages".into(), duration)
}

/// RFC 3339 in UTC with milliseconds: `2026-11-23T22:39:22.125Z`. A time before 1970 is shown as
/// the start of 1970.
///
/// The calendar is Howard Hinnant's `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>).
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01: leap days come last in a year
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_have_four_significant_digits() {
        let cases = [
            (0.081_274_9, "0.08127"),
            (0.5, "0.5000"),
            (9.999_6, "10.00"),
            (0.999_96, "1.000"),
            (1234.5, "1234"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.235e6"),
            (0.000_123_44, "0.0001234"),
            (0.000_012_344, "1.234e-5"),
            (-0.25, "-0.2500"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (f64::MAX, "1.798e308"),
            (5e-324, "4.941e-324"),
        ];
        for (value, expected) in cases {
            assert_eq!(significant(value), expected);
        }
    }

    #[test]
    fn scores_have_four_decimals() {
        assert_eq!(metric("accuracy", 0.956_14), "0.9561");
        assert_eq!(metric("rmse", 53.123_4), "53.12");
        assert_eq!(metric("r2", -12_345.6), "-12346");
        assert_eq!(metric("r2", -0.5), "-0.5000");
    }

    #[test]
    fn thousands_are_separated() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345, "12,345"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (value, expected) in cases {
            assert_eq!(thousands(value), expected);
        }
        assert_eq!(count(1, "leaf", "leaves"), "1 leaf");
        assert_eq!(count(0, "leaf", "leaves"), "0 leaves");
        assert_eq!(count(4096, "leaf", "leaves"), "4,096 leaves");
    }

    #[test]
    fn rates_below_ten_have_a_decimal() {
        assert_eq!(rate(0.25), "0.2");
        assert_eq!(rate(9.94), "9.9");
        assert_eq!(rate(9.96), "10");
        assert_eq!(rate(12_344.6), "12,345");
        assert_eq!(rate(f64::INFINITY), thousands(u64::MAX));
    }

    #[test]
    fn durations_show_two_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 00s"),
            (65, "1m 05s"),
            (3599, "59m 59s"),
            (7380, "2h 03m"),
            (86_399, "23h 59m"),
            (273_600, "3d 04h"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(duration(Duration::from_millis(59_600)), "1m 00s");
        assert_eq!(elapsed(2.44), "2.4s");
        assert_eq!(elapsed(9.97), "10s");
        assert_eq!(elapsed(-1.0), "0.0s");
        assert_eq!(elapsed(1e300), "ages");
    }

    #[test]
    fn times_are_rfc_3339() {
        let at =
            |seconds, millis: u32| rfc3339(UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(951_868_799, 999), "2000-02-29T23:59:59.999Z");
        assert_eq!(at(951_868_800, 0), "2000-03-01T00:00:00.000Z");
        assert_eq!(at(1_704_067_199, 1), "2023-12-31T23:59:59.001Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(at(1_795_473_562, 125), "2026-11-23T22:39:22.125Z");
        assert_eq!(
            rfc3339(UNIX_EPOCH - Duration::from_secs(1)),
            "1970-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn the_calendar_counts_every_day_once() {
        // Walks 400 years by the rules of the Gregorian calendar.
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..146_097 {
            let shown = rfc3339(UNIX_EPOCH + Duration::from_secs(days * 86_400));
            assert_eq!(
                shown,
                format!("{year:04}-{month:02}-{day:02}T00:00:00.000Z")
            );
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let length = match month {
                2 => 28 + u32::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
