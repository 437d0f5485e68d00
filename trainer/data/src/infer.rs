//! What the columns of a file hold, told from their values.
//!
//! A column of which a manifest says no type is first read as numbers. Only where that fails is the file read once
//! more and the type of each such column told from all of its values ([`types`]), so that tables of numbers cost
//! nothing more. The same summaries are what a report shows.

use std::collections::{BTreeMap, HashMap};

use trainyard_core::schema::Missing;

use crate::columns::{
    ColumnType, Frame, InferredTypes, Plan, PlannedColumn, RawValues, Reading, pairs_of,
};
use crate::date::{DateFormat, INFERRED, default_parts};
use crate::error::{DataError, few, quoted};
use crate::files::Files;
use crate::number::Notation;
use crate::options::{Limits, TableFormat};
use crate::parquet;
use crate::tables::TableRows;
use crate::text::{Fields, Records};

/// Different values of a column that are counted; one that has more holds no categories, unless the manifest says so.
const COUNTED: usize = 1000;
/// Bytes of the longest value that is counted; longer ones are prose.
const LONGEST: usize = 256;
/// A column with at most so many different texts holds categories if only some occur twice.
const FEW: usize = 20;
/// A format that has failed so many times more often than not is not tried any longer.
const HOPELESS: u64 = 100;
/// How often each category must occur on average where there are more than [`FEW`].
const OFTEN: u64 = 5;
/// Rows that are looked at before a table is read.
const SAMPLE: usize = 1000;
/// Wrong columns of which an error tells everything.
const TOLD: usize = 8;

/// Texts that often stand for a missing value, beside an empty field, `NA` and `NaN`: those that pandas knows, and some
/// of public datasets. In lower case.
const MARKERS: [&str; 15] = [
    "?", "-", "--", ".", "n/a", "#n/a", "#n/a n/a", "<na>", "null", "none", "missing", "unknown",
    "-nan", "1.#ind", "#na",
];

/// What was seen of one column.
pub(crate) struct Summary {
    /// Its name.
    pub name: String,
    /// The type that the manifest gives it.
    declared: Option<ColumnType>,
    /// Values that are there.
    pub values: u64,
    /// Values that are missing.
    pub missing: u64,
    /// The line of the first of them, and its text.
    first_missing: Option<(u64, String)>,
    /// How many values are numbers, or values of the declared type.
    pub numbers: u64,
    /// Whether all numbers are whole.
    pub whole: bool,
    /// The least and the greatest number.
    pub range: Option<(f64, f64)>,
    /// Values by how often they occur, up to [`COUNTED`] different ones.
    pub counts: HashMap<String, u64>,
    /// Whether there are more than that.
    pub many: bool,
    /// The line of the first value that is no number, or none of the declared type, and what is wrong with it.
    first_wrong: Option<(u64, String)>,
    /// The line of the first value.
    first_line: u64,
    /// The pairs of boolean words of which all values are.
    pairs: u8,
    /// Formats of dates in which many values are.
    formats: Vec<Candidate>,
    /// The number before.
    last: Option<f64>,
    /// Whether each number is the one before it plus one.
    ordered: bool,
    /// How often texts occur that often stand for a missing value.
    marks: BTreeMap<String, u64>,
    /// Whether a number begins with a zero that it does not need, as a code does.
    pub leading_zero: bool,
}

/// A format in which the values of a column may be dates.
struct Candidate {
    format: DateFormat,
    dates: u64,
    /// The line of the first value that is no such date, and its text.
    first_other: Option<(u64, String)>,
    others: u64,
}

impl Candidate {
    fn new(format: &str) -> Option<Self> {
        Some(Self {
            format: DateFormat::new(format).ok()?,
            dates: 0,
            first_other: None,
            others: 0,
        })
    }

