//! What a model's inputs and labels mean: the part of `model.json` that prediction needs.
//!
//! `trainyard-data` fits a schema and encodes rows with it. Workers tell it to the coordinator in their
//! [facts](crate::facts::DataFacts), and checkpoints carry it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::excerpt::quoted;
use crate::metrics::Task;

/// What to do about a missing value.
///
/// A value or a label is missing when its field is empty, `NA` or `NaN` (in any case of letters), or one
/// of [`ColumnsInput::missing_values`]; without [`ColumnsInput::na_is_missing`], a category only when its
/// field is empty. A label is never filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Missing {
    /// Refuse the file.
    #[default]
    Error,
    /// The mean of the column's training rows; a category becomes all zeros.
    Mean,
    /// The median of the column's training rows.
    Median,
    /// The most frequent value of the column's training rows; of several, the first in order.
    MostFrequent,
    /// A value that the manifest gives.
    Constant,
    /// Leave the row out.
    DropRow,
}

/// Why a schema cannot encode rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "input schema: {0}; the file or message that holds it was changed or cut: take the original"
)]
pub struct SchemaError(String);

/// How rows become tensors: fitted once on the training rows, then carried in the artifact.
///
/// Deserializing checks it ([`InputSchema::check`]), so a schema in hand is one that can encode. A
/// schema that this version does not know, such as one with another kind of column, is refused with
/// the manifest or message that holds it: only the version that wrote it can use it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Unchecked")]
pub struct InputSchema {
    /// What the model predicts.
    pub task: Task,
    /// The inputs.
    pub input: InputKind,
    /// The label.
    pub label: Label,
}

/// The two kinds of input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InputKind {
    /// Named columns of a text file.
    Columns(ColumnsInput),
    /// An array of numbers.
    Array(ArrayInput),
}

/// Named columns; the inputs of a row are theirs one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnsInput {
    /// The byte between fields.
    pub delimiter: u8,
    /// What to do about missing values.
    pub missing: Missing,
    /// Whether `NA` and `NaN` are missing values in a categorical column too, and not categories. The
    /// digest of the data leaves it out: where it makes a difference, the rows differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub na_is_missing: bool,
    /// Whether columns without a name in the header are used, under the names `column 1`, `column 2`, ...
    /// by their positions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unnamed: bool,
    /// Texts that stand for a missing value in any column, beside an empty field, `NA` and `NaN`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_values: Vec<String>,
    /// The byte before the decimals of a number.
    #[serde(default = "point", skip_serializing_if = "is_point")]
    pub decimal: u8,
    /// The byte between the thousands of a number, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thousands: Option<u8>,
    /// How the bytes of a file stand for letters.
    #[serde(default, skip_serializing_if = "Encoding::is_utf8")]
    pub encoding: Encoding,
    /// Whether files have no header: columns are then `column 1`, `column 2`, ... by their positions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub headerless: bool,
    /// The columns, in the order of the training file. Files for prediction may order them as
    /// they like and hold others beside them.
    pub columns: Vec<Column>,
}

fn point() -> u8 {
    b'.'
}

fn is_point(byte: &u8) -> bool {
    *byte == b'.'
}

/// How bytes stand for letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Encoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// ISO 8859-1: each byte is the character of its number.
    Latin1,
    /// Windows-1252, which has other characters than Latin-1 from 0x80 to 0x9f, such as the euro sign.
    Windows1252,
}

impl Encoding {
    fn is_utf8(&self) -> bool {
        *self == Self::Utf8
    }
}

/// One named column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// Its type.
    #[serde(flatten)]
    pub kind: ColumnKind,
    /// What to do about its missing values; [`ColumnsInput::missing`] if nothing is said here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// Whether one more input, after the column's own, is 1 where the value was missing and 0 elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing_indicator: bool,
}

impl Column {
    /// Inputs that the column becomes.
    pub fn width(&self) -> usize {
        self.kind.width() + usize::from(self.missing_indicator)
    }
}

