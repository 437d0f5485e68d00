//! What a model's inputs and labels mean: the part of `model.json` that prediction needs.
//!
//! `trainyard-data` fits a schema and encodes rows with it. Workers tell it to the coordinator in their
//! [facts](crate::facts::DataFacts), and checkpoints carry it.

use serde::{Deserialize, Serialize};

use crate::excerpt::quoted;
use crate::metrics::Task;

/// What to do about a missing value.
///
/// A value or a label is missing when its field is empty, `NA` or `NaN` (in any case of letters);
/// without [`ColumnsInput::na_is_missing`], a category only when its field is empty. Labels can
/// never be missing, except where [`Missing::DropRow`] drops their row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Missing {
    /// Refuse the file.
    #[default]
    Error,
    /// A number becomes the mean of the column's training rows; a category becomes all zeros.
    Mean,
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
    /// The columns, in the order of the training file. Files for prediction may order them as
    /// they like and hold others beside them.
    pub columns: Vec<Column>,
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
        /// What stands for a missing value, before normalization: the mean of the training rows.
        fill: f64,
    },
    /// One input a category: 1 for the row's own, 0 for the others. A category that no training
    /// row has is all zeros.
    Categorical {
        /// The categories of the training rows, sorted by their bytes.
        categories: Vec<String>,
    },
}

impl ColumnKind {
    /// Inputs that the column becomes.
    pub fn width(&self) -> usize {
        match self {
            Self::Numeric { .. } => 1,
            Self::Categorical { categories } => categories.len(),
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
}

/// What is predicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        match &self.input {
            InputKind::Columns(columns) => columns.problem(),
            InputKind::Array(array) => array.problem(),
        }
    }
}

impl ColumnsInput {
    /// Inputs of one row.
    pub fn width(&self) -> usize {
        self.columns.iter().map(|c| c.kind.width()).sum()
    }

    fn problem(&self) -> Option<String> {
        let mut names = std::collections::HashSet::new();
        for column in &self.columns {
            let name = quoted(&column.name);
            if !names.insert(&column.name) {
                return Some(format!("column {name} occurs twice"));
            }
            match &column.kind {
                ColumnKind::Numeric { mean, std, fill } => {
                    if !(mean.is_finite() && fill.is_finite() && std.is_finite() && *std > 0.0) {
                        return Some(format!("column {name} has no usable mean or deviation"));
                    }
                }
                ColumnKind::Categorical { categories } => {
                    if !categories.is_sorted_by(|a, b| a < b) {
                        return Some(format!("categories of column {name} are not sorted"));
                    }
                }
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
        let usable = self.mean.iter().all(|m| m.is_finite())
            && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        (!usable).then(|| "a mean or deviation is not usable".to_owned())
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