    fn add(&mut self, line: u64, text: &str, times: u64) {
        if self.others > self.dates + HOPELESS {
            self.others += times;
            return;
        }
        if self.format.read(text).is_some() {
            self.dates += times;
            return;
        }
        self.others += times;
        self.first_other
            .get_or_insert_with(|| (line, text.to_owned()));
    }
}

impl Summary {
    /// Nothing seen yet.
    pub(crate) fn new(name: &str, declared: Option<ColumnType>) -> Self {
        Self {
            name: name.to_owned(),
            declared,
            values: 0,
            missing: 0,
            first_missing: None,
            numbers: 0,
            whole: true,
            range: None,
            counts: HashMap::new(),
            many: false,
            first_wrong: None,
            first_line: 0,
            pairs: u8::MAX,
            formats: INFERRED
                .iter()
                .filter_map(|format| Candidate::new(format))
                .collect(),
            last: None,
            ordered: true,
            marks: BTreeMap::new(),
            leading_zero: false,
        }
    }

    /// Looks at a field. `bytes` grows with what is held.
    pub(crate) fn add(
        &mut self,
        (line, text): (u64, &str),
        missing: bool,
        notation: Notation,
        bytes: &mut u64,
    ) {
        if missing {
            self.missing += 1;
            self.first_missing
                .get_or_insert_with(|| (line, text.to_owned()));
            return;
        }
        self.add_value((line, text), 1, notation, bytes);
    }

    /// Looks at a text that so many fields have, the first of them on `line`.
    fn add_value(
        &mut self,
        (line, text): (u64, &str),
        times: u64,
        notation: Notation,
        bytes: &mut u64,
    ) {
        if self.values == 0 {
            self.first_line = line;
        }
        self.values += times;
        match &self.declared {
            Some(ColumnType::Category { .. }) => self.numbers += times,
            declared => {
                let kind = declared.as_ref().unwrap_or(&ColumnType::Number);
                match kind.number(text, notation) {
                    Ok(value) => self.add_number(value, times),
                    Err(problem) => drop(self.first_wrong.get_or_insert((line, problem))),
                }
            }
        }
        if self.declared.is_none() {
            self.pairs &= pairs_of(text);
            self.formats
                .iter_mut()
                .for_each(|candidate| candidate.add(line, text, times));
        }
        if MARKERS.iter().any(|mark| mark.eq_ignore_ascii_case(text)) {
            *self.marks.entry(text.to_owned()).or_default() += times;
        }
        let digits = text.trim_start_matches(['-', '+']).as_bytes();
        self.leading_zero |= matches!(digits, [b'0', b'0'..=b'9', ..]);
        self.count(text, times, bytes);
    }

    fn add_number(&mut self, value: f64, times: u64) {
        self.numbers += times;
        self.whole &= value.fract() == 0.0;
        let (least, greatest) = self.range.unwrap_or((value, value));
        self.range = Some((least.min(value), greatest.max(value)));
        self.ordered &= self.last.is_none_or(|last| value == last + 1.0);
        self.last = Some(value);
    }

    fn count(&mut self, text: &str, times: u64, bytes: &mut u64) {
        if self.many {
            return;
        }
        if let Some(count) = self.counts.get_mut(text) {
            *count += times;
            return;
        }
        self.many = self.counts.len() == COUNTED || text.len() > LONGEST;
        if !self.many {
            *bytes += (text.len() + size_of::<(String, u64)>()) as u64;
            self.counts.insert(text.to_owned(), times);
        }
    }

