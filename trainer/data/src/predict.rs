//! Encoding rows for prediction with a fitted schema.

use std::io::Read;

use trainyard_core::schema::{InputKind, InputSchema};

use crate::array::{Array, ArrayRows};
use crate::cells::{CellRows, Cells};
use crate::classes::CategoryIndex;
use crate::columns::{Frame, LabelColumn, Plan, Reading, Unknown};
use crate::error::DataError;
use crate::files::{Files, Opened, plain};
use crate::golden::RawArray;
use crate::images::{self, Form, Listed, Seen};
use crate::options::{Limits, TableFormat};
use crate::parquet;
use crate::source::Source;
use crate::table::{Encoded, Labels, Table};
use crate::text::{Fields, Records};
use crate::warnings::Filled;

/// Rows of a file, encoded for prediction part by part: what is held does not depend on how many there are.
pub struct Rows<'a> {
    schema: &'a InputSchema,
    /// What stands for the file in errors.
    name: String,
    limits: &'a Limits,
    source: RowSource<'a>,
    /// Rows encoded so far.
    rows: u64,
    filled: Filled,
    unknown: Unknown,
}

enum RowSource<'a> {
    Table {
        rows: Box<dyn Fields + 'a>,
        plan: Box<Plan>,
        /// Whether the place of a row is a line.
        has_lines: bool,
        /// Rows left out so far.
        dropped: usize,
    },
    Array(ArrayRows<'a>),
    Images {
        files: &'a dyn Files,
        /// Each with the name of the folder that it lies in.
        images: Vec<(Option<String>, String)>,
        form: Form,
        /// The class of each, by the name of its folder; none where no folder has the name of a class.
        labels: Option<Vec<f32>>,
        /// Images so far.
        taken: usize,
        listed: Vec<String>,
        seen: Seen,
    },
}

impl<'a> Rows<'a> {
    /// Opens a CSV file. Columns are found by name, others are ignored. The label column may be absent, and then there
    /// are no labels; where a row's is blank, it is NaN. The texts of the columns `ids` come with the rows.
    ///
    /// # Errors
    /// As [`load`](crate::load()); also if the model's inputs are an array.
    pub fn csv(
        schema: &'a InputSchema,
        name: &str,
        reader: impl Read + Send + 'a,
        ids: &[String],
        limits: &'a Limits,
    ) -> Result<Self, DataError> {
        let open = |reading: &Reading| {
            let source = plain(reader, limits.file_bytes)?;
            let records = Records::new(source, reading, limits)?;
            let header = records.header().to_vec();
            Ok((Box::new(records) as Box<dyn Fields>, header))
        };
        Self::table(schema, name, (TableFormat::Csv, true), open, ids, limits)
    }

    /// Opens a Parquet file, as [`Rows::csv`] opens a text. How numbers are written in a text plays no part.
    ///
    /// # Errors
    /// As [`Rows::csv`].
    pub fn parquet(
        schema: &'a InputSchema,
        name: &str,
        file: Opened,
        ids: &[String],
        limits: &'a Limits,
    ) -> Result<Self, DataError> {
        let open = |_: &Reading| {
            let rows = parquet::Rows::open(file, limits)?;
            let header = rows.header().to_vec();
            Ok((Box::new(rows) as Box<dyn Fields>, header))
        };
        Self::table(
            schema,
            name,
            (TableFormat::Parquet, false),
            open,
            ids,
            limits,
        )
    }

    /// Takes rows of texts, each of which stands for what it would in a CSV file of the model's.
    ///
    /// # Errors
    /// As [`Rows::csv`]; also if a row has not a text for each column.
    pub fn cells(
        schema: &'a InputSchema,
        name: &str,
        cells: &'a Cells,
        limits: &'a Limits,
    ) -> Result<Self, DataError> {
        let open = |_: &Reading| {
            let rows = CellRows::new(cells.columns.len(), &cells.rows)?;
            Ok((Box::new(rows) as Box<dyn Fields>, cells.columns.clone()))
        };
        Self::table(schema, name, (TableFormat::Csv, false), open, &[], limits)
    }

