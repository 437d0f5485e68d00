//! The values of a column as read: what its text stands for.

use trainyard_core::metrics::Task;
use trainyard_core::schema::{ColumnKind, DatePart};

use crate::classes::{Interner, append_codes, class_number};
use crate::date::DateFormat;
use crate::error::{DataError, few, quoted};
use crate::number::Notation;
use crate::options::Limits;

/// How the text of a column is read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ColumnType {
    Number,
    Category {
        /// Whether categories that all are numbers are compared as such.
        by_value: bool,
    },
    Boolean,
    /// Categories, lowest first.
    Ordinal(Vec<String>),
    Date {
        format: DateFormat,
        parts: Vec<DatePart>,
    },
}

impl ColumnType {
    /// How labels are read.
    pub(crate) fn of_label(task: Task) -> Self {
        match task {
            Task::Binary | Task::Multiclass => Self::Category { by_value: false },
            Task::Regression => Self::Number,
        }
    }

    /// How a column of this kind was read when it was fitted.
    ///
    /// # Errors
    /// If the kind names no format of a date.
    pub(crate) fn fitted(kind: &ColumnKind) -> Result<Self, DataError> {
        Ok(match kind {
            ColumnKind::Numeric { .. } => Self::Number,
            ColumnKind::Categorical { numeric, .. } => Self::Category { by_value: *numeric },
            ColumnKind::Boolean { .. } => Self::Boolean,
            ColumnKind::Ordinal { categories, .. } => Self::Ordinal(categories.clone()),
            ColumnKind::Date { format, parts, .. } => Self::Date {
                format: DateFormat::new(format)?,
                parts: parts.iter().map(|input| input.part).collect(),
            },
        })
    }

    /// The number that stands for `text`, which is not missing.
    ///
    /// # Errors
    /// The problem in words.
    pub(crate) fn number(&self, text: &str, notation: Notation) -> Result<f64, String> {
        let expected = |what: &str| format!("expected {what}, found {}", quoted(text));
        match self {
            Self::Number | Self::Category { .. } => notation.parse(text),
            Self::Boolean => match boolean(text) {
                Some(value) => Ok(f64::from(u8::from(value))),
                None => Err(expected("a boolean (true or false, yes or no, 1 or 0)")),
            },
            Self::Ordinal(categories) => {
                let place = categories.iter().position(|name| name == text);
                let place = place.or_else(|| {
                    let value = class_number(text)?;
                    categories
                        .iter()
                        .position(|name| class_number(name) == Some(value))
                });
                place
                    .map(|place| place as f64)
                    .ok_or_else(|| expected(&format!("one of the categories {}", few(categories))))
            }
            Self::Date { format, .. } => format
                .read(text)
                .ok_or_else(|| expected(&format!("a date as {format}"))),
        }
    }

    /// Values of this type, none yet.
    pub(crate) fn values(&self) -> RawValues {
        match self {
            Self::Category { .. } => RawValues::Codes {
                names: Interner::default(),
                codes: Vec::new(),
            },
            _ => RawValues::Numbers(Vec::new()),
        }
    }
}

/// Pairs of words for no and yes, in lower case.
const BOOLEANS: [(&str, &str); 6] = [
    ("false", "true"),
    ("no", "yes"),
    ("f", "t"),
    ("n", "y"),
    ("off", "on"),
    ("0", "1"),
];

/// The pairs of words of which a text is one, a bit each.
pub(crate) fn pairs_of(text: &str) -> u8 {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    let bits = BOOLEANS
        .iter()
        .enumerate()
        .map(|(place, (no, yes))| u8::from(is(no) || is(yes)) << place);
    bits.sum()
}

/// The boolean that a text stands for, in any case of letters; `1` and `0` in any form of the number.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    for (no, yes) in BOOLEANS {
        if text.eq_ignore_ascii_case(no) {
            return Some(false);
        }
        if text.eq_ignore_ascii_case(yes) {
            return Some(true);
        }
    }
    match class_number(text)? {
        0.0 => Some(false),
        1.0 => Some(true),
        _ => None,
    }
}

/// Values of a column.
#[derive(Clone, Debug)]
pub(crate) enum RawValues {
    /// Numbers, or what numbers stand for: 0 or 1, places of categories, seconds; NaN where missing.
    Numbers(Vec<f64>),
    /// Categories; [`NO_CATEGORY`] where missing.
    Codes { names: Interner, codes: Vec<u32> },
}

/// The code of a missing category.
pub(crate) const NO_CATEGORY: u32 = u32::MAX;

impl RawValues {
    /// Adds a value that is not missing. `bytes` grows with the names of categories.
    ///
    /// # Errors
    /// If the text stands for no value of the type, or for one category too many. `remedy` is what to do about the
    /// former.
    pub(crate) fn push(
        &mut self,
        text: &str,
        kind: &ColumnType,
        notation: Notation,
        remedy: impl FnOnce() -> String,
        limits: &Limits,
        bytes: &mut u64,
    ) -> Result<(), DataError> {
        match self {
            Self::Numbers(values) => {
                let value = kind.number(text, notation);
                values.push(value.map_err(|problem| DataError::data(problem, remedy()))?);
            }
            Self::Codes { names, codes } => codes.push(names.intern(text, limits, bytes)?),
        }
        Ok(())
    }

