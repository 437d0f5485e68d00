//! What to load and how.

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use serde::Serialize;
use trainyard_core::metrics::Task;
use trainyard_core::schema::{DatePart, Encoding, InputSchema, Link, Missing};

use crate::error::DataError;
use crate::files::{Files, expand};
use crate::images::Listed;

/// How numeric inputs are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalization {
    /// `(x - mean) / std` with the mean and the population standard deviation of the training
    /// rows, for each numeric column (CSV), column (two-dimensional arrays) or channel (images).
    #[default]
    Standardize,
    /// As they are.
    None,
}

/// The formats of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TableFormat {
    /// Comma-separated values, or with another delimiter.
    #[default]
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl TableFormat {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
        }
    }
}

/// A table of named columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// What kind of file it is. Delimiter, notation of numbers, encoding and header are those of text.
    pub format: TableFormat,
    /// Where the file is, as [`Files`](crate::Files) understands it; of several files, where each is. A
    /// [`Pattern`](crate::Pattern) names several too.
    pub uris: Vec<String>,
    /// Name of the column that holds the label.
    pub label: String,
    /// The byte between fields, `b','` as a rule.
    pub delimiter: u8,
    /// The byte before the decimals of a number, `b'.'` as a rule.
    pub decimal: u8,
    /// The byte between the thousands of a number, if there may be one.
    pub thousands: Option<u8>,
    /// How the bytes of the file stand for letters.
    pub encoding: Encoding,
    /// Whether the file has no header: columns are then `column 1`, `column 2`, ... by their positions.
    pub headerless: bool,
    /// Name of the column that holds the weights of the rows in training.
    pub weight: Option<String>,
    /// Columns to leave out.
    pub exclude: Vec<String>,
    /// Columns to encode one-hot, their categories sorted by their bytes and taken from the training rows.
    pub categorical: Vec<String>,
    /// Columns of which more is said.
    pub columns: Vec<ColumnOptions>,
    /// What to do about missing values in a column of which nothing else is said.
    pub missing: MissingPolicy,
    /// Texts that stand for a missing value, beside an empty field, `NA` and `NaN`.
    pub missing_values: Vec<String>,
    /// Whether `NA` and `NaN` are missing values in a categorical column too, and not categories.
    pub na_is_missing: bool,
    /// Whether columns without a name in the header are used, under the names `column 1`, `column 2`, ...
    /// by their positions.
    pub unnamed: bool,
}

impl TableOptions {
    /// The file that errors name.
    pub(crate) fn file(&self) -> &str {
        self.uris.first().map_or("", String::as_str)
    }

    /// A comma-separated file without categorical columns or missing values.
    pub fn csv(uri: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            format: TableFormat::Csv,
            uris: vec![uri.into()],
            label: label.into(),
            delimiter: b',',
            decimal: b'.',
            thousands: None,
            encoding: Encoding::Utf8,
            headerless: false,
            weight: None,
            exclude: Vec::new(),
            categorical: Vec::new(),
            columns: Vec::new(),
            missing: MissingPolicy::Error,
            missing_values: Vec::new(),
            na_is_missing: true,
            unnamed: false,
        }
    }

    /// A Parquet file without missing values.
    pub fn parquet(uri: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            format: TableFormat::Parquet,
            ..Self::csv(uri, label)
        }
    }
}

/// What to do about missing values in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingPolicy {
    /// [`Missing::Error`].
    #[default]
    Error,
    /// [`Missing::Mean`].
    Mean,
    /// [`Missing::DropRow`].
    DropRow,
    /// By the column's type: [`Missing::MostFrequent`] for categories and booleans, else
    /// [`Missing::Median`]. A row without a label is left out.
    Impute,
}

/// What is said of one column of a CSV file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnOptions {
    /// Its name.
    pub name: String,
    /// Its type; inferred from its values if none.
    pub kind: Option<ColumnType>,
    /// What to do about its missing values; the file's policy if none.
    pub missing: Option<Missing>,
    /// What stands for a missing value with [`Missing::Constant`], as it would stand in the file.
    pub fill_value: Option<String>,
    /// Whether one more input says where the value was missing.
    pub missing_indicator: bool,
    /// The categories of a [`ColumnType::Ordinal`], lowest first.
    pub categories: Vec<String>,
    /// How a [`ColumnType::Date`] is written, in the notation of `strftime`; inferred if none.
    pub date_format: Option<String>,
    /// What the model sees of a [`ColumnType::Date`]; if empty, all parts that its format has.
    pub date_parts: Vec<DatePart>,
}