    /// The type of the column: the declared one, or that of its values.
    ///
    /// # Errors
    /// If there are values of no such type, or their type is in doubt, with the line of the first such value.
    pub(crate) fn guess(&self) -> Result<ColumnType, DataError> {
        let number = self.declared.clone().unwrap_or(ColumnType::Number);
        let Some((line, problem)) = &self.first_wrong else {
            return Ok(number);
        };
        let doubt =
            |problem: String, remedy: String| DataError::data(problem, remedy).on_line(*line);
        let how_many = self.and_more(self.values - self.numbers);
        if self.declared.is_some() {
            let remedy = format!("{CORRECT}, or give the column another type under `columns`");
            return Err(doubt(format!("{problem}{how_many}"), remedy));
        }
        if self.pairs != 0 {
            return Ok(ColumnType::Boolean);
        }
        match self.date_formats()[..] {
            [] => {}
            [format] => {
                let (format, parts) = (format.clone(), default_parts(format));
                return Ok(ColumnType::Date { format, parts });
            }
            ref formats => {
                let formats: Vec<String> = formats.iter().map(ToString::to_string).collect();
                let problem = format!("the dates can be read as {}", few(&formats));
                let remedy = "give the column the type Date and one of these as its `dateFormat` under `columns`";
                return Err(doubt(problem, remedy.into()));
            }
        }
        if let Some(candidate) = self.dates()
            && let Some((line, text)) = &candidate.first_other
        {
            let (expected, how_many) = (&candidate.format, self.and_more(candidate.others));
            let found = quoted(text);
            return Err(DataError::data(
                format!("expected a date as {expected}, found {found}{how_many}"),
                self.marks_or(&format!("{CORRECT}, or list the column under `exclude`")),
            )
            .on_line(*line));
        }
        if self.numbers == 0 && self.has_categories() {
            return Ok(ColumnType::Category { by_value: true });
        }
        let problem = format!("{problem}{how_many}");
        if self.numbers > 0 {
            let remedy = format!("{CORRECT}, list the column under `exclude`, {OR_CATEGORICAL}");
            return Err(doubt(problem, self.marks_or(&remedy)));
        }
        let remedy = format!("list the column under `exclude`, {OR_CATEGORICAL}");
        let distinct = self.distinct();
        Err(doubt(
            format!("{problem}: {distinct} are too many to be categories"),
            remedy,
        ))
    }

    /// How many values are wrong beside the first, in words.
    fn and_more(&self, wrong: u64) -> String {
        match wrong {
            1 => String::new(),
            wrong => format!(" (and {} more of {} values)", wrong - 1, self.values),
        }
    }

    /// What to do about values of another type, if they are not all [markers](Self::markers).
    fn marks_or(&self, otherwise: &str) -> String {
        match self.markers() {
            Some(markers) => format!("list {} under `missingValues`", few(&markers)),
            None => otherwise.to_owned(),
        }
    }

    /// The formats in which all values are dates; more than one if that is in doubt.
    pub(crate) fn date_formats(&self) -> Vec<&DateFormat> {
        let are_dates = |candidate: &&Candidate| candidate.others == 0 && candidate.dates > 0;
        self.formats
            .iter()
            .filter(are_dates)
            .map(|candidate| &candidate.format)
            .collect()
    }

    /// The format in which most values are dates.
    fn dates(&self) -> Option<&Candidate> {
        let most = |candidate: &&Candidate| candidate.dates > candidate.others;
        self.formats
            .iter()
            .filter(most)
            .max_by_key(|candidate| candidate.dates)
    }

    /// The format of the dates, if most values are some.
    pub(crate) fn date_format(&self) -> Option<&DateFormat> {
        self.dates().map(|candidate| &candidate.format)
    }

    /// Whether the values are whole numbers one after the other: they number the rows.
    pub(crate) fn numbers_rows(&self) -> bool {
        let all = self.numbers == self.values && self.missing == 0 && self.values > 2;
        all && self.whole && self.ordered
    }

    /// Whether so few texts occur, and so often, that they are categories.
    fn has_categories(&self) -> bool {
        let distinct = self.counts.len() as u64;
        let few = distinct <= FEW as u64 && distinct < self.values;
        !self.many && (few || distinct.saturating_mul(OFTEN) <= self.values)
    }

