//! A source in memory, whatever its format: the seam between reading and encoding.

use trainyard_core::metrics::Task;
use trainyard_core::schema::{ArrayInput, InputKind, InputSchema, Label, Link, TargetScale};

use crate::array::{Array, Format};
use crate::classes::{self, RawLabels};
use crate::columns::{
    Frame, LabelColumn, Plan, RawColumn, RawValues, Reading, SplitColumn, Unknown,
};
use crate::digest::TableDigest;
use crate::error::DataError;
use crate::files::{Files, expand, open};
use crate::images::{self, Form, Images};
use crate::options::{
    ClassWeights, ImageOptions, Limits, LoadOptions, Normalization, SourceSpec, TableOptions,
};
use crate::table::Table;
use crate::warnings;

/// Rows as read, not yet encoded.
pub(crate) struct Source {
    /// The file of the inputs.
    file: String,
    /// The file of the labels; the same for text.
    label_file: String,
    label_name: String,
    labels: Option<RawLabels>,
    /// What each row counts in training, where a column says so.
    weights: Option<Vec<f64>>,
    rows: usize,
    inputs: Inputs,
}

enum Inputs {
    Columns {
        frame: Box<Frame>,
        reading: Reading,
    },
    Array(Array),
    Images {
        rows: Array,
        /// The file of each row.
        files: Vec<String>,
        /// Whether images of other sizes are resized.
        resize: bool,
        warnings: Vec<String>,
    },
}

