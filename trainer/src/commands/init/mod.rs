//! `trainyard init`: a first manifest for data.

mod images;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use trainyard_crds::{MAX_NAME, manifest};
use trainyard_runtime::exit::{BadInput, ExitCode};

use super::{inspect, print};

/// Arguments of `trainyard init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// CSV or Parquet file to learn from, or a folder with a folder of PNG and JPEG images for each class.
    data: PathBuf,
    /// Column to predict; of images, the folders are the classes.
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// What to predict [default: as the label's values are].
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// Manifest to write.
    #[arg(long, short, value_name = "FILE", default_value = "job.yaml")]
    output: PathBuf,
    /// Name of the job [default: the name of the data].
    #[arg(long)]
    name: Option<String>,
    /// A text that stands for a missing value, beside those that are found. May be repeated.
    #[arg(long, value_name = "TEXT")]
    missing_value: Vec<String>,
    /// Replace the manifest if it exists.
    #[arg(long)]
    overwrite: bool,
}

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// One of two classes.
    BinaryClassification,
    /// One of several classes.
    MulticlassClassification,
    /// A number.
    Regression,
}

/// A manifest, and what there is to say of it.
struct Written {
    manifest: String,
    told: Vec<String>,
}

/// Writes the manifest.
///
/// # Errors
/// [`BadInput`] if the data are neither a table with such a label nor images, or if there is a manifest.
pub fn run(args: InitArgs) -> Result<ExitCode> {
    let output = args.output.display();
    if args.output.exists() && !args.overwrite {
        bail!(BadInput(format!(
            "{output} exists: name another file with --output, or replace it with --overwrite"
        )));
    }
    if let (Ok(data), Ok(output)) = (args.data.canonicalize(), args.output.canonicalize())
        && data == output
    {
        bail!(BadInput(format!(
            "{} is the file of data: write to another",
            args.output.display()
        )));
    }
    let Written {
        manifest: text,
        told,
    } = match args.data.is_dir() {
        true => images::write(&args)?,
        false => table::write(&args)?,
    };
    if let Err(error) = manifest::read("it", &text) {
        let data = args.data.display();
        bail!(BadInput(format!(
            "no manifest can be written for {data}: {error}; write one by hand, or rename or remove columns"
        )));
    }
    std::fs::write(&args.output, &text).with_context(|| format!("cannot write {output}"))?;
    print::to_stdout(ExitCode::Done, |out| {
        told.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        Ok(writeln!(
            out,
            "{output} is written; train with: trainyard run {output}"
        )?)
    })
}

impl InitArgs {
    /// The beginning of the manifest, up to the data.
    fn head(&self, uri: &str, task: Task, model: &str) -> String {
        let name = self.name.clone().unwrap_or_else(|| name_of(&self.data));
        format!(
            "# A first manifest for {uri}. Train with: trainyard run, and this file.\n\
             apiVersion: trainyard.dev/v1alpha1\n\
             kind: TrainingJob\n\
             metadata:\n  name: {name}\n\
             spec:\n  task: {{{field}: {{}}}}\n  model:\n    {model}\n  data:\n    \
             # On a cluster: volume, a volume with the file.\n    train:\n",
            uri = yaml(uri),
            name = yaml(&name),
            field = task_field(task),
        )
    }
}

/// The end of a manifest for so many rows, after the training data.
fn tail(rows: u64) -> String {
    let stops = match rows {
        0..1000 => 20,
        _ => 10,
    };
    let batch = match rows {
        0..10_000 => 32,
        10_000..100_000 => 128,
        _ => 512,
    };
    format!(
        "    validation: {{fraction: 0.2}}\n  training:\n    epochs: 200\n    batchSize: {batch}\n    optimizer: \
         {{adam: {{learningRate: 0.001}}}}\n    # Stops when the loss of the validation rows has not become \
         less for so many epochs, and takes the best.\n    earlyStopping: {{metric: loss, patience: {stops}}}\n    \
         seed: 1\n  servers: {{replicas: 1}}\n  workers: {{replicas: 2}}\n  checkpoint:\n    \
         # On a cluster: storage, a bucket or a volume.\n    everySteps: 1000\n    keep: 3\n"
    )
}

/// The path of the data as the manifest names it: relative to the manifest's folder if it is below that.
fn relative(data: &Path, manifest: &Path) -> Result<String> {
    let whole = |path: &Path| {
        path.canonicalize()
            .with_context(|| format!("cannot resolve {}", path.display()))
    };
    let folder = match manifest.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let (data, folder) = (whole(data)?, whole(folder)?);
    let uri = data.strip_prefix(folder).unwrap_or(&data);
    let uri = uri.to_str().map(str::to_owned);
    uri.ok_or_else(|| {
        BadInput(format!(
            "the path {} is not UTF-8: rename the file",
            data.display()
        ))
        .into()
    })
}

/// A name for the job: the file's, as far as Kubernetes allows it.
fn name_of(data: &Path) -> String {
    let stem = data
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let stem = stem
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let plain: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let named = plain
        .trim_matches('-')
        .trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let mut name: String = named.chars().take(MAX_NAME).collect();
    while name.ends_with('-') {
        name.pop();
    }
    match name.is_empty() {
        true => "job".into(),
        false => name,
    }
}

fn task_field(task: Task) -> &'static str {
    match task {
        Task::BinaryClassification => "binaryClassification",
        Task::MulticlassClassification => "multiclassClassification",
        Task::Regression => "regression",
    }
}

/// A text as YAML: as it is where it means itself, else in quotes.
fn yaml(text: &str) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !WORDS.contains(&&*text.to_ascii_lowercase());
    match plain {
        true => text.to_owned(),
        // A JSON string is a YAML string.
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_allows() {
        for (file, name) in [
            ("data/House Prices_2024.csv.gz", "house-prices-2024"),
            ("1.csv", "job"),
            ("--x--.csv", "x"),
            ("7up.csv", "up"),
        ] {
            assert_eq!(name_of(Path::new(file)), name, "{file}");
        }
        let long = format!("{}-b.csv", "a".repeat(39));
        assert_eq!(name_of(Path::new(&long)), "a".repeat(39));
    }

    #[test]
    fn texts_that_mean_something_else_are_quoted() {
        for (text, written) in [
            ("age", "age"),
            ("no", "\"no\""),
            ("a b", "\"a b\""),
            ("1", "\"1\""),
            ("x: \"y\"", "\"x: \\\"y\\\"\""),
        ] {
            assert_eq!(yaml(text), written);
        }
    }
}