    /// The texts among numbers or dates that are none, if all these often stand for a missing value.
    pub(crate) fn markers(&self) -> Option<Vec<String>> {
        let others = self
            .dates()
            .map_or(self.values - self.numbers, |candidate| candidate.others);
        let all = others > 0 && others < self.values && self.marks.values().sum::<u64>() == others;
        all.then(|| self.marks.keys().cloned().collect())
    }

    /// Texts that often stand for a missing value, whatever else there is.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &String> {
        self.marks.keys()
    }

    /// How many different values there are, in words.
    fn distinct(&self) -> String {
        match (self.many, self.counts.len()) {
            (true, _) => format!("more than {} different texts", self.counts.len()),
            (false, 1) => "a single text, which occurs once,".into(),
            (false, distinct) => format!("{distinct} different texts among {} values", self.values),
        }
    }

    /// That values are missing where the policy allows none.
    fn missing(&self, plan: &Plan, column: &PlannedColumn) -> Option<DataError> {
        let (line, text) = self.first_missing.as_ref()?;
        if column.missing != Missing::Error {
            return None;
        }
        let mut error = plan.missing_value(text).on_line(*line);
        if self.missing > 1 {
            error.problem += &format!(" (and {} more)", self.missing - 1);
        }
        Some(error)
    }

    /// That the column is said to hold dates, and their format cannot be told.
    fn no_date(&self) -> DataError {
        let remedy = "give the column its `dateFormat` under `columns`, such as \"%d.%m.%Y\"";
        DataError::data("the values are dates in no format that is tried", remedy)
            .on_line(self.first_line)
    }
}

const CORRECT: &str = "correct the value";
const OR_CATEGORICAL: &str = "or under `categorical` if its values are categories";

/// The types of the columns of which a manifest says none, after reading them as numbers has failed with `failed`. The
/// plan is made for the first of the files `uris`.
///
/// # Errors
/// All columns whose values are not of their types, or whose types cannot be told, in one error; `failed` itself if
/// something else is wrong.
pub(crate) fn types(
    files: &dyn Files,
    uris: &[String],
    reading: &Reading,
    plan: impl FnOnce(&[String]) -> Result<Plan, DataError>,
    limits: &Limits,
    failed: DataError,
) -> Result<InferredTypes, DataError> {
    let mut plan = Some(plan);
    let mut first: Option<(Plan, Summaries)> = None;
    for uri in uris {
        let mut rows = TableRows::open(files, uri, reading, limits)?;
        let header = rows.header();
        let made = match (plan.take(), &first) {
            (Some(plan), _) => plan(header),
            (None, Some((first, _))) => first.for_file(header),
            (None, None) => return Err(failed),
        };
        let made = made.map_err(|e| reading.in_header(e).in_file(uri))?;
        let columns = columns_of(&made);
        rows.select(&mut made.places());
        let (made, mut summaries) = match first.take() {
            Some(first) => first,
            None => {
                let summaries = Summaries::new(&columns, reading.format);
                (made, summaries)
            }
        };
        summaries
            .add(uri, rows, &columns, &made.reading, limits)
            .map_err(|e| reading.placed(e).in_file(uri))?;
        first = Some((made, summaries));
    }
    let Some((plan, summaries)) = first else {
        return Err(failed);
    };
    let mut inferred = InferredTypes::new();
    let mut wrong: Vec<DataError> = Vec::new();
    for (column, summary) in columns_of(&plan).iter().zip(&summaries.columns) {
        let doubt = match (summary.guess(), column.dates) {
            (Ok(kind @ ColumnType::Date { .. }), _) => {
                inferred.insert(column.name.clone(), kind);
                None
            }
            (_, true) if summary.values > 0 && summary.date_format().is_none() => {
                Some(summary.no_date())
            }
            (Ok(ColumnType::Number), _) => None,
            (Ok(kind), _) => {
                if !column.declared {
                    inferred.insert(column.name.clone(), kind);
                }
                None
            }
            (Err(doubt), _) => Some(doubt),
        };
        let doubt = doubt.or_else(|| summary.missing(&plan, column));
        let place = |doubt: DataError| summaries.place(doubt.in_column(&column.name));
        wrong.extend(doubt.map(place));
    }
    match wrong.is_empty() {
        false => Err(told(wrong, uris)),
        true if inferred.is_empty() => Err(failed),
        true => Ok(inferred),
    }
}

