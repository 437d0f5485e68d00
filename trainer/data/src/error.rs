//! One error type that names the place, what is wrong there, and what to do.

use std::fmt;

pub(crate) use trainyard_core::excerpt::{excerpt, quoted};

/// Who can mend an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The file could not be opened or read; trying again may help.
    Io,
    /// The content of a file is not acceptable.
    Data,
    /// A bound of [`Limits`](crate::Limits) was reached.
    Limit,
    /// The options contradict the file, or themselves.
    Options,
}

/// Why data could not be loaded or encoded.
///
/// Displays as `FILE:LINE: column "NAME": PROBLEM; REMEDY`, with the parts that apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataError {
    /// Who can mend it.
    pub kind: ErrorKind,
    /// The file, as the options name it; empty for an error in the options themselves.
    pub file: String,
    /// 1-based line on which the record starts, for text; else the place of the row, from 0.
    pub line: Option<u64>,
    /// Whether `line` is the place of a row.
    pub is_row: bool,
    /// Name of the column, for text.
    pub column: Option<String>,
    /// What was expected and what was found.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl DataError {
    pub(crate) fn new(
        kind: ErrorKind,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            file: String::new(),
            line: None,
            is_row: false,
            column: None,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn data(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, problem, remedy)
    }

    pub(crate) fn options(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorKind::Options, problem, remedy)
    }

    pub(crate) fn limit(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, problem, remedy)
    }

    /// Names the file, unless a deeper call already did.
    pub(crate) fn in_file(mut self, file: &str) -> Self {
        if self.file.is_empty() {
            self.file = file.to_owned();
        }
        self
    }

    pub(crate) fn on_line(mut self, line: u64) -> Self {
        self.line.get_or_insert(line);
        self
    }

    /// What stands for the line is the place of a row.
    pub(crate) fn by_row(mut self) -> Self {
        self.is_row = true;
        self
    }

    pub(crate) fn in_column(mut self, column: &str) -> Self {
        self.column.get_or_insert_with(|| excerpt(column));
        self
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            match self.line {
                Some(line) if self.is_row => write!(f, " row {line} (from 0):")?,
                Some(line) => write!(f, "{line}:")?,
                None => {}
            }
            f.write_str(" ")?;
        }
        if let Some(column) = &self.column {
            write!(f, "column \"{column}\": ")?;
        }
        f.write_str(&self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for DataError {}

/// The first few of several names, for a message.
pub(crate) fn few<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 12;
    let mut out: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|n| quoted(n.as_ref()))
        .collect();
    if names.len() > SHOWN {
        out.push(format!("and {} more", names.len() - SHOWN));
    }
    out.join(", ")
}
