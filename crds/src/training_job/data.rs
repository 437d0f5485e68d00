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
    pub validation: Option<HeldOut>,
    /// Data that the model is judged on once, at the end: neither training nor early stopping nor the choice of a threshold sees them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<HeldOut>,
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
    Csv(Box<CsvSource>),
    /// A table in Apache Parquet.
    Parquet(Box<ParquetSource>),
    /// Two NumPy arrays.
    Npy(NpySource),
    /// Two IDX files, the format of MNIST.
    Idx(IdxSource),
    /// A folder of images, for classification.
    Images(ImageSource),
}

/// Where data come from that the model is not trained on. Files are read with the options of `train` and must be of its format.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HeldOut {
    /// Share of the training rows that is set aside; between 0 and 1, both excluded. The seed chooses them. In a classification each class
    /// gives its share, unless the job began with a version before this rule; in a regression any rows are taken. The rows of `test` are set
    /// aside before those of `validation`, and by the rule of `validation` if that is a `split`.
    Fraction(
        #[schemars(
            range(min = 0.0, max = 1.0),
            extend("exclusiveMinimum" = true, "exclusiveMaximum" = true)
        )]
        f64,
    ),
    /// Share of the training rows that is set aside by a rule.
    Split(Split),
    /// A table with the columns of the training table.
    Csv(TableFile),
    /// A table in Apache Parquet, with the columns of the training table.
    Parquet(TableFile),
    /// Two NumPy arrays.
    Npy(NpySource),
    /// Two IDX files.
    Idx(IdxSource),
    /// A folder of images. They become what the training images are.
    Images(ImageFolder),
}

/// Which rows are set aside.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::split()))]
pub struct Split {
    /// Share of the rows; with `groupBy`, of the groups.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = true, "exclusiveMaximum" = true))]
    pub fraction: f64,
    /// Whether each class gives its share of the rows that are set aside: yes for a classification, if nothing is said here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratify: Option<bool>,
    /// Column that names the group of a row, such as a patient or a household: all rows of a group are on one side. It is no input of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub group_by: Option<String>,
    /// Column of numbers or dates, such as the time of a measurement: the rows that come last by it are set aside. It is an input, unless `exclude` lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub order_by: Option<String>,
}

/// A CSV table and how it is read.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::csv()))]
pub struct CsvSource {
    /// URI of the file: a path, relative or absolute, or `s3://BUCKET/KEY`. A pattern names several files, whose rows come in the order of their
    /// names: `*` stands for any characters of a name, `?` for one, and `**` for any number of folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub uri: Option<String>,
    /// URIs of several files, whose rows come one file after the other. All have the columns of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "set"))]
    pub uris: Vec<String>,
    /// Name of the column to predict.
    #[schemars(length(min = 1, max = 256))]
    pub label: String,
    /// Character between the columns, a single ASCII character.
    #[serde(default = "default_delimiter")]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[\t\x20-\x7e]$"))]
    pub delimiter: String,
    /// Character before the decimals of a number: `.` or `,`.
    #[serde(
        default = "default_decimal",
        skip_serializing_if = "is_default_decimal"
    )]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[.,]$"))]
    pub decimal: String,
    /// Character between the thousands of a number, if there may be one: `.`, `,`, `'`, `_` or a space. Where it is the delimiter too, such numbers must be in
    /// quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[.,'_ ]$"))]
    pub thousands: Option<String>,
    /// How the bytes of the file stand for letters.
    #[serde(default, skip_serializing_if = "Encoding::is_default")]
    pub encoding: Encoding,
    /// Whether the first line names the columns. Without it they are `column 1`, `column 2`, ... by their positions.
    #[serde(default = "default_header", skip_serializing_if = "is_default_header")]
    pub header: bool,
    /// Name of the column with what each row counts in training, a number of 0 or more. It is no input of the model, and metrics count all rows alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub weight: Option<String>,
    /// Names of columns that are not used.
    #[serde(default)]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub exclude: Vec<String>,
    /// Names of columns whose values are categories; each becomes one input per category seen in training (one-hot). They are compared as they are
    /// written. Short for a type in `columns`, where categories that are numbers are compared as such.
    #[serde(default)]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub categorical: Vec<String>,
    /// Columns of which more is to be said than their values tell: their types, and what is done about their missing values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub columns: Vec<TableColumn>,
    /// What is done about a missing value, which is an empty field, `NA` or `NaN`, in a column of which `columns` says nothing else.
    #[serde(default)]
    pub missing: MissingPolicy,
    /// Further texts that stand for a missing value, in any column and in the label, such as `?`. A text is compared as it is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub missing_values: Vec<String>,
    /// What is done with columns that have no name in the header, as pandas, R and spreadsheets write an index.
    // A field at its default is left out, so that the digests of manifests from before it stay.
    #[serde(default, skip_serializing_if = "UnnamedColumns::is_default")]
    pub unnamed_columns: UnnamedColumns,
}

