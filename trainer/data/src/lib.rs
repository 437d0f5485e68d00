//! Files become typed, normalized tensors in plain vectors, with a digest that tells whether two
//! workers hold the same data.
//!
//! [`load`] reads the sources that a job names (CSV, NPY or IDX, each also gzipped), fits the
//! normalization on the training rows alone, and returns a [`Dataset`]: a [`Table`] for training,
//! one for validation, the [`InputSchema`] that travels in the artifact, and the facts that a
//! server must know. [`Rows`] and [`encode_labels`] encode rows for prediction
//! with the same arithmetic, so a row that was trained on gets the same bits.
//!
//! Everything here is a function of the bytes read and of the options: no clock, no randomness but
//! the seed of the split. Several threads may read and encode; how many plays no part in the result. Nothing is allocated because a header says so, only because
//! bytes arrived, and [`Limits`] bounds even that.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

mod array;
mod cells;
mod classes;
mod client;
mod columns;
mod date;
mod digest;
mod error;
mod files;
mod given;
mod golden;
mod images;
mod infer;
mod kind;
mod load;
mod number;
mod options;
mod parallel;
mod parquet;
mod predict;
mod report;
mod scale;
mod source;
mod table;
mod tables;
mod text;
mod warnings;

pub use cells::Cells;
pub use client::{RowEncoder, Values};
pub use error::{DataError, ErrorKind};
pub use files::{Files, Folder, Opened, Pattern, expand, too_many};
pub use golden::{RawArray, golden_array, golden_cells};
pub use images::{ImagesReport, inspect_images};
pub use load::load;
pub use options::{
    ClassWeights, Color, ColumnOptions, ColumnType, HeldOut, ImageOptions, Limits, LoadOptions,
    MissingPolicy, Normalization, SourceSpec, SplitRule, TableFormat, TableOptions,
};
pub use predict::{Outcome, Rows, encode_each, encode_labels};
pub use report::{Advice, ColumnReport, TableReport, inspect_table};
pub use table::{Dataset, Encoded, Labels, Table};
pub use trainyard_core::metrics::Task;
pub use trainyard_core::schema::{
    ArrayInput, Column, ColumnKind, ColumnsInput, DateInput, DatePart, Encoding, InputKind,
    InputSchema, Label, Link, Missing, TargetScale,
};
