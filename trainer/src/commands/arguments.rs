//! Arguments of the commands that the second program runs. The first one parses them too, so that
//! help and mistakes are answered without libtorch.

use std::path::PathBuf;

use clap::Args;
use trainyard_runtime::storage::Location;

/// Arguments of `trainyard predict`.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("rows").required(true)))]
pub struct PredictArgs {
    /// Folder of an artifact or of a run, such as runs/NAME, or s3://BUCKET/PREFIX/NAME.
    pub artifact: Location,
    /// CSV file with the columns of the training file, in any order, or - for standard input; plain, gzip or zstd. If
    /// it has the label too, the metrics are printed.
    #[arg(long, value_name = "FILE", group = "rows")]
    pub csv: Option<PathBuf>,
    /// Parquet file with the columns of the training file.
    #[arg(long, value_name = "FILE", group = "rows")]
    pub parquet: Option<PathBuf>,
    /// NPY or IDX array with rows of the shape used in training, or - for standard input.
    #[arg(long, value_name = "FILE", group = "rows")]
    pub npy: Option<PathBuf>,
    /// Folders of PNG and JPEG images, or images by themselves. Where the folders in a folder have the names of classes, these are
    /// the labels, and the metrics are printed.
    #[arg(long, value_name = "PATH", group = "rows", num_args = 1..)]
    pub images: Vec<String>,
    /// NPY or IDX array with the labels of the rows, for the metrics.
    #[arg(long, value_name = "FILE", requires = "npy", conflicts_with_all = ["csv", "parquet", "images"])]
    pub labels: Option<PathBuf>,
    /// Write to this file, or to - for standard output. A name that ends in .gz or .zst is compressed.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Carry this column of the file through, such as a customer's number. May be given several times.
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["npy", "images"])]
    pub id: Vec<String>,
    /// Write the probability of every class in CSV, too; JSON lines have them.
    #[arg(long)]
    pub probabilities: bool,
    /// Predict the positive class above this probability, and not above that of the model [default: the model's, or 0.5].
    #[arg(long, value_name = "PROBABILITY")]
    pub threshold: Option<f64>,
    /// Write JSON lines.
    #[arg(long)]
    pub json: bool,
    /// Write only the first N rows; metrics are those of the whole file.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Arguments of `trainyard export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Folder of a run, which holds its checkpoints, such as runs/NAME, or s3://BUCKET/PREFIX/NAME.
    pub checkpoint: Location,
    /// Folder of the artifact; one that is there is replaced.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Export the checkpoint after this many steps [default: the result, or the newest checkpoint].
    #[arg(long, value_name = "N")]
    pub step: Option<u64>,
}