impl Dataset {
    /// The URIs of its files, each with the field that names it.
    pub fn uris(&self) -> Vec<(String, &str)> {
        match self {
            Dataset::Csv(csv) => table_uris("csv", &csv.uri, &csv.uris),
            Dataset::Parquet(table) => table_uris("parquet", &table.uri, &table.uris),
            Dataset::Npy(npy) => npy.uris(),
            Dataset::Idx(idx) => idx.uris(),
            Dataset::Images(images) => vec![("images.uri".to_owned(), images.uri.as_str())],
        }
    }
}

impl HeldOut {
    /// The URIs of its files, each with the field that names it; none for a share of the training rows.
    pub fn uris(&self) -> Vec<(String, &str)> {
        match self {
            HeldOut::Fraction(_) | HeldOut::Split(_) => Vec::new(),
            HeldOut::Csv(csv) => table_uris("csv", &csv.uri, &csv.uris),
            HeldOut::Parquet(table) => table_uris("parquet", &table.uri, &table.uris),
            HeldOut::Npy(npy) => npy.uris(),
            HeldOut::Idx(idx) => idx.uris(),
            HeldOut::Images(images) => vec![("images.uri".to_owned(), images.uri.as_str())],
        }
    }
}

impl Data {
    /// The URIs of all files, each with the field that names it, below `spec.data`.
    pub fn uris(&self) -> Vec<(String, &str)> {
        let held_out = [("validation", &self.validation), ("test", &self.test)];
        let held_out = held_out.into_iter();
        let held_out = held_out.flat_map(|(part, rows)| Some((part, rows.as_ref()?.uris())));
        let all = std::iter::once(("train", self.train.uris())).chain(held_out);
        all.flat_map(|(part, uris)| {
            let below = |(field, uri)| (format!("{part}.{field}"), uri);
            uris.into_iter().map(below).collect::<Vec<_>>()
        })
        .collect()
    }
}

fn table_uris<'a>(
    format: &str,
    uri: &'a Option<String>,
    uris: &'a [String],
) -> Vec<(String, &'a str)> {
    let one = uri
        .iter()
        .map(|uri| (format!("{format}.uri"), uri.as_str()));
    let several = uris.iter().zip(0..);
    let several = several.map(|(uri, place)| (format!("{format}.uris[{place}]"), uri.as_str()));
    one.chain(several).collect()
}

impl NpySource {
    fn uris(&self) -> Vec<(String, &str)> {
        let (features, labels) = (self.features.as_str(), self.labels.as_str());
        vec![
            ("npy.features".to_owned(), features),
            ("npy.labels".to_owned(), labels),
        ]
    }
}

impl IdxSource {
    fn uris(&self) -> Vec<(String, &str)> {
        let (images, labels) = (self.images.as_str(), self.labels.as_str());
        vec![
            ("idx.images".to_owned(), images),
            ("idx.labels".to_owned(), labels),
        ]
    }
}

impl CsvSource {
    /// The character before decimals as a byte; a point for a value that the schema would refuse.
    pub fn decimal_byte(&self) -> u8 {
        self.decimal.bytes().next().unwrap_or(b'.')
    }

    /// The character between thousands as a byte.
    pub fn thousands_byte(&self) -> Option<u8> {
        self.thousands.as_ref()?.bytes().next()
    }

    /// The delimiter as a byte; a comma for a value that the schema would refuse.
    pub fn delimiter_byte(&self) -> u8 {
        self.delimiter.bytes().next().unwrap_or(b',')
    }

    /// The first set of the defaults that determine the model that knows all that is said here: see
    /// [`super::TrainingJobSpec::defaults`]. Programs that know an older set alone would leave a newer field out without a word.
    pub(super) fn defaults(&self) -> u32 {
        let is_usual = self.decimal == default_decimal()
            && self.thousands.is_none()
            && self.encoding == Encoding::default()
            && self.header;
        if self.weight.is_some() || !is_usual {
            return 4;
        }
        if !self.columns.is_empty()
            || !self.missing_values.is_empty()
            || self.missing == MissingPolicy::Impute
        {
            return 3;
        }
        match !self.categorical.is_empty() || self.unnamed_columns != UnnamedColumns::default() {
            true => 2,
            false => 1,
        }
    }
}

/// A table in Apache Parquet. A value stands for what its text would in a CSV file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::parquet()))]
pub struct ParquetSource {
    /// URI of the file: a path, relative or absolute, or `s3://BUCKET/KEY`. A pattern names several files, as for CSV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub uri: Option<String>,
    /// URIs of several files, whose rows come one file after the other. All have the columns of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "set"))]
    pub uris: Vec<String>,
    /// Name of the column to predict. A column within a struct is named `STRUCT.COLUMN`.
    #[schemars(length(min = 1, max = 256))]
    pub label: String,
    /// Name of the column with what each row counts in training, a number of 0 or more. It is no input of the model, and metrics count all rows alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub weight: Option<String>,
    /// Names of columns that are not used, such as those that hold lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub exclude: Vec<String>,
    /// Columns of which more is to be said than the file and their values tell, such as numbers that are categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub columns: Vec<TableColumn>,
    /// What is done about a missing value, which is a null, a NaN, or a text that is empty, `NA` or `NaN`, in a column of which `columns` says nothing else.
    #[serde(default)]
    pub missing: MissingPolicy,
    /// Further texts that stand for a missing value, in any column and in the label, such as `?`. A text is compared as it is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub missing_values: Vec<String>,
}