/// Type of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum ColumnKind {
    /// One input: `(x - mean) / std`, computed in f64 and rounded once.
    Numeric {
        /// Mean of the training rows; 0 without normalization.
        mean: f64,
        /// Population standard deviation of the training rows; 1 for a constant column or
        /// without normalization.
        std: f64,
        /// What stands for a missing value, before normalization: the mean of the training rows, unless
        /// the column's policy is another one.
        fill: f64,
    },
    /// One input a category: 1 for the row's own, 0 for the others. A category that no training
    /// row has is all zeros.
    Categorical {
        /// The categories of the training rows, sorted by their bytes, or by value if they are numbers
        /// that are compared by value.
        categories: Vec<String>,
        /// Whether the categories are numbers, which then compare by value (`1` and `1.0` are one).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        numeric: bool,
        /// The category that stands for a missing value; none of them if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fill: Option<String>,
    },
    /// One input: 1 for yes, 0 for no, not normalized.
    Boolean {
        /// What stands for a missing value, between 0 and 1.
        fill: f64,
    },
    /// One input: the place of the category in their order, from 0, normalized like a number.
    Ordinal {
        /// The categories, lowest first. Others are refused.
        categories: Vec<String>,
        /// As that of a number.
        mean: f64,
        /// As that of a number.
        std: f64,
        /// The place that stands for a missing value.
        fill: f64,
    },
    /// Inputs for parts of a date, in the order of `parts`, each normalized like a number.
    Date {
        /// How a date is written, in the notation of `strftime`.
        format: String,
        /// What the model sees of it.
        parts: Vec<DateInput>,
        /// What stands for a missing date, in seconds since 1970-01-01T00:00:00Z.
        fill: f64,
    },
}

/// One input made of a date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DateInput {
    /// Which part.
    pub part: DatePart,
    /// As that of a number.
    pub mean: f64,
    /// As that of a number.
    pub std: f64,
}

/// A part of a date; in UTC where its text names an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DatePart {
    /// Days since 1970-01-01, with the time of day as a fraction: the time that has elapsed.
    Elapsed,
    /// The year.
    Year,
    /// The month, from 1.
    Month,
    /// The day of the month, from 1.
    Day,
    /// The day of the week, from 0 for Monday.
    DayOfWeek,
    /// The day of the year, from 1.
    DayOfYear,
    /// The hour, with minutes and seconds as a fraction.
    Hour,
}

/// Whether values can be scaled by these.
fn usable(mean: f64, std: f64) -> bool {
    mean.is_finite() && std.is_finite() && std > 0.0
}

impl ColumnKind {
    /// Inputs that the column becomes, without an indicator.
    pub fn width(&self) -> usize {
        match self {
            Self::Numeric { .. } | Self::Boolean { .. } | Self::Ordinal { .. } => 1,
            Self::Categorical { categories, .. } => categories.len(),
            Self::Date { parts, .. } => parts.len(),
        }
    }

    /// What the type cannot say is wrong with the column `name`.
    fn problem(&self, name: &str) -> Option<String> {
        let unusable = || Some(format!("column {name} has no usable mean or deviation"));
        match self {
            Self::Numeric { mean, std, fill } if !(usable(*mean, *std) && fill.is_finite()) => {
                unusable()
            }
            Self::Categorical {
                categories,
                numeric,
                fill,
            } => {
                let value = |name: &String| name.parse::<f64>().ok();
                let sorted = match numeric {
                    false => categories.is_sorted_by(|a, b| a < b),
                    true => {
                        categories.iter().all(|name| value(name).is_some())
                            && categories.is_sorted_by(|a, b| value(a) < value(b))
                    }
                };
                if !sorted {
                    return Some(format!("categories of column {name} are not sorted"));
                }
                let known = fill.as_ref().is_none_or(|fill| categories.contains(fill));
                (!known).then(|| format!("column {name} is filled in with none of its categories"))
            }
            Self::Boolean { fill } if !(0.0..=1.0).contains(fill) => unusable(),
            Self::Ordinal {
                categories,
                mean,
                std,
                fill,
            } => {
                if !(usable(*mean, *std) && fill.is_finite()) {
                    return unusable();
                }
                let names: HashSet<&String> = categories.iter().collect();
                (names.len() != categories.len() || names.len() < 2)
                    .then(|| format!("column {name} has not two different categories"))
            }
            Self::Date { parts, fill, .. } => {
                let scaled = parts.iter().all(|part| usable(part.mean, part.std));
                if !(scaled && fill.is_finite()) {
                    return unusable();
                }
                parts
                    .is_empty()
                    .then(|| format!("column {name} has no parts"))
            }
            _ => None,
        }
    }
}

