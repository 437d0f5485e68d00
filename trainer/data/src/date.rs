//! Dates as text, and what a model sees of them.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use trainyard_core::schema::DatePart;

use crate::error::{DataError, quoted};

/// What a schema calls dates in ISO 8601.
const ISO_8601: &str = "iso8601";

const SECONDS_PER_DAY: f64 = 86_400.0;

/// How a date is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DateFormat {
    /// `2024-12-31`, `2024-12-31 23:59`, `2024-12-31T23:59:59.5Z`, `2024-12-31T23:59:59+02:00`, also mixed.
    Iso8601,
    /// In the notation of `strftime`.
    Custom(String),
}

/// Formats that are tried where none is given, in this order.
pub(crate) const INFERRED: [&str; 9] = [
    ISO_8601,
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d-%m-%Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%d.%m.%Y %H:%M",
];

impl DateFormat {
    /// The format that a schema or an option names.
    ///
    /// # Errors
    /// If it cannot be the format of a date.
    pub(crate) fn new(format: &str) -> Result<Self, DataError> {
        if format == ISO_8601 {
            return Ok(Self::Iso8601);
        }
        let custom = Self::Custom(format.to_owned());
        // A format is right if what it writes can be read, and names year, month and day.
        let example = Date::constant(2001, 2, 3).at(4, 5, 6, 0);
        let written = custom.write(example);
        match written.as_deref().map(|text| custom.read(text)) {
            Some(Some(seconds))
                if civil(seconds).is_some_and(|read| read.date() == example.date()) =>
            {
                Ok(custom)
            }
            _ => Err(DataError::options(
                format!("{} is not the format of a date", quoted(format)),
                "write it with %Y, %m, %d, %H, %M and %S, such as \"%d.%m.%Y\"",
            )),
        }
    }

    /// Seconds since 1970-01-01T00:00:00 UTC; where the text names no offset, as if it were in UTC. `None` if the
    /// text is no such date.
    pub(crate) fn read(&self, text: &str) -> Option<f64> {
        let time = match self {
            Self::Iso8601 => iso8601(text)?,
            Self::Custom(format) if format.contains("%Y") && !has_year(text) => return None,
            Self::Custom(format) => custom(format, text)?,
        };
        Some(time.as_duration().as_secs_f64())
    }

    /// Whether its dates have a time of day.
    pub(crate) fn has_time(&self) -> bool {
        match self {
            Self::Iso8601 => true,
            Self::Custom(format) => ["%H", "%I", "%k", "%l", "%T", "%R", "%s"]
                .iter()
                .any(|time| format.contains(time)),
        }
    }

    /// The text of a point in time, if this format can write it.
    pub(crate) fn write_seconds(&self, seconds: f64) -> Option<String> {
        self.write(civil(seconds)?)
    }

    fn write(&self, time: DateTime) -> Option<String> {
        let Self::Custom(format) = self else {
            return Some(time.to_string());
        };
        let zoned = time.to_zoned(TimeZone::UTC).ok()?;
        BrokenDownTime::from(&zoned).to_string(format).ok()
    }
}

impl fmt::Display for DateFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iso8601 => ISO_8601,
            Self::Custom(format) => format,
        })
    }
}

/// Whether the text has four digits in a row. Else 31.12.98 would be in the year 98.
fn has_year(text: &str) -> bool {
    let mut runs = text
        .as_bytes()
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    runs.any(|run| run.len() >= 4 && run[0].is_ascii_digit())
}

fn iso8601(text: &str) -> Option<Timestamp> {
    // An offset or a Z makes a point in time; a date alone would be one too, if it had an offset.
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    // Without this a digit string such as 20241231, or 2024, would be a date.
    let dashed = matches!(text.as_bytes(), [_, _, _, _, b'-', _, _, b'-', _, _, ..]);
    let time: DateTime = text.parse().ok().filter(|_| dashed)?;
    in_utc(time)
}

fn custom(format: &str, text: &str) -> Option<Timestamp> {
    let parsed = BrokenDownTime::parse(format, text).ok()?;
    if let Ok(time) = parsed.to_timestamp() {
        return Some(time);
    }
    let date = parsed.to_date().ok()?;
    in_utc(date.to_datetime(parsed.to_time().unwrap_or(Time::midnight())))
}