/// How the bytes of a text stand for letters.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// ISO 8859-1.
    Latin1,
    /// Windows-1252, the encoding of many spreadsheets in western languages.
    Windows1252,
}

impl Encoding {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is said of one column of a table.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::table_column()))]
pub struct TableColumn {
    /// Name of the column in the file.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// What its values are. Without it their type is told from the values of the training table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<ColumnType>,
    /// What is done about its missing values; `missing` of the table if nothing is said here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<ColumnMissing>,
    /// What stands for a missing value with `missing: Constant`, as a text that the table could have in this column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub fill_value: Option<String>,
    /// Whether the model has one more input for the column, which is 1 where its value was missing, and else 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing_indicator: bool,
    /// All values of a column of type `Ordinal`, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub categories: Vec<String>,
    /// How the dates of a column of type `Date` are written, in the notation of `strftime`, such as `%d.%m.%Y`; `iso8601` stands for dates such as
    /// `2024-12-31` and `2024-12-31T23:59:59Z`. Without it, it is told from the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub date_format: Option<String>,
    /// What the model sees of the dates of a column of type `Date`. Without it `Elapsed`, `Year`, `Month`, `Day`, `DayOfWeek` and `DayOfYear`, and
    /// `Hour` if the dates have a time of day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub date_parts: Vec<DatePart>,
}

/// What the values of a column are.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ColumnType {
    /// Numbers: one input.
    Number,
    /// Categories: one input per category seen in training (one-hot). If all of them are numbers they are compared as such: `1` and `1.0` are one.
    Category,
    /// `true` or `false`, `yes` or `no`, `y` or `n`, `t` or `f`, `on` or `off`, `1` or `0`, in any case of letters: one input, 1 or 0.
    Boolean,
    /// Categories that have an order: one input, the place of the value in `categories`. Other values are refused.
    Ordinal,
    /// Dates, with or without a time of day: one input for each of `dateParts`.
    Date,
}

/// What is done about the missing values of one column.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ColumnMissing {
    /// The job fails and names file, line and column.
    Error,
    /// The column's mean over the training rows; of categories, none.
    Mean,
    /// The column's median over the training rows; of categories, none.
    Median,
    /// The column's most frequent value in the training rows; of several, the least.
    MostFrequent,
    /// `fillValue`.
    Constant,
    /// The row is left out.
    DropRow,
}

/// A part of a date. Where a date names an offset from UTC, it is that of the same point in time in UTC.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum DatePart {
    /// Days since 1970-01-01, with the time of day as a fraction.
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

/// A further CSV table, read with the options of the training table.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::table_file()))]
pub struct TableFile {
    /// URI of the file: a path, relative or absolute, or `s3://BUCKET/KEY`. A pattern names several files, whose rows come in the order of their
    /// names: `*` stands for any characters of a name, `?` for one, and `**` for any number of folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub uri: Option<String>,
    /// URIs of several files, whose rows come one file after the other. All have the columns of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "set"))]
    pub uris: Vec<String>,
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

/// A folder of PNG and JPEG images. In it is a folder for each class, whose name is that of the class; all images in that folder, and in folders in it,
/// are of the class. An image is channels x height x width numbers from 0 to 255.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::images()))]
pub struct ImageSource {
    /// URI of the folder: a path, relative or absolute, or `s3://BUCKET/PREFIX`.
    #[schemars(length(min = 1, max = 1024))]
    pub uri: String,
    /// Height in pixels that images are resized to, with `width`, whatever their proportions are. Without it all images must have one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8192))]
    pub height: Option<u32>,
    /// Width in pixels that images are resized to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8192))]
    pub width: Option<u32>,
    /// What the channels are. Without it: one if all training images are gray, else three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
}

/// What the channels of images are.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Color {
    /// One: how bright a pixel is.
    Grayscale,
    /// Three: red, green and blue.
    Rgb,
}

/// A further folder of images.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageFolder {
    /// URI of the folder: a path, relative or absolute, or `s3://BUCKET/PREFIX`.
    #[schemars(length(min = 1, max = 1024))]
    pub uri: String,
}

fn default_decimal() -> String {
    ".".into()
}

fn is_default_decimal(decimal: &String) -> bool {
    *decimal == default_decimal()
}

fn default_header() -> bool {
    true
}

fn is_default_header(header: &bool) -> bool {
    *header == default_header()
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
    /// By the column's type: the most frequent value of categories and booleans, the median of everything else. Rows without a label are left out.
    Impute,
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
