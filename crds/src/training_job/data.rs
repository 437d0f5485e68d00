//! Where the data are and how they are read (`spec.data`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Volume;

/// The job's data.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::data()))]
pub struct Data {
    /// Volume with the data. In pods relative URIs resolve in its mount; in a local run they resolve against the manifest's folder and the
    /// volume is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Store of the data whose URIs are `s3://BUCKET/KEY`. The workers read them; a local run does so with the credentials of its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Connection>,
    /// Data that the model is trained on.
    pub train: Dataset,
    /// Data that the model is judged on after each epoch; the model is never trained on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// How numeric features are scaled. What is fitted is fitted on training rows alone and travels in the artifact.
    #[serde(default)]
    pub normalization: Normalization,
}

/// How an S3-compatible store is reached.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Connection {
    /// URL of the store; without it AWS, in `region`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
    /// Region of the buckets.
    #[serde(default = "super::checkpoint::default_region")]
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// Secret in the job's namespace with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. Without it the pods' own identity is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
}

/// A dataset in one of the supported formats.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Dataset {
    /// A table with a header line, as comma-separated values.
    Csv(CsvSource),
    /// Two NumPy arrays.
    Npy(NpySource),
    /// Two IDX files, the format of MNIST.
    Idx(IdxSource),
}

/// Where validation data come from. Files are read with the options of `train` and must be of its format.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Validation {
    /// Share of the training rows that is set aside; between 0 and 1, both excluded. The seed chooses them, whatever their labels are.
    Fraction(
        #[schemars(
            range(min = 0.0, max = 1.0),
            extend("exclusiveMinimum" = true, "exclusiveMaximum" = true)
        )]
        f64,
    ),
    /// A table with the columns of the training table.
    Csv(CsvFile),
    /// Two NumPy arrays.
    Npy(NpySource),
    /// Two IDX files.
    Idx(IdxSource),
}

/// A CSV table and how it is read.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::csv()))]
pub struct CsvSource {
    /// URI of the file: a path, relative or absolute, or `s3://BUCKET/KEY`.
    #[schemars(length(min = 1, max = 1024))]
    pub uri: String,
    /// Name of the column to predict.
    #[schemars(length(min = 1, max = 256))]
    pub label: String,
    /// Character between the columns, a single ASCII character.
    #[serde(default = "default_delimiter")]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[\t\x20-\x7e]$"))]
    pub delimiter: String,
    /// Names of columns that are not used.
    #[serde(default)]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub exclude: Vec<String>,
    /// Names of columns whose values are categories; each becomes one input per category seen in training (one-hot).
    #[serde(default)]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub categorical: Vec<String>,
    /// What is done about a missing value, which is an empty field, `NA` or `NaN`, in any column.
    #[serde(default)]
    pub missing: MissingPolicy,
    /// What is done with columns that have no name in the header, as pandas, R and spreadsheets write an index.
    // A field at its default is left out, so that the digests of manifests from before it stay.
    #[serde(default, skip_serializing_if = "UnnamedColumns::is_default")]
    pub unnamed_columns: UnnamedColumns,
}

impl CsvSource {
    /// The delimiter as a byte; a comma for a value that the schema would refuse.
    pub fn delimiter_byte(&self) -> u8 {
        self.delimiter.bytes().next().unwrap_or(b',')
    }
}

/// A further CSV table, read with the options of the training table.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CsvFile {
    /// URI of the file: a path, relative or absolute, or `s3://BUCKET/KEY`.
    #[schemars(length(min = 1, max = 1024))]
    pub uri: String,
}

/// Two NumPy arrays (`.npy`).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NpySource {
    /// URI of the inputs: rows x features, or rows x channels x height x width.
    #[schemars(length(min = 1, max = 1024))]
    pub features: String,
    /// URI of what to predict: one number a row.
    #[schemars(length(min = 1, max = 1024))]
    pub labels: String,
}

/// Two IDX files.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdxSource {
    /// URI of the images: rows x height x width.
    #[schemars(length(min = 1, max = 1024))]
    pub images: String,
    /// URI of the labels: one number a row.
    #[schemars(length(min = 1, max = 1024))]
    pub labels: String,
}

fn default_delimiter() -> String {
    ",".into()
}

/// What is done about a missing value.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum MissingPolicy {
    /// The job fails and names file, line and column.
    #[default]
    Error,
    /// The column's mean over the training rows; in a categorical column, none of its categories.
    Mean,
    /// The row is left out.
    DropRow,
}

/// What is done with columns that have no name in the header.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum UnnamedColumns {
    /// They are left out, with a warning.
    #[default]
    Exclude,
    /// They are used like the others, and are named `column 1`, `column 2`, ... by their positions, also for `label`, `exclude` and `categorical`.
    Include,
}

impl UnnamedColumns {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How numeric features are scaled.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Normalization {
    /// Mean 0 and standard deviation 1 over the training rows.
    #[default]
    Standardize,
    /// Values as they are.
    None,
}