fn in_utc(time: DateTime) -> Option<Timestamp> {
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The date and time of day, in UTC.
fn civil(seconds: f64) -> Option<DateTime> {
    let duration = SignedDuration::try_from_secs_f64(seconds).ok()?;
    let time = Timestamp::from_duration(duration).ok()?;
    Some(TimeZone::UTC.to_datetime(time))
}

/// A point in time, taken apart.
pub(crate) struct Moment {
    seconds: f64,
    civil: Option<DateTime>,
}

impl Moment {
    /// The one that is `seconds` after 1970-01-01T00:00:00 UTC.
    pub(crate) fn at(seconds: f64) -> Self {
        Self {
            seconds,
            civil: civil(seconds),
        }
    }

    /// A part of it; `None` beyond the years -9999 to 9999.
    pub(crate) fn part(&self, part: DatePart) -> Option<f64> {
        if part == DatePart::Elapsed {
            return Some(self.seconds / SECONDS_PER_DAY);
        }
        let time = self.civil?;
        Some(match part {
            DatePart::Elapsed => self.seconds / SECONDS_PER_DAY,
            DatePart::Year => time.year().into(),
            DatePart::Month => time.month().into(),
            DatePart::Day => time.day().into(),
            DatePart::DayOfWeek => time.weekday().to_monday_zero_offset().into(),
            DatePart::DayOfYear => time.day_of_year().into(),
            DatePart::Hour => {
                let (minutes, seconds) = (f64::from(time.minute()), f64::from(time.second()));
                f64::from(time.hour()) + (minutes * 60.0 + seconds) / 3600.0
            }
        })
    }
}

/// A point in time as a text in ISO 8601; a date alone if it is a day's first moment.
pub(crate) fn iso_text(seconds: f64) -> String {
    match civil(seconds) {
        Some(time) if time.time() == Time::midnight() => time.date().to_string(),
        Some(time) => time.to_string(),
        None => seconds.to_string(),
    }
}

/// The parts that a model sees where none are named.
pub(crate) fn default_parts(format: &DateFormat) -> Vec<DatePart> {
    use DatePart::{Day, DayOfWeek, DayOfYear, Elapsed, Hour, Month, Year};
    let mut parts = vec![Elapsed, Year, Month, Day, DayOfWeek, DayOfYear];
    if format.has_time() {
        parts.push(Hour);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, text: &str) -> Option<f64> {
        DateFormat::new(format).unwrap().read(text)
    }

    #[test]
    fn dates_are_seconds_in_utc() {
        assert_eq!(read("iso8601", "1970-01-02"), Some(86_400.0));
        assert_eq!(read("iso8601", "1970-01-01 01:00"), Some(3_600.0));
        assert_eq!(read("iso8601", "1970-01-01T01:00:00.5"), Some(3_600.5));
        assert_eq!(read("iso8601", "1970-01-01T02:00:00+02:00"), Some(0.0));
        assert_eq!(read("iso8601", "1969-12-31T23:59:59Z"), Some(-1.0));
        assert_eq!(read("%d.%m.%Y", "02.01.1970"), Some(86_400.0));
        assert_eq!(read("%m/%d/%Y %H:%M", "01/02/1970 00:01"), Some(86_460.0));
        assert_eq!(read("%d-%b-%Y", "2-Jan-1970"), Some(86_400.0));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "2024",
            "20240131",
            "2024-13-01",
            "2024-02-30",
            "12:30",
            "today",
            "1.5",
            "2024-01-01x",
        ] {
            assert_eq!(read("iso8601", text), None, "{text}");
        }
        assert_eq!(read("%d.%m.%Y", "31.12.98"), None);
        assert_eq!(read("%d.%m.%Y", "1.2.3"), None);
        assert_eq!(read("%d.%m.%y", "31.12.98"), read("iso8601", "1998-12-31"));
        assert_eq!(read("%d.%m.%Y", "31.02.2024"), None);
        assert_eq!(read("%d.%m.%Y", "01.02.2024 10:00"), None);
    }

    #[test]
    fn a_format_that_names_no_date_is_refused() {
        for format in ["", "%", "%H:%M", "%Y", "%Y-%m", "%Q", "day"] {
            let error = DateFormat::new(format).unwrap_err();
            assert!(
                error.problem.contains("is not the format of a date"),
                "{format}: {error}"
            );
        }
    }

    #[test]
    fn inferred_formats_are_formats() {
        for format in INFERRED {
            assert_eq!(DateFormat::new(format).unwrap().to_string(), format);
        }
    }

    #[test]
    fn parts_are_those_of_the_calendar() {
        let seconds = read("iso8601", "2024-12-31 18:30:36").unwrap();
        let of = |name| Moment::at(seconds).part(name).unwrap();
        assert_eq!(of(DatePart::Year), 2024.0);
        assert_eq!(of(DatePart::Month), 12.0);
        assert_eq!(of(DatePart::Day), 31.0);
        assert_eq!(of(DatePart::DayOfWeek), 1.0, "a Tuesday");
        assert_eq!(of(DatePart::DayOfYear), 366.0);
        assert_eq!(of(DatePart::Hour), 18.51);
        assert_eq!(of(DatePart::Elapsed), seconds / 86_400.0);
        assert_eq!(Moment::at(1e300).part(DatePart::Year), None);
        assert_eq!(Moment::at(f64::NAN).part(DatePart::Year), None);
    }
}