/// An array of numbers; a row is one slice along its first axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArrayInput {
    /// Shape of one row: `[features]` or `[channels, height, width]`.
    pub shape: Vec<u64>,
    /// Element type of the training file in NumPy's notation without byte order, such as `u1` or
    /// `f4`. Prediction accepts any type.
    pub dtype: String,
    /// Mean of each feature or channel over the training rows; 0 without normalization.
    pub mean: Vec<f64>,
    /// Standard deviation of each; 1 where it is constant or without normalization.
    pub std: Vec<f64>,
    /// Whether images of other sizes are resized to that of the shape.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resize: bool,
}

/// What is predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Label {
    /// Name of the label's column; `label` for arrays.
    pub name: String,
    /// Names of the classes by index, for binary tasks `[negative, positive]`; empty for
    /// regression. Sorted, by value if all are numbers, else by bytes, unless a binary job names the
    /// positive one.
    pub classes: Vec<String>,
    /// Whether all classes are numbers, which then compare by value (`1` and `1.0` are one).
    pub numeric: bool,
    /// How the target of a regression is scaled for the model; not at all if nothing is said here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<TargetScale>,
    /// What an output of a regression stands for, if not for the target itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// The probability above which the positive class is predicted; one half if nothing is said here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// What an output stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Link {
    /// The logarithm of what is expected.
    Log,
}

/// How the target of a regression is scaled: the model learns, and puts out, `(y - mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetScale {
    /// Mean of the training rows.
    pub mean: f64,
    /// Population standard deviation of the training rows; 1 where all targets are equal.
    pub std: f64,
}

impl Label {
    /// A target as the model learns it.
    pub fn scaled(&self, target: f64) -> f32 {
        match self.scale {
            Some(TargetScale { mean, std }) => ((target - mean) / std) as f32,
            None => target as f32,
        }
    }

    /// The target that an output of the model stands for, with as many decimals as tell it from that of the next output:
    /// a 32-bit float has few digits, and a scaled target can be far from 0.
    pub fn unscaled(&self, output: f32) -> f64 {
        let exact = f64::from(output);
        // What lies between two outputs.
        let step = f64::from(output.abs().next_up()) - exact.abs();
        match (self.scale, self.link) {
            (_, Some(Link::Log)) => {
                let value = libm::exp(exact);
                to_decimals(value, value * step)
            }
            (Some(TargetScale { mean, std }), _) => to_decimals(exact * std + mean, step * std),
            // The shortest text that stands for this output alone.
            (None, None) => output.to_string().parse().unwrap_or(exact),
        }
    }

    /// The logit above which the positive class is predicted.
    pub fn cutoff(&self) -> f32 {
        self.threshold.map_or(0.0, cutoff_of)
    }
}

/// The value rounded to the decimals in which one `step` away shows.
fn to_decimals(value: f64, step: f64) -> f64 {
    let scientific = format!("{step:e}");
    let exponent = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok());
    match exponent {
        // Whole numbers have all digits that they need.
        Some(exponent @ i32::MIN..=-1) if value.is_finite() => {
            let decimals = exponent.unsigned_abs() as usize;
            format!("{value:.decimals$}").parse().unwrap_or(value)
        }
        _ => value,
    }
}

/// The logit of a probability.
pub(crate) fn cutoff_of(threshold: f64) -> f32 {
    libm::log(threshold / (1.0 - threshold)) as f32
}

impl InputSchema {
    /// Shape of one row: `[features]` or `[channels, height, width]`.
    pub fn input_shape(&self) -> Vec<u64> {
        match &self.input {
            InputKind::Columns(columns) => vec![columns.width() as u64],
            InputKind::Array(array) => array.shape.clone(),
        }
    }