/// The columns of which a manifest says no type and the first rows show that they hold no numbers. `plan` is made for a file
/// whose columns are all read as numbers.
///
/// # Errors
/// If the rows cannot be read.
pub(crate) fn texts(
    mut records: Records<'_>,
    plan: &Plan,
    limits: &Limits,
) -> Result<InferredTypes, DataError> {
    let columns = columns_of(plan);
    let mut summaries = Summaries::new(&columns, TableFormat::Csv);
    for _ in 0..SAMPLE {
        if !summaries.add_row(&mut records, 0, &columns, &plan.reading, limits)? {
            break;
        }
    }
    let kinds = columns.iter().zip(&summaries.columns);
    let kinds = kinds.filter(|(column, _)| !column.declared && !column.dates);
    let texts = kinds.filter_map(|(column, summary)| {
        let kind = match summary.guess() {
            Ok(ColumnType::Number) => return None,
            // What these rows exclude stays excluded: if all values are such dates, they are in no other format.
            Ok(date @ ColumnType::Date { .. }) => date,
            Ok(_) | Err(_) => TEXT,
        };
        Some((column.name.clone(), kind))
    });
    Ok(texts.collect())
}

/// The types of the columns of a table that were read as `texts`, told from all their values, as [`types`] does; `None` if
/// they cannot be told.
pub(crate) fn types_of_texts(table: &Frame, texts: &InferredTypes) -> Option<InferredTypes> {
    let columns = table.columns.iter().chain(&table.split);
    let columns = columns.filter(|column| texts.contains_key(column.name()));
    let types = columns.map(|column| {
        let RawValues::Codes { names, codes } = &column.values else {
            return Some((column.name().to_owned(), column.planned.kind.clone()));
        };
        let mut times = vec![(0, 0); names.names().len()];
        for (&code, &line) in codes.iter().zip(&table.lines) {
            if let Some((first, times)) = times.get_mut(code as usize) {
                *times += 1;
                if *times == 1 {
                    *first = line;
                }
            }
        }
        let mut summary = Summary::new(column.name(), None);
        for (name, (line, times)) in names.names().iter().zip(times) {
            // Rows that are left out may leave a name behind.
            if times > 0 {
                summary.add_value((line, name), times, Notation::PLAIN, &mut 0);
            }
        }
        match summary.guess() {
            Ok(ColumnType::Number) | Err(_) => None,
            Ok(kind) => Some((column.name().to_owned(), kind)),
        }
    });
    types.collect()
}

/// The types of the columns of a Parquet file, which says them of all but texts.
pub(crate) fn declared_types(table: &parquet::Table) -> InferredTypes {
    let texts = table.texts().map(|name| (name.clone(), TEXT));
    table.types().into_iter().chain(texts).collect()
}

/// How a column is read whose type is to be told when all of it is there.
const TEXT: ColumnType = ColumnType::Category { by_value: true };

/// The columns of which something is to be known: the inputs, and those that splits go by.
fn columns_of(plan: &Plan) -> Vec<PlannedColumn> {
    let is_input = |index: usize| plan.columns.iter().any(|column| column.index == index);
    let split = plan.split.iter().filter(|column| !is_input(column.index));
    plan.columns.iter().chain(split).cloned().collect()
}

/// What was seen of the columns of one or several files. Lines are counted on from one file to the next.
pub(crate) struct Summaries {
    /// Each column.
    pub columns: Vec<Summary>,
    /// Rows.
    pub rows: u64,
    /// The files, with the line before each.
    files: Vec<(u64, String)>,
    /// The last line; of rows without lines, their number.
    line: u64,
    /// Whether the rows have no lines.
    by_row: bool,
    /// Bytes that are held.
    bytes: u64,
}