    /// Adds the category that `text`, as it stands in a file, was found to be not long ago; false if it was not.
    #[inline]
    pub(crate) fn push_recent(&mut self, text: &[u8]) -> bool {
        let Self::Codes { names, codes } = self else {
            return false;
        };
        let Some(code) = names.recent(text) else {
            return false;
        };
        codes.push(code);
        true
    }

    /// Remembers that `text` stands for the last value.
    pub(crate) fn remember(&mut self, text: &[u8]) {
        if let Self::Codes { names, codes } = self
            && let Some(&code) = codes.last()
        {
            names.remember(text, code);
        }
    }

    /// Adds a value that is missing.
    pub(crate) fn push_missing(&mut self) {
        match self {
            Self::Numbers(values) => values.push(f64::NAN),
            Self::Codes { codes, .. } => codes.push(NO_CATEGORY),
        }
    }

    /// Adds the values of rows that come next. `bytes` grows with the names of categories.
    ///
    /// # Errors
    /// If there is one category too many, with the line of the row that has it first; `lines` are those of the rows.
    pub(crate) fn append(
        &mut self,
        part: Self,
        lines: &[u64],
        limits: &Limits,
        bytes: &mut u64,
    ) -> Result<(), DataError> {
        match (self, part) {
            // The first part, which may be all there is, is taken over and not copied.
            (Self::Numbers(values), Self::Numbers(part)) if values.is_empty() => *values = part,
            (Self::Numbers(values), Self::Numbers(part)) => values.extend(part),
            (
                Self::Codes { names, codes },
                Self::Codes {
                    names: others,
                    codes: part,
                },
            ) => append_codes((names, codes), (&others, &part), lines, limits, bytes)?,
            _ => debug_assert!(false, "parts of one column have one type"),
        }
        Ok(())
    }

    /// Whether the value of a row is missing.
    pub(crate) fn is_missing(&self, row: usize) -> bool {
        match self {
            Self::Numbers(values) => values[row].is_nan(),
            Self::Codes { codes, .. } => codes[row] == NO_CATEGORY,
        }
    }

    /// How many values are missing.
    pub(crate) fn missing(&self) -> usize {
        match self {
            Self::Numbers(values) => values.iter().map(|value| usize::from(value.is_nan())).sum(),
            Self::Codes { codes, .. } => {
                let is_missing = |code: &u32| usize::from(*code == NO_CATEGORY);
                codes.iter().map(is_missing).sum()
            }
        }
    }

    /// The first of `rows` rows whose value is missing.
    pub(crate) fn first_missing(&self, rows: usize) -> Option<usize> {
        match self {
            Self::Numbers(values) => values[..rows].iter().position(|value| value.is_nan()),
            Self::Codes { codes, .. } => codes[..rows].iter().position(|code| *code == NO_CATEGORY),
        }
    }

    /// Keeps the rows for which `kept` is true.
    pub(crate) fn keep(&mut self, kept: &[bool]) {
        let mut rows = kept.iter();
        let mut is_kept = || rows.next().copied().unwrap_or(false);
        match self {
            Self::Numbers(values) => values.retain(|_| is_kept()),
            Self::Codes { codes, .. } => codes.retain(|_| is_kept()),
        }
    }

    /// Keeps the first rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match self {
            Self::Numbers(values) => values.truncate(rows),
            Self::Codes { codes, .. } => codes.truncate(rows),
        }
    }

    /// Bytes that one value takes.
    pub(crate) fn value_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Numbers(_) => size_of::<f64>(),
            Self::Codes { .. } => size_of::<u32>(),
        };
        bytes as u64
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Codes { codes, .. } => codes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_words_and_numbers() {
        for text in ["true", "TRUE", "Yes", "y", "T", "on", "1", "1.0"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["false", "No", "n", "F", "OFF", "0", "0.0", "-0"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["", "2", "maybe", "tru", "10", "nan"] {
            assert_eq!(boolean(text), None, "{text}");
        }
    }

    #[test]
    fn ordinals_are_places_and_numbers_compare_by_value() {
        let grades = ColumnType::Ordinal(vec!["low".into(), "mid".into(), "high".into()]);
        assert_eq!(grades.number("high", Notation::PLAIN), Ok(2.0));
        let error = grades.number("top", Notation::PLAIN).unwrap_err();
        assert_eq!(
            error,
            "expected one of the categories \"low\", \"mid\", \"high\", found \"top\""
        );
        let classes = ColumnType::Ordinal(vec!["3".into(), "2".into(), "1".into()]);
        assert_eq!(classes.number("2.0", Notation::PLAIN), Ok(1.0));
    }
}