    /// Width of the model's output: 1 for binary and regression, classes for multiclass.
    pub fn outputs(&self) -> u64 {
        match self.task {
            Task::Binary | Task::Regression => 1,
            Task::Multiclass => self.label.classes.len() as u64,
        }
    }

    /// The class whose F1 a binary classifier has, and whose logit it puts out.
    pub fn positive(&self) -> Option<&str> {
        let binary = self.task == Task::Binary;
        self.label
            .classes
            .get(1)
            .filter(|_| binary)
            .map(String::as_str)
    }

    /// Checks what no type can say: sizes agree, deviations are positive, names are unique.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self) -> Result<(), SchemaError> {
        self.problem()
            .map_or(Ok(()), |problem| Err(SchemaError(problem)))
    }

    fn problem(&self) -> Option<String> {
        let classes = self.label.classes.len();
        let wrong = match self.task {
            Task::Binary => classes != 2,
            Task::Multiclass => classes < 2,
            Task::Regression => classes != 0,
        };
        if wrong {
            return Some(format!(
                "{classes} classes do not fit the task {:?}",
                self.task
            ));
        }
        if let Some(TargetScale { mean, std }) = self.label.scale {
            let usable = mean.is_finite() && std.is_finite() && std > 0.0;
            if self.task != Task::Regression || !usable {
                return Some("the target has no usable mean or deviation".to_owned());
            }
        }
        if let Some(threshold) = self.label.threshold
            && !(self.task == Task::Binary && threshold > 0.0 && threshold < 1.0)
        {
            return Some("the threshold is not between 0 and 1".to_owned());
        }
        if self.label.link.is_some()
            && (self.task != Task::Regression || self.label.scale.is_some())
        {
            return Some("the link does not fit the target".to_owned());
        }
        match &self.input {
            InputKind::Columns(columns) => columns.problem(),
            InputKind::Array(array) => array.problem(),
        }
    }
}

impl ColumnsInput {
    /// Inputs of one row.
    pub fn width(&self) -> usize {
        self.columns.iter().map(Column::width).sum()
    }

    fn problem(&self) -> Option<String> {
        let mut names = HashSet::new();
        for column in &self.columns {
            let name = quoted(&column.name);
            if !names.insert(&column.name) {
                return Some(format!("column {name} occurs twice"));
            }
            if let Some(problem) = column.kind.problem(&name) {
                return Some(problem);
            }
        }
        (self.width() == 0).then(|| "no inputs".to_owned())
    }
}

impl ArrayInput {
    /// Inputs of one row.
    pub fn width(&self) -> usize {
        self.shape.iter().map(|&d| d as usize).product()
    }

    fn problem(&self) -> Option<String> {
        let groups = match self.shape[..] {
            [features] => features,
            [channels, _, _] => channels,
            _ => return Some(format!("shape {:?} has not 1 or 3 dimensions", self.shape)),
        };
        let size = self
            .shape
            .iter()
            .try_fold(1u64, |size, &d| size.checked_mul(d));
        if !size.is_some_and(|size| (1..=1 << 32).contains(&size)) {
            return Some(format!("shape {:?} is empty or too large", self.shape));
        }
        if self.mean.len() as u64 != groups || self.std.len() as u64 != groups {
            return Some(format!("{groups} means and deviations expected"));
        }
        let mut scales = self.mean.iter().zip(&self.std);
        let all = scales.all(|(mean, std)| usable(*mean, *std));
        (!all).then(|| "a mean or deviation is not usable".to_owned())
    }
}

/// [`InputSchema`] as it stands in a file, before it is checked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unchecked {
    task: Task,
    input: InputKind,
    label: Label,
}

impl TryFrom<Unchecked> for InputSchema {
    type Error = SchemaError;

    fn try_from(raw: Unchecked) -> Result<Self, SchemaError> {
        let schema = Self {
            task: raw.task,
            input: raw.input,
            label: raw.label,
        };
        schema.check()?;
        Ok(schema)
    }
}
