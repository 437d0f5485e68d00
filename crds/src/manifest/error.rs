//! What is wrong with a manifest, and where.

use std::fmt;

/// Most errors that are reported; more would be one mistake seen many times.
const MAX_ERRORS: usize = 50;

/// Where an error stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file; both counted from 1, columns in characters.
    Text {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// In the change with this index in the list that was given.
    Set(usize),
}

impl Place {
    /// The first character of the file.
    pub(super) const START: Place = Place::Text { line: 1, column: 1 };
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, or the change as it was given after `--set `.
    pub source: String,
    /// Where it stands.
    pub place: Place,
    /// Path of the field, as in `spec.model.mlp.hidden[0]`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it; empty where `what` says it.
    pub remedy: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Text { line, column } => write!(f, "{}:{line}:{column}: ", self.source)?,
            Place::Set(_) => write!(f, "{}: ", self.source)?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a manifest, in the order of the file; at least one error. Its text has one line an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestErrors {
    errors: Vec<ManifestError>,
    left_out: usize,
}

impl ManifestErrors {
    /// The errors, in the order of the file.
    pub fn errors(&self) -> &[ManifestError] {
        &self.errors
    }
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{error}")?;
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more", self.left_out)?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestErrors {}

/// Collects errors while a manifest is read.
pub(super) struct Report<'a> {
    file_name: &'a str,
    set: &'a [String],
    errors: Vec<ManifestError>,
    left_out: usize,
    rules_make_sense: bool,
}

impl<'a> Report<'a> {
    pub fn new(file_name: &'a str, set: &'a [String]) -> Self {
        Report {
            file_name,
            set,
            errors: Vec::new(),
            left_out: 0,
            rules_make_sense: true,
        }
    }

    /// Adds an error that leaves a value of another type or none, so that rules about it would mislead.
    pub fn add(&mut self, place: Place, path: &str, what: String, remedy: impl Into<String>) {
        self.leave_rules();
        self.add_surplus(place, path, what, remedy);
    }

    /// Adds an error about something that should not be there; what remains can be judged.
    pub fn add_surplus(
        &mut self,
        place: Place,
        path: &str,
        what: String,
        remedy: impl Into<String>,
    ) {
        if self.is_full() {
            self.left_out += 1;
            return;
        }
        let source = match place {
            Place::Text { .. } => self.file_name.to_owned(),
            Place::Set(index) => {
                format!("--set {}", self.set.get(index).map_or("", String::as_str))
            }
        };
        self.errors.push(ManifestError {
            source,
            place,
            path: path.to_owned(),
            what,
            remedy: remedy.into(),
        });
    }

    /// Says that something is missing or wrong, so that rules about it would mislead.
    pub fn leave_rules(&mut self) {
        self.rules_make_sense = false;
    }

    /// Whether further errors are counted and not kept.
    pub fn is_full(&self) -> bool {
        self.errors.len() == MAX_ERRORS
    }

    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn rules_make_sense(&self) -> bool {
        self.rules_make_sense
    }

    /// Whether an error stands at `path` or directly below it.
    pub fn knows(&self, path: &str) -> bool {
        self.errors.iter().any(|error| {
            error.path == path
                || error
                    .path
                    .rsplit_once('.')
                    .is_some_and(|(parent, _)| parent == path)
        })
    }

    pub fn finish(mut self) -> ManifestErrors {
        self.errors
            .sort_by(|a, b| (a.place, &a.path).cmp(&(b.place, &b.path)));
        ManifestErrors {
            errors: self.errors,
            left_out: self.left_out,
        }
    }
}