/// The types of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ColumnType {
    /// A number.
    Number,
    /// One of several categories; numbers among them are compared by value if all are numbers.
    Category,
    /// Yes or no.
    Boolean,
    /// One of several categories that have an order.
    Ordinal,
    /// A date, with or without a time of day.
    Date,
}

/// A folder of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOptions {
    /// The folder: in it is a folder of PNG and JPEG images for each class, whose name is that of the class.
    pub uri: String,
    /// Height and width that images are resized to; without it all must have one size.
    pub size: Option<(u32, u32)>,
    /// The channels; if none, one where all training images are gray, else three.
    pub color: Option<Color>,
}

/// What the channels of images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// One, the luma.
    Grayscale,
    /// Red, green and blue.
    Rgb,
}

impl Color {
    /// How many there are.
    pub(crate) fn channels(self) -> usize {
        match self {
            Self::Grayscale => 1,
            Self::Rgb => 3,
        }
    }
}

/// Where rows come from. Any of the files may be gzipped; its first bytes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// A table of named columns, of one or several files.
    Table(TableOptions),
    /// Two NumPy arrays: features `[rows, features]`, `[rows, height, width]` or `[rows, channels,
    /// height, width]`, and labels `[rows]`.
    Npy {
        /// URI of the features.
        features: String,
        /// URI of the labels.
        labels: String,
    },
    /// Two arrays in the IDX format of MNIST, with the same shapes as [`SourceSpec::Npy`].
    Idx {
        /// URI of the images.
        images: String,
        /// URI of the labels.
        labels: String,
    },
    /// A folder of images.
    Images(ImageOptions),
}

impl SourceSpec {
    /// One file of each that it names: of a pattern, or a folder of images, the first. Whoever opens them knows early what is
    /// missing.
    ///
    /// # Errors
    /// If a pattern or a folder names none.
    pub fn first_files(&self, files: &dyn Files) -> Result<Vec<String>, DataError> {
        match self {
            Self::Table(table) => {
                let first = |uri| {
                    let files = expand(files, std::slice::from_ref(uri))?;
                    Ok(files.into_iter().next().unwrap_or_default())
                };
                // One by one: each is to be there.
                table.uris.iter().map(first).collect()
            }
            Self::Npy {
                features: inputs,
                labels,
            }
            | Self::Idx {
                images: inputs,
                labels,
            } => Ok(vec![inputs.clone(), labels.clone()]),
            Self::Images(images) => {
                let listed = Listed::new(files, &images.uri)?.images;
                Ok(listed.into_iter().take(1).map(|(_, uri)| uri).collect())
            }
        }
    }
}

/// Where rows come from that the model is not trained on.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum HeldOut {
    /// Nowhere.
    #[default]
    None,
    /// This share of the training source, by [`LoadOptions::split`].
    Fraction(f64),
    /// A source of its own, of the same kind as the training source.
    Source(SourceSpec),
}

impl HeldOut {
    /// The share of the training source.
    pub(crate) fn fraction(&self) -> Option<f64> {
        match self {
            HeldOut::Fraction(fraction) => Some(*fraction),
            HeldOut::None | HeldOut::Source(_) => None,
        }
    }

    /// The source of its own.
    pub fn source(&self) -> Option<&SourceSpec> {
        match self {
            HeldOut::Source(source) => Some(source),
            HeldOut::None | HeldOut::Fraction(_) => None,
        }
    }
}

/// Which rows of a source are set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SplitRule {
    /// Any rows, at random.
    #[default]
    Random,
    /// Rows at random within each class: each part has about its share.
    Stratified,
    /// All rows of some groups, chosen at random; the column that names the group, which is no input.
    Group(String),
    /// The rows that come last by the values of a column of numbers or dates.
    Order(String),
}

impl SplitRule {
    /// The column that a split goes by, with the field that names it.
    pub(crate) fn column(&self) -> Option<(&str, &'static str)> {
        match self {
            SplitRule::Group(name) => Some((name, "groupBy")),
            SplitRule::Order(name) => Some((name, "orderBy")),
            SplitRule::Random | SplitRule::Stratified => None,
        }
    }
}

