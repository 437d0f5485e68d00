//! Elements as JSON has them, before their datatype is applied.

use super::super::strings::Builder;

/// Elements of one kind. Integers stay integers as long as one type holds all of them: none loses a digit.
#[derive(Debug, Default)]
pub(super) enum Elements {
    #[default]
    Empty,
    /// `null`, so many times, and nothing else.
    Nulls(usize),
    Bools(Vec<bool>),
    Signed(Vec<i64>),
    /// Of which one at least is greater than any `i64`.
    Unsigned(Vec<u64>),
    /// NaN, which JSON does not have, stands for `null`. Integers among them are rounded.
    Floats(Vec<f64>),
    Strings(Builder),
}

/// An element came that does not go with the others.
#[derive(Debug, PartialEq)]
pub(super) struct Mixed;

impl Elements {
    /// What they are, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "nothing",
            Self::Nulls(_) => "null",
            Self::Bools(_) => "booleans",
            Self::Signed(_) | Self::Unsigned(_) | Self::Floats(_) => "numbers",
            Self::Strings(_) => "strings",
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Nulls(count) => *count,
            Self::Bools(values) => values.len(),
            Self::Signed(values) => values.len(),
            Self::Unsigned(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Strings(values) => values.len(),
        }
    }

    pub(super) fn push_null(&mut self) -> Result<(), Mixed> {
        match self {
            Self::Empty => *self = Self::Nulls(1),
            Self::Nulls(count) => *count += 1,
            Self::Strings(values) => values.push(b""),
            _ => self.floats()?.push(f64::NAN),
        }
        Ok(())
    }

    pub(super) fn push_bool(&mut self, value: bool) -> Result<(), Mixed> {
        match self {
            Self::Empty => *self = Self::Bools(vec![value]),
            Self::Bools(values) => values.push(value),
            _ => return Err(Mixed),
        }
        Ok(())
    }

    pub(super) fn push_signed(&mut self, value: i64) -> Result<(), Mixed> {
        match self {
            Self::Signed(values) => values.push(value),
            Self::Floats(values) => values.push(value as f64),
            Self::Empty => *self = Self::Signed(vec![value]),
            Self::Unsigned(values) if value >= 0 => values.push(value as u64),
            _ => self.floats()?.push(value as f64),
        }
        Ok(())
    }

    pub(super) fn push_unsigned(&mut self, value: u64) -> Result<(), Mixed> {
        if let Ok(value) = i64::try_from(value) {
            return self.push_signed(value);
        }
        if let Self::Signed(values) = self
            && let Some(unsigned) = unsigned(values)
        {
            *self = Self::Unsigned(unsigned);
        }
        match self {
            Self::Empty => *self = Self::Unsigned(vec![value]),
            Self::Unsigned(values) => values.push(value),
            _ => self.floats()?.push(value as f64),
        }
        Ok(())
    }

    pub(super) fn push_float(&mut self, value: f64) -> Result<(), Mixed> {
        match self {
            Self::Floats(values) => values.push(value),
            _ => self.floats()?.push(value),
        }
        Ok(())
    }

    pub(super) fn push_string(&mut self, value: &str) -> Result<(), Mixed> {
        if let Self::Empty | Self::Nulls(_) = self {
            let mut strings = Builder::default();
            (0..self.len()).for_each(|_| strings.push(b""));
            *self = Self::Strings(strings);
        }
        let Self::Strings(strings) = self else {
            return Err(Mixed);
        };
        strings.push(value.as_bytes());
        Ok(())
    }

    /// Makes them floats, if they are numbers.
    fn floats(&mut self) -> Result<&mut Vec<f64>, Mixed> {
        let values = match self {
            Self::Floats(values) => std::mem::take(values),
            Self::Empty => Vec::new(),
            Self::Nulls(count) => vec![f64::NAN; *count],
            Self::Signed(values) => values.iter().map(|value| *value as f64).collect(),
            Self::Unsigned(values) => values.iter().map(|value| *value as f64).collect(),
            Self::Bools(_) | Self::Strings(_) => return Err(Mixed),
        };
        *self = Self::Floats(values);
        match self {
            Self::Floats(values) => Ok(values),
            _ => Err(Mixed),
        }
    }
}

/// The same numbers, if none is negative.
fn unsigned(values: &[i64]) -> Option<Vec<u64>> {
    let unsigned = values.iter().map(|value| u64::try_from(*value).ok());
    unsigned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_integers_stay_exact_until_one_type_holds_them_no_more() {
        let mut elements = Elements::default();
        let push = |elements: &mut Elements, value| elements.push_unsigned(value);
        assert_eq!(push(&mut elements, 1), Ok(()));
        assert!(matches!(&elements, Elements::Signed(values) if *values == [1]));
        assert_eq!(push(&mut elements, u64::MAX), Ok(()));
        assert_eq!(push(&mut elements, 2), Ok(()));
        assert!(matches!(&elements, Elements::Unsigned(values) if *values == [1, u64::MAX, 2]));
        assert_eq!(elements.push_signed(-1), Ok(()));
        assert!(matches!(&elements, Elements::Floats(values) if values[3] == -1.0));
    }

    #[test]
    fn s04_elements_of_two_kinds_are_told_apart() {
        let mut elements = Elements::default();
        assert_eq!(elements.push_null(), Ok(()));
        assert_eq!(elements.push_string("a"), Ok(()));
        assert_eq!(elements.push_null(), Ok(()));
        assert_eq!(elements.push_float(1.0), Err(Mixed));
        assert_eq!(elements.push_bool(true), Err(Mixed));
        assert_eq!((elements.kind(), elements.len()), ("strings", 3));
        let mut elements = Elements::default();
        assert_eq!(elements.push_bool(true), Ok(()));
        assert_eq!(elements.push_null(), Err(Mixed));
        assert_eq!(elements.push_signed(1), Err(Mixed));
        assert_eq!(elements.push_string(""), Err(Mixed));
    }
}