    /// Takes the rows of an array.
    ///
    /// # Errors
    /// As [`Rows::array`]; also if its bytes are not of its shape.
    pub fn raw_array(
        schema: &'a InputSchema,
        name: &str,
        raw: RawArray,
        limits: &'a Limits,
    ) -> Result<Self, DataError> {
        let rows = ArrayRows::of(raw, limits).map_err(|e| e.in_file(name))?;
        match schema.input {
            InputKind::Array(_) => Ok(Self::new(schema, name, RowSource::Array(rows), limits)),
            InputKind::Columns(_) => Err(named_columns().in_file(name)),
        }
    }

    fn table(
        schema: &'a InputSchema,
        name: &str,
        (format, has_lines): (TableFormat, bool),
        open: impl FnOnce(&Reading) -> Result<(Box<dyn Fields + 'a>, Vec<String>), DataError>,
        ids: &[String],
        limits: &'a Limits,
    ) -> Result<Self, DataError> {
        let InputKind::Columns(input) = &schema.input else {
            let problem = format!("the model reads arrays or images, not {}", format.name());
            let remedy = "give an NPY or IDX file, or images";
            return Err(DataError::options(problem, remedy).in_file(name));
        };
        let reading = Reading::fitted(input, format);
        let begin = || {
            let (mut rows, header) = open(&reading)?;
            let header = &header[..];
            let label = (schema.label.name.as_str(), LabelColumn::Optional);
            let fit = (input, &reading);
            let plan = Plan::fitted(header, fit, label, None, &[], &[], schema.task)
                .and_then(|plan| plan.with_ids(header, ids, "--id"))
                .map_err(|e| reading.in_header(e))?;
            rows.select(&mut plan.places());
            Ok(RowSource::Table {
                rows,
                plan: Box::new(plan),
                has_lines,
                dropped: 0,
            })
        };
        let source = begin().map_err(|e: DataError| e.in_file(name))?;
        Ok(Self::new(schema, name, source, limits))
    }

    /// Opens an NPY or IDX array; its first bytes tell. One that is stored column by column (Fortran order) is held whole.
    ///
    /// # Errors
    /// As [`load`](crate::load()); also if the model's inputs are columns.
    pub fn array(
        schema: &'a InputSchema,
        name: &str,
        reader: impl Read + Send + 'a,
        limits: &'a Limits,
    ) -> Result<Self, DataError> {
        if matches!(schema.input, InputKind::Columns(_)) {
            return Err(named_columns().in_file(name));
        }
        let rows = plain(reader, limits.file_bytes)
            .and_then(|source| ArrayRows::new(source, limits))
            .map_err(|e| e.in_file(name))?;
        Ok(Self::new(schema, name, RowSource::Array(rows), limits))
    }

    /// Opens the images in folders, and images by themselves. Where the folder that an image lies in has the name of a class, that is
    /// its label. The URI of an image is the text that comes with its row.
    ///
    /// # Errors
    /// As [`load`](crate::load()); also if the model's inputs cannot be images.
    pub fn images(
        schema: &'a InputSchema,
        files: &'a dyn Files,
        uris: &[String],
        limits: &'a Limits,
    ) -> Result<Self, DataError> {
        let name = uris.first().map_or("", String::as_str);
        let InputKind::Array(input) = &schema.input else {
            let problem = "the model reads named columns, not images";
            return Err(DataError::options(problem, "give a CSV or Parquet file").in_file(name));
        };
        let form = Form::of(input).map_err(|e| e.in_file(name))?;
        let (mut images, mut listed) = (Vec::new(), Vec::new());
        for uri in uris {
            let found = Listed::folder_or_file(files, uri)?;
            images.extend(found.images);
            listed.extend(found.warnings.iter().map(|text| format!("{uri}: {text}")));
        }
        let name = match uris {
            [first, others @ ..] if !others.is_empty() => {
                format!("{first} and {} more", others.len())
            }
            _ => name.to_owned(),
        };
        let classes = CategoryIndex::of(&schema.label);
        let class = |(folder, _): &(Option<String>, String)| {
            let class = folder.as_deref().and_then(|folder| classes.find(folder));
            class.map_or(f32::NAN, |class| class as f32)
        };
        let labels: Vec<f32> = images.iter().map(class).collect();
        let labels = labels.iter().any(|label| !label.is_nan()).then_some(labels);
        let source = RowSource::Images {
            files,
            images,
            form,
            labels,
            taken: 0,
            listed,
            seen: Seen::default(),
        };
        Ok(Self::new(schema, &name, source, limits))
    }

    fn new(schema: &'a InputSchema, name: &str, source: RowSource<'a>, limits: &'a Limits) -> Self {
        Self {
            schema,
            name: name.to_owned(),
            limits,
            source,
            rows: 0,
            filled: Filled::default(),
            unknown: Unknown::default(),
        }
    }

    /// Whether rows are told by their lines, as those of text, or by their places.
    pub fn have_lines(&self) -> bool {
        match &self.source {
            RowSource::Table { has_lines, .. } => *has_lines,
            RowSource::Array(_) | RowSource::Images { .. } => false,
        }
    }

    /// The next rows, at most `most`, with the bits that training would give them; none at the end.
    ///
    /// # Errors
    /// As [`load`](crate::load()); also if there is no row at all.
    pub fn next(&mut self, most: usize) -> Result<Option<Encoded>, DataError> {
        let encoded = match &mut self.source {
            RowSource::Table {
                rows,
                plan,
                has_lines,
                dropped,
            } => {
                let placed = |error: DataError| match has_lines {
                    true => error,
                    false => error.by_row(),
                };
                let frame = Frame::part(&mut **rows, plan, most, self.limits)
                    .map_err(|e| placed(e).in_file(&self.name))?;
                *dropped += frame.dropped.len();
                if frame.lines.is_empty() && self.rows == 0 {
                    return Err(plan.no_rows(*dropped).in_file(&self.name));
                }
                let is_over = frame.lines.is_empty() && frame.dropped.is_empty();
                self.filled.add(Filled::of(&frame));
                let label = self.schema.label.name.clone();
                let source = Source::of_frame(&self.name, frame, label, plan.reading.clone());
                let beside = self.limits.beside(source.bytes());
                let (table, unknown) =
                    source.encode_counted(self.schema, &source.all_rows(), &beside, None)?;
                self.unknown.add(unknown);
                let targets = source.targets();
                let frame = source.into_frame().filter(|_| !is_over);
                frame.map(|frame| Encoded {
                    table,
                    targets,
                    ids: frame.ids,
                    lines: frame.lines,
                    dropped: frame.dropped,
                })
            }
            RowSource::Array(rows) => {
                let part = rows.next(most, self.limits);
                let part = part.map_err(|e| e.in_file(&self.name))?;
                let encode = |array: Array| self.encoded(&array);
                part.map(encode).transpose()?
            }
            RowSource::Images {
                files,
                images,
                form,
                labels,
                taken,
                seen,
                ..
            } => {
                let range = *taken..images.len().min(taken.saturating_add(most));
                *taken = range.end;
                let ids: Vec<String> = images[range.clone()]
                    .iter()
                    .map(|(_, uri)| uri.clone())
                    .collect();
                let labels = labels.as_ref().map(|labels| labels[range].to_vec());
                let part = match ids.is_empty() {
                    true => None,
                    false => Some(images::decode(*files, &ids, *form, seen, self.limits)),
                };
                let part = part.transpose().map_err(|e| e.in_file(&self.name))?;
                let encoded = part.map(|array| self.encoded(&array));
                encoded.transpose()?.map(|mut encoded| {
                    encoded.table.labels = labels.unwrap_or_default();
                    encoded.ids = ids;
                    encoded
                })
            }
        };
        self.rows += encoded.as_ref().map_or(0, |part| part.table.rows as u64);
        Ok(encoded)
    }

    fn encoded(&self, array: &Array) -> Result<Encoded, DataError> {
        let InputKind::Array(input) = &self.schema.input else {
            return Err(DataError::options("the array does not fit the schema", ""));
        };
        let rows: Vec<u32> = (0..array.rows() as u32).collect();
        let features = array
            .check_values()
            .and_then(|()| array.encode(input, &rows, &self.limits.beside(array.bytes())))
            .map_err(|e| e.in_file(&self.name))?;
        let table = Table {
            rows: rows.len(),
            width: array.width(),
            features,
            labels: Vec::new(),
            weights: Vec::new(),
        };
        Ok(Encoded {
            table,
            ..Encoded::default()
        })
    }

    /// What a user should know of the rows so far but need not mend, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let told = [self.filled.told(), self.unknown.told()];
        let (listed, seen) = match &self.source {
            RowSource::Images { listed, seen, .. } => (listed.clone(), seen.told()),
            RowSource::Table { .. } | RowSource::Array(_) => Default::default(),
        };
        let told = told.into_iter().flatten().chain(seen);
        let told = told.map(|text| format!("{}: {text}", self.name));
        listed.into_iter().chain(told).collect()
    }
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The inputs of the model.
    Inputs(Vec<f32>),
    /// Nothing: a value is missing, and the schema has such rows left out.
    LeftOut,
    /// It cannot be encoded.
    Refused(DataError),
}