impl Summaries {
    /// Nothing seen yet.
    pub(crate) fn new(columns: &[PlannedColumn], format: TableFormat) -> Self {
        let declared = |column: &PlannedColumn| column.declared.then(|| column.kind.clone());
        let columns = columns.iter();
        Self {
            columns: columns
                .map(|column| Summary::new(&column.name, declared(column)))
                .collect(),
            rows: 0,
            files: Vec::new(),
            line: 0,
            by_row: format == TableFormat::Parquet,
            bytes: 0,
        }
    }

    /// Looks at every value of a file.
    pub(crate) fn add(
        &mut self,
        uri: &str,
        mut records: impl Fields,
        columns: &[PlannedColumn],
        reading: &Reading,
        limits: &Limits,
    ) -> Result<(), DataError> {
        let before = self.line;
        self.files.push((before, uri.to_owned()));
        while self.add_row(&mut records, before, columns, reading, limits)? {}
        Ok(())
    }

    /// Looks at the values of the next row; false if there is none. Lines are counted from `before`.
    fn add_row(
        &mut self,
        records: &mut impl Fields,
        before: u64,
        columns: &[PlannedColumn],
        reading: &Reading,
        limits: &Limits,
    ) -> Result<bool, DataError> {
        let Some(line) = records.next()? else {
            return Ok(false);
        };
        self.rows += 1;
        self.line = before + line + u64::from(self.by_row);
        for (column, summary) in columns.iter().zip(&mut self.columns) {
            let place = |error: DataError| error.in_column(&column.name).on_line(line);
            let text = records.field(column.index).map_err(place)?;
            let missing = reading.is_missing_in(&column.kind, text);
            summary.add(
                (self.line, text),
                missing,
                reading.notation,
                &mut self.bytes,
            );
        }
        let fits = limits.check_memory(self.bytes);
        fits.map_err(|e| e.on_line(line)).map(|()| true)
    }

    /// The place of an error whose line is counted over all files.
    fn place(&self, mut error: DataError) -> DataError {
        let line = error.line.unwrap_or_default();
        let Some((before, file)) = self.files.iter().rfind(|(before, _)| *before < line) else {
            return error;
        };
        error.line = Some(line - before - u64::from(self.by_row));
        error.is_row = self.by_row;
        error.in_file(file)
    }
}

/// One error about all columns that are wrong.
fn told(mut wrong: Vec<DataError>, uris: &[String]) -> DataError {
    if wrong.len() == 1 {
        return wrong.remove(0);
    }
    let name = |doubt: &DataError| format!("\"{}\"", doubt.column.as_deref().unwrap_or_default());
    let each = wrong.iter().take(TOLD).map(|doubt| {
        let (name, line) = (name(doubt), doubt.line.unwrap_or_default());
        let of_file = match uris.len() {
            1 => String::new(),
            _ => format!(" of {}", doubt.file),
        };
        let (problem, remedy) = (&doubt.problem, &doubt.remedy);
        let place = match doubt.is_row {
            true => format!("in row {line} (from 0)"),
            false => format!("on line {line}"),
        };
        format!("{name} {place}{of_file}: {problem}; {remedy}")
    });
    let each: Vec<String> = each.collect();
    let more: Vec<&str> = wrong
        .iter()
        .skip(TOLD)
        .filter_map(|doubt| doubt.column.as_deref())
        .collect();
    let more = match more.is_empty() {
        true => String::new(),
        false => format!(" | and the columns {}", few(&more)),
    };
    let problem = format!(
        "{} columns cannot be read: {}{more}",
        wrong.len(),
        each.join(" | ")
    );
    DataError::data(problem, "").in_file(uris.first().map_or("", String::as_str))
}