/// Bounds on what a file may make this process hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file, after decompression.
    pub file_bytes: u64,
    /// Bytes of one CSV record.
    pub record_bytes: u64,
    /// Columns of a CSV file, and inputs of a row after one-hot encoding.
    pub columns: usize,
    /// Distinct values of one categorical column or of a label.
    pub categories: usize,
    /// Encoded values of one table (rows times inputs).
    pub values: u64,
    /// Bytes that the rows of all files of a source may take, as read and as encoded together, and those of another
    /// source that are held beside them. A caller gives what its machine has: a small file can hold very many
    /// rows, above all a compressed one.
    pub memory: u64,
    /// Threads that read and encode. The result does not depend on it.
    pub threads: usize,
}

/// The most threads that are started, however many processors there are.
const THREADS: usize = 16;

impl Limits {
    /// The same where so many bytes are held already.
    pub(crate) fn beside(&self, held: u64) -> Limits {
        Limits {
            memory: self.memory.saturating_sub(held),
            ..self.clone()
        }
    }

    /// Refuses what takes more memory than there may be.
    pub(crate) fn check_memory(&self, bytes: u64) -> Result<(), DataError> {
        if bytes <= self.memory {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let problem = format!(
            "its rows take more than {} MiB, and {} MiB of memory are at hand",
            mib(bytes) - 1,
            mib(self.memory)
        );
        let remedy = "use fewer rows or columns, or a machine with more memory";
        Err(DataError::limit(problem, remedy))
    }
}

impl Default for Limits {
    /// 64 GiB a file, 16 MiB a record, 1,048,576 columns, 65,536 categories, 2^33 values (32 GiB), any memory, a thread for
    /// each processor up to 16.
    fn default() -> Self {
        Self {
            file_bytes: 64 << 30,
            record_bytes: 16 << 20,
            columns: 1 << 20,
            categories: 1 << 16,
            values: 1 << 33,
            memory: u64::MAX,
            threads: available_parallelism().map_or(1, |threads| threads.get().min(THREADS)),
        }
    }
}

/// What the rows of a class count in training.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ClassWeights {
    /// All rows count 1.
    #[default]
    None,
    /// `rows / (classes * rows of the class)`, of the training rows, as scikit-learn's `balanced`: all classes count
    /// the same, and the mean over the rows is 1.
    Balanced,
    /// These by name; other classes count 1.
    Given(BTreeMap<String, f64>),
}

/// Everything that [`load`](crate::load) needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// How labels are read.
    pub task: Task,
    /// Binary tasks: the class with index 1; the one that sorts last if none.
    pub positive: Option<String>,
    /// What rows of each class count in training.
    pub class_weights: ClassWeights,
    /// The training rows.
    pub train: SourceSpec,
    /// The validation rows.
    pub validation: HeldOut,
    /// The test rows.
    pub test: HeldOut,
    /// How the share for validation is set aside.
    pub split: SplitRule,
    /// How the share for the test is set aside; as that for validation if none.
    pub test_split: Option<SplitRule>,
    /// How numeric inputs are scaled.
    pub normalization: Normalization,
    /// How the target of a regression is scaled.
    pub target: Normalization,
    /// What the outputs of a regression stand for, if not for the target itself.
    pub link: Option<Link>,
    /// Binary tasks: the probability above which the positive class is predicted; one half if none.
    pub threshold: Option<f64>,
    /// Seed of the split; used by [`HeldOut::Fraction`] alone.
    pub seed: u64,
    /// What the columns become, if it is not to be fitted: the schema of the model that the job begins
    /// with. How the file is read (delimiter, missing values) and the label's name stay those of `train`.
    pub schema: Option<InputSchema>,
    /// Bounds.
    pub limits: Limits,
}

impl LoadOptions {
    /// A training source, and nothing else: inputs and targets standardized, no other rows, the seed 0, the default limits.
    pub fn new(task: Task, train: SourceSpec) -> Self {
        Self {
            task,
            positive: None,
            class_weights: ClassWeights::None,
            train,
            validation: HeldOut::None,
            test: HeldOut::None,
            split: SplitRule::Random,
            test_split: None,
            normalization: Normalization::Standardize,
            target: Normalization::Standardize,
            link: None,
            threshold: None,
            seed: 0,
            schema: None,
            limits: Limits::default(),
        }
    }

    /// How the share for the test is set aside.
    pub(crate) fn test_split(&self) -> &SplitRule {
        self.test_split.as_ref().unwrap_or(&self.split)
    }
}