/// Encodes rows of texts, each by itself: what is wrong with one does not concern the others.
///
/// # Errors
/// If the columns are not those of the schema.
pub fn encode_each(
    schema: &InputSchema,
    name: &str,
    cells: &Cells,
    limits: &Limits,
) -> Result<Vec<Outcome>, DataError> {
    let InputKind::Columns(input) = &schema.input else {
        let problem = "the model reads an array, not named columns";
        return Err(DataError::options(problem, "give its numbers").in_file(name));
    };
    let reading = Reading::fitted(input, TableFormat::Csv);
    let label = (schema.label.name.as_str(), LabelColumn::Optional);
    let fit = (input, &reading);
    let plan = Plan::fitted(&cells.columns, fit, label, None, &[], &[], schema.task);
    let plan = plan.map_err(|e| e.in_file(name))?;
    let encode = |row: &Vec<String>| -> Result<Option<Vec<f32>>, DataError> {
        let mut one = CellRows::new(cells.columns.len(), std::slice::from_ref(row))?;
        let frame = Frame::part(&mut one, &plan, 1, limits)?;
        if frame.lines.is_empty() {
            return Ok(None);
        }
        frame
            .encode(input, &[0], limits, &mut |_| ())
            .map(|(inputs, _)| Some(inputs))
    };
    let outcomes = cells.rows.iter().map(|row| match encode(row) {
        Ok(Some(inputs)) => Outcome::Inputs(inputs),
        Ok(None) => Outcome::LeftOut,
        Err(error) => Outcome::Refused(error.in_file(name).by_row()),
    });
    Ok(outcomes.collect())
}

fn named_columns() -> DataError {
    let problem = "the model reads named columns, not an array";
    DataError::options(problem, "give a CSV file")
}

/// Encodes an NPY or IDX array of labels, one a row, as [`Table::labels`] holds them.
///
/// # Errors
/// As [`load`](crate::load()); also for a label that is none of the classes.
pub fn encode_labels(
    schema: &InputSchema,
    name: &str,
    reader: impl Read + Send,
    limits: &Limits,
) -> Result<Labels, DataError> {
    let encode = || {
        let array = Array::read(plain(reader, limits.file_bytes)?, None, limits)?;
        let labels = array.labels(schema.task, limits)?;
        let rows: Vec<u32> = (0..labels.len() as u32).collect();
        let encoded = labels.encode(&schema.label, &rows);
        Ok(Labels {
            encoded: encoded.map_err(|unknown| unknown.error_by_row(&schema.label))?,
            targets: labels.targets(),
        })
    };
    encode().map_err(|e: DataError| e.in_file(name))
}