impl Source {
    /// Reads a training source.
    pub(crate) fn read(
        files: &dyn Files,
        spec: &SourceSpec,
        splits: &[SplitColumn<'_>],
        task: Task,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        match spec {
            SourceSpec::Table(csv) => {
                let uris = expand(files, &csv.uris)?;
                let frame = Frame::training(files, (csv, &uris), splits, task, limits)?;
                Ok(Self::of_table(csv, &uris, frame))
            }
            _ if !splits.is_empty() => {
                let field = splits.first().map_or("", |(_, field)| field);
                let problem = format!("`{field}` names a column, and arrays and images have none");
                Err(DataError::options(
                    problem,
                    "leave it out, or give the other rows by themselves",
                ))
            }
            SourceSpec::Npy { features, labels } => {
                Self::arrays(files, features, labels, Format::Npy, task, limits)
            }
            SourceSpec::Idx { images, labels } => {
                Self::arrays(files, images, labels, Format::Idx, task, limits)
            }
            SourceSpec::Images(options) => {
                let form = Form::from(options);
                Self::images(files, options, form, task, limits)
            }
        }
    }

    /// Reads a source for a schema that was fitted on another. The file must have the columns `listed`.
    pub(crate) fn read_fitted(
        files: &dyn Files,
        spec: &SourceSpec,
        schema: &InputSchema,
        listed: &[(&str, &str)],
        splits: &[SplitColumn<'_>],
        limits: &Limits,
    ) -> Result<Self, DataError> {
        match (&schema.input, spec) {
            (InputKind::Columns(input), SourceSpec::Table(csv)) => {
                let uris = expand(files, &csv.uris)?;
                let of_splits = splits.iter().map(|(name, _)| (*name).to_owned());
                let known: Vec<String> = csv.exclude.iter().cloned().chain(of_splits).collect();
                let fit = (input, &Reading::fitted(input, csv.format));
                let frame = Frame::read(files, &uris, &csv.into(), limits, |header| {
                    let label = (csv.label.as_str(), LabelColumn::Required);
                    let weight = csv.weight.as_deref();
                    Plan::fitted(header, fit, label, weight, &known, listed, schema.task)?
                        .with_splits(header, splits, csv)
                })?;
                Ok(Self::of_table(csv, &uris, frame))
            }
            (InputKind::Array(_), SourceSpec::Npy { .. } | SourceSpec::Idx { .. }) => {
                Self::read(files, spec, splits, schema.task, limits)
            }
            (InputKind::Array(input), SourceSpec::Images(options)) => {
                let form = Form::of(input).map_err(|e| e.in_file(&options.uri))?;
                Self::images(files, options, form, schema.task, limits)
            }
            _ => Err(DataError::options(
                "training and validation are of different kinds (tables, arrays, images)",
                "give both in the same format",
            )),
        }
    }

    fn of_table(options: &TableOptions, uris: &[String], frame: Frame) -> Self {
        let name = match (&options.uris[..], uris) {
            ([uri], _) => uri.clone(),
            (_, [first, others @ ..]) => format!("{first} and {} more", others.len()),
            (_, []) => String::new(),
        };
        Self::of_frame(&name, frame, options.label.clone(), options.into())
    }

    /// A source of columns already read.
    pub(crate) fn of_frame(
        file: &str,
        mut frame: Frame,
        label_name: String,
        reading: Reading,
    ) -> Self {
        Self {
            file: file.to_owned(),
            label_file: file.to_owned(),
            label_name,
            labels: frame.labels.take(),
            weights: frame.weights.take(),
            rows: frame.lines.len(),
            inputs: Inputs::Columns {
                frame: Box::new(frame),
                reading,
            },
        }
    }

    fn arrays(
        files: &dyn Files,
        features: &str,
        labels: &str,
        format: Format,
        task: Task,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let read = |uri, limits: &Limits| {
            let bytes = open(files, uri, limits.file_bytes)?;
            Array::read(bytes, Some(format), limits).map_err(|e| e.in_file(uri))
        };
        let array = read(features, limits)?;
        array
            .row_shape()
            .and_then(|_| array.check_values())
            .map_err(|e| e.in_file(features))?;
        let rows = array.rows();
        if rows > u32::MAX as usize {
            let problem = format!("{rows} rows are over {}", u32::MAX);
            return Err(DataError::limit(problem, "split the file").in_file(features));
        }
        let beside = limits.beside(array.all_bytes());
        let raw = read(labels, &beside)?
            .labels(task, &beside)
            .map_err(|e| e.in_file(labels))?;
        if raw.len() != rows {
            let problem = format!(
                "expected {rows} labels, one a row of {features}, found {}",
                raw.len()
            );
            return Err(DataError::data(problem, "name the labels of that file").in_file(labels));
        }
        Ok(Self {
            file: features.to_owned(),
            label_file: labels.to_owned(),
            label_name: "label".to_owned(),
            labels: Some(raw),
            weights: None,
            rows,
            inputs: Inputs::Array(array),
        })
    }

    fn images(
        files: &dyn Files,
        options: &ImageOptions,
        form: Form,
        task: Task,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let Images {
            rows,
            labels,
            files,
            warnings,
        } = images::read(files, options, form, task, limits)?;
        Ok(Self {
            file: options.uri.clone(),
            label_file: options.uri.clone(),
            label_name: images::LABEL.to_owned(),
            labels: Some(labels),
            weights: None,
            rows: rows.rows(),
            inputs: Inputs::Images {
                rows,
                files,
                resize: options.size.is_some(),
                warnings,
            },
        })
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        let inputs = match &self.inputs {
            Inputs::Columns { frame, .. } => frame.bytes(),
            Inputs::Array(array) => array.bytes(),
            Inputs::Images { rows, files, .. } => {
                let names = files
                    .iter()
                    .map(|name| (size_of::<String>() + name.len()) as u64);
                rows.bytes() + names.sum::<u64>()
            }
        };
        let weights = self
            .weights
            .as_ref()
            .map_or(0, |weights| size_of_val(&weights[..]) as u64);
        inputs + weights + self.labels.as_ref().map_or(0, RawLabels::bytes)
    }

    /// What each of `rows`, which are the training rows and have these encoded labels, counts in training: its own weight times
    /// that of its class. Empty where all count 1.
    pub(crate) fn weights(
        &self,
        rows: &[u32],
        label: &Label,
        labels: &[f32],
        of_classes: &ClassWeights,
    ) -> Result<Vec<f32>, DataError> {
        let of_classes =
            classes::weights(of_classes, label, labels).map_err(|e| self.label_place(e))?;
        if self.weights.is_none() && of_classes.is_none() {
            return Ok(Vec::new());
        }
        let class = |place: usize| {
            of_classes
                .as_ref()
                .map_or(1.0, |weights| weights[labels[place] as usize])
        };
        let own = |row: u32| {
            self.weights
                .as_ref()
                .map_or(1.0, |weights| weights[row as usize])
        };
        let weights = rows
            .iter()
            .zip(0..)
            .map(|(&row, place)| (own(row) * class(place)) as f32);
        let weights: Vec<f32> = weights.collect();
        if !weights.iter().any(|weight| *weight > 0.0) {
            let problem = "every training row has the weight 0";
            return Err(DataError::data(problem, "give some rows a weight").in_file(&self.file));
        }
        Ok(weights)
    }

    /// The targets of a regression as the file has them.
    pub(crate) fn targets(&self) -> Vec<f64> {
        self.labels
            .as_ref()
            .map(RawLabels::targets)
            .unwrap_or_default()
    }

    /// The number of each row's group, or the rows' values, of a column that a split goes by.
    pub(crate) fn split_values(&self, by: SplitColumn<'_>) -> Option<&RawValues> {
        let Inputs::Columns { frame, .. } = &self.inputs else {
            return None;
        };
        let (name, field) = by;
        let is_meant = |column: &&RawColumn| {
            column.name() == name
                && (field == "groupBy") == matches!(column.values, RawValues::Codes { .. })
        };
        frame
            .split
            .iter()
            .find(is_meant)
            .map(|column| &column.values)
    }

    /// The index of each row's class.
    pub(crate) fn classes(&self, label: &Label) -> Result<Vec<u32>, DataError> {
        let labels = self.encode_labels(label, &self.all_rows())?;
        Ok(labels.into_iter().map(|class| class as u32).collect())
    }

    /// Rows read.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Every row.
    pub(crate) fn all_rows(&self) -> Vec<u32> {
        (0..self.rows as u32).collect()
    }

    /// The file of the inputs.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Fits the classes, on all rows.
    pub(crate) fn fit_label(&self, options: &LoadOptions) -> Result<Label, DataError> {
        let labels = self.labels.as_ref();
        let labels = labels.ok_or_else(|| DataError::options("the source has no labels", ""))?;
        let label = labels
            .fit(options.task, &self.label_name, options.positive.as_deref())
            .map_err(|e| self.label_place(e))?;
        Ok(Label {
            link: options.link,
            threshold: options.threshold,
            ..label
        })
    }

    /// The scale of a target, if it is to be scaled, fitted on `rows`, which are the training rows.
    pub(crate) fn fit_scale(&self, options: &LoadOptions, rows: &[u32]) -> Option<TargetScale> {
        let scaled = options.target == Normalization::Standardize && options.link.is_none();
        self.labels.as_ref().filter(|_| scaled)?.scale(rows)
    }

    /// Checks that targets of which logarithms are learned have some.
    pub(crate) fn check_targets(&self, label: &Label) -> Result<(), DataError> {
        let negative = match (label.link, &self.labels) {
            (Some(Link::Log), Some(labels)) => labels.negative(),
            _ => None,
        };
        let Some((row, target)) = negative else {
            return Ok(());
        };
        let problem =
            format!("expected a target of 0 or more for the loss poisson, found {target}");
        let error = DataError::data(problem, "correct the value, or choose another loss");
        Err(self.label_place(match &self.inputs {
            Inputs::Columns { frame, .. } => frame.at_row(error, row),
            Inputs::Array(_) | Inputs::Images { .. } => DataError {
                problem: format!("row {row} (from 0): {}", error.problem),
                ..error
            },
        }))
    }

    /// Classes that none of `rows` has.
    pub(crate) fn unseen_classes(&self, label: &Label, rows: &[u32]) -> Vec<String> {
        self.labels
            .as_ref()
            .map(|labels| labels.unseen(label, rows))
            .unwrap_or_default()
    }

    /// Fits the inputs on `rows`, which are the training rows.
    pub(crate) fn fit_input(
        &self,
        rows: &[u32],
        normalization: Normalization,
        limits: &Limits,
    ) -> Result<InputKind, DataError> {
        match &self.inputs {
            Inputs::Columns { frame, reading } => frame
                .fit(rows, normalization, reading, limits)
                .map(InputKind::Columns),
            Inputs::Array(array) => array.fit(rows, normalization, limits).map(InputKind::Array),
            Inputs::Images {
                rows: images,
                resize,
                ..
            } => {
                let fitted = images.fit(rows, normalization, limits)?;
                let resize = *resize;
                Ok(InputKind::Array(ArrayInput { resize, ..fitted }))
            }
        }
        .map_err(|e| e.in_file(&self.file))
    }

    /// Encodes `rows` with a fitted schema. A `digest` is given their number and their features meanwhile.
    pub(crate) fn encode(
        &self,
        schema: &InputSchema,
        rows: &[u32],
        limits: &Limits,
        warnings: &mut Vec<String>,
        digest: Option<&mut TableDigest>,
    ) -> Result<Table, DataError> {
        let (table, unknown) = self.encode_counted(schema, rows, limits, digest)?;
        warnings.extend(unknown.told().map(|text| self.told(&text)));
        Ok(table)
    }

    /// As [`Source::encode`], with the categories that the schema does not know.
    pub(crate) fn encode_counted(
        &self,
        schema: &InputSchema,
        rows: &[u32],
        limits: &Limits,
        digest: Option<&mut TableDigest>,
    ) -> Result<(Table, Unknown), DataError> {
        let mut digest = digest;
        if let Some(digest) = &mut digest {
            let width: u64 = schema.input_shape().iter().product();
            digest.begin(rows.len(), width as usize);
        }
        let mut done = |features: &[f32]| {
            if let Some(digest) = &mut digest {
                digest.features(features);
            }
        };
        let (features, unknown) = match (&self.inputs, &schema.input) {
            (Inputs::Columns { frame, .. }, InputKind::Columns(input)) => {
                frame.encode(input, rows, limits, &mut done)
            }
            (
                Inputs::Array(array) | Inputs::Images { rows: array, .. },
                InputKind::Array(input),
            ) => {
                let features = array.encode(input, rows, limits);
                features.map(|features| {
                    done(&features);
                    (features, Unknown::default())
                })
            }
            _ => Err(DataError::options("the source does not fit the schema", "")),
        }
        .map_err(|e| e.in_file(&self.file))?;
        let labels = self.encode_labels(&schema.label, rows)?;
        let width = features.len().checked_div(rows.len()).unwrap_or(0);
        let table = Table {
            rows: rows.len(),
            width,
            features,
            labels,
            weights: Vec::new(),
        };
        Ok((table, unknown))
    }

    /// The encoded labels of some rows.
    fn encode_labels(&self, label: &Label, rows: &[u32]) -> Result<Vec<f32>, DataError> {
        match &self.labels {
            None => Ok(Vec::new()),
            Some(labels) => labels.encode(label, rows).map_err(|unknown| {
                self.label_place(match &self.inputs {
                    Inputs::Columns { frame, .. } => {
                        frame.at_row(unknown.error(label), unknown.row)
                    }
                    Inputs::Array(_) => unknown.error_by_row(label),
                    Inputs::Images { files, .. } => {
                        let file = files.get(unknown.row as usize);
                        unknown
                            .error(label)
                            .in_file(file.map_or("", String::as_str))
                    }
                })
            }),
        }
    }

    /// What a user should know of the file, a sentence each.
    pub(crate) fn warnings(&self, label: &Label, input: &InputKind) -> Vec<String> {
        let found = match (&self.inputs, input) {
            (Inputs::Columns { frame, .. }, InputKind::Columns(input)) => {
                let mut found = frame.warnings.clone();
                found.extend(warnings::missing(frame));
                found.extend(warnings::rounded_columns(frame, input));
                found.extend(warnings::alike_categories(frame));
                found
            }
            (Inputs::Array(array), InputKind::Array(input)) => {
                array.rounded(input).into_iter().collect()
            }
            (Inputs::Images { warnings, .. }, _) => warnings.clone(),
            _ => Vec::new(),
        };
        let labels = self.labels.as_ref();
        let labels = labels.and_then(|labels| labels.warning(label));
        let found = found.iter().map(|text| self.told(text));
        found
            .chain(labels.map(|text| self.told_of_labels(&text)))
            .collect()
    }

    /// What a user should know of `rows`, which are the training rows, a sentence each.
    pub(crate) fn training_warnings(
        &self,
        label: &Label,
        input: &InputKind,
        rows: &[u32],
    ) -> Vec<String> {
        let constant = match (&self.inputs, input) {
            (Inputs::Columns { frame, .. }, InputKind::Columns(input)) => {
                warnings::constant(frame, input, rows)
            }
            _ => None, // the edges of most images are
        };
        let target = self
            .labels
            .as_ref()
            .and_then(|labels| labels.constant(label, rows));
        let channels = match input {
            InputKind::Array(input) => warnings::channels_last(&input.shape),
            InputKind::Columns(_) => None,
        };
        let told = [
            constant.map(|text| self.told(&text)),
            target.map(|text| self.told_of_labels(&text)),
            channels.map(|text| self.told(&text)),
        ];
        told.into_iter().flatten().collect()
    }

    /// A sentence with the file that it is about.
    fn told(&self, text: &str) -> String {
        format!("{}: {text}", self.file)
    }

    fn told_of_labels(&self, text: &str) -> String {
        format!("{}: {text}", self.label_file)
    }

    /// The columns of text.
    pub(crate) fn into_frame(self) -> Option<Frame> {
        match self.inputs {
            Inputs::Columns { frame, .. } => Some(*frame),
            Inputs::Array(_) | Inputs::Images { .. } => None,
        }
    }

    fn label_place(&self, error: DataError) -> DataError {
        let error = error.in_file(&self.label_file);
        match &self.inputs {
            Inputs::Columns { .. } => error.in_column(&self.label_name),
            Inputs::Array(_) | Inputs::Images { .. } => error,
        }
    }
}
