//! A manifest turned into what the trainer works with: a job that cannot be wrong.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trainyard_checkpoint::JobIdentity;
use trainyard_contract::JobFile;
use trainyard_core::coordinator::{self, EarlyStopping};
use trainyard_core::facts::DataFacts;
use trainyard_core::layout::Layout;
use trainyard_core::manifest::Manifest;
use trainyard_core::metrics::{Loss, Metric, Task};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::sampling::Plan;
use trainyard_core::schedule::{LearningRate, Schedule};
use trainyard_core::tree::Tree;
use trainyard_crds::{API_VERSION, KIND, TrainingJob, training_job as api};
use trainyard_data as data;

use crate::arch::Architecture;
use crate::exit::BadInput;

/// A validated job.
#[derive(Clone, Debug)]
pub struct Job {
    /// The manifest, with defaults applied.
    pub manifest: TrainingJob,
    /// `metadata.name`.
    pub name: String,
    /// SHA-256 over all that determines the model, data apart: task, model, data options, training.
    pub spec_digest: String,
    /// Names the job in frame headers: the first eight bytes of a digest of name and spec.
    pub id: u64,
    /// The task.
    pub task: Task,
    /// The reduction tree over the leaves.
    pub tree: Tree,
    /// The update rule.
    pub optimizer: Optimizer,
    /// Which defaults that determine the model it is trained with: see [`trainyard_contract::DEFAULTS`].
    pub defaults: u32,
}

impl Job {
    /// Validates a decoded manifest, to be trained with the defaults of set `defaults` as far as it
    /// depends on them.
    ///
    /// # Errors
    /// What the schema cannot say, such as a number of leaves that is no power of two in a job
    /// that did not pass through it.
    pub fn new(manifest: TrainingJob, defaults: u32) -> Result<Self> {
        let name = manifest
            .metadata
            .name
            .clone()
            .context("metadata.name is missing: name the job")?;
        let spec = &manifest.spec;
        let defaults = spec.defaults(defaults);
        let determining = determining(&serde_json::to_value(spec)?);
        let spec_digest = base16ct::lower::encode_string(&Sha256::digest(determining.to_string()));
        let identity = Sha256::digest(format!("{name}\0{spec_digest}"));
        let id = identity
            .iter()
            .take(8)
            .fold(0, |id, byte| id << 8 | u64::from(*byte));
        let tree = Tree::new(spec.training.micro_batches).context("spec.training.microBatches")?;
        Ok(Job {
            name,
            spec_digest,
            id,
            task: task(&spec.task),
            tree,
            optimizer: optimizer(&spec.training.optimizer),
            defaults,
            manifest,
        })
    }

    /// Reads a job file.
    ///
    /// # Errors
    /// If the text is none, or one of another kind.
    pub fn from_json(text: &str) -> Result<Self> {
        Job::from_value(serde_json::from_str(text).context("the job file cannot be decoded")?)
    }

    /// Reads what [`Job::to_json`] has written.
    ///
    /// # Errors
    /// As [`Job::from_json`].
    pub fn from_value(value: Value) -> Result<Self> {
        let file: JobFile<_, _> =
            serde_json::from_value(value).context("the job file cannot be decoded")?;
        file.is_a(API_VERSION, KIND)?;
        let manifest = TrainingJob {
            metadata: file.metadata,
            spec: file.spec,
            status: None,
        };
        Job::new(manifest, file.defaults)
    }

    /// This job with the defaults that it was begun with, as a checkpoint of it says.
    pub fn as_begun(mut self, checkpoint: &Manifest) -> Job {
        self.defaults = defaults_of(checkpoint);
        self
    }

    /// Checks that a checkpoint was made with the defaults of this job.
    ///
    /// # Errors
    /// [`BadInput`] if it was not. A local run takes over those of its checkpoint; only a job on a cluster
    /// that was deleted and created again can come here.
    pub fn check_defaults(&self, checkpoint: &Manifest) -> Result<()> {
        let (found, ours) = (defaults_of(checkpoint), self.defaults);
        if found == ours {
            return Ok(());
        }
        bail!(BadInput(format!(
            "the checkpoint of step {} was made with defaults {found}, and this job has defaults {ours}, with which \
             the same manifest can give another model (see CHANGELOG.md): set another spec.checkpoint.storage \
             to train from the beginning",
            checkpoint.step
        )))
    }

    /// What the job's commit log is known by.
    pub fn identity(&self) -> JobIdentity {
        JobIdentity {
            job: self.name.clone(),
            spec_digest: self.spec_digest.clone(),
        }
    }

    fn training(&self) -> &api::Training {
        &self.manifest.spec.training
    }

    /// The steps on `rows` training rows.
    ///
    /// # Errors
    /// If the numbers make no plan.
    pub fn plan(&self, rows: u64) -> Result<Plan> {
        let t = self.training();
        Ok(Plan::new(
            rows,
            t.batch_size.into(),
            t.epochs.into(),
            t.seed,
        )?)
    }

    /// The network on data of these facts.
    ///
    /// # Errors
    /// If the model does not fit the data.
    pub fn architecture(&self, facts: &DataFacts) -> Result<Architecture> {
        Ok(Architecture::new(
            &self.manifest.spec.model,
            &facts.input_shape,
            facts.outputs,
        )?)
    }

    /// The arena's layout on data of these facts.
    ///
    /// # Errors
    /// As for [`Job::architecture`], or if the model is too large to address.
    pub fn layout(&self, facts: &DataFacts) -> Result<Layout> {
        Ok(Layout::new(self.architecture(facts)?.params)?)
    }

    /// The learning rate over the job's `total_steps`.
    pub fn learning_rate(&self, total_steps: u64) -> LearningRate {
        let t = self.training();
        let (schedule, warmup_steps) = schedule(&t.schedule);
        LearningRate {
            base: t.optimizer.learning_rate(),
            warmup_steps,
            schedule,
            total_steps,
        }
    }

    /// Early stopping, if asked for.
    pub fn early_stopping(&self) -> Option<EarlyStopping> {
        self.training()
            .early_stopping
            .as_ref()
            .map(|early| EarlyStopping {
                metric: metric(early.metric),
                patience: early.patience.into(),
                min_delta: early.min_delta,
                restore_best: early.restore_best,
                counts_undefined: self.defaults < 2,
            })
    }

    /// The coordinator's configuration.
    pub fn coordinator(
        &self,
        generation: u32,
        servers: u32,
        timing: &crate::net::Timing,
    ) -> coordinator::Config {
        let t = self.training();
        coordinator::Config {
            generation,
            servers,
            leaves: self.tree.leaves(),
            batch_size: t.batch_size.into(),
            epochs: t.epochs.into(),
            seed: t.seed,
            task: self.task,
            checkpoint_every: self.manifest.spec.checkpoint.every_steps.into(),
            early_stopping: self.early_stopping(),
            spec_digest: self.spec_digest.clone(),
            heartbeat_timeout: timing.heartbeat_timeout,
            grace: timing.grace,
        }
    }

    /// What rows of each class count in training.
    fn class_weights(&self) -> data::ClassWeights {
        let said = match &self.manifest.spec.task {
            api::Task::BinaryClassification { class_weights, .. }
            | api::Task::MulticlassClassification { class_weights, .. } => class_weights.as_ref(),
            api::Task::Regression { .. } => None,
        };
        match said {
            None => data::ClassWeights::None,
            Some(api::ClassWeights::Balanced {}) => data::ClassWeights::Balanced,
            Some(api::ClassWeights::Weights(weights)) => data::ClassWeights::Given(weights.clone()),
        }
    }

    /// How a share of the training data is set aside.
    fn split(&self, said: Option<&api::Split>) -> data::SplitRule {
        let column =
            |field: fn(&api::Split) -> &Option<String>| said.and_then(|split| field(split).clone());
        if let Some(column) = column(|split| &split.group_by) {
            return data::SplitRule::Group(column);
        }
        if let Some(column) = column(|split| &split.order_by) {
            return data::SplitRule::Order(column);
        }
        let has_classes = self.task != Task::Regression;
        let stratify = said.and_then(|split| split.stratify);
        match stratify.unwrap_or(has_classes && self.defaults >= 4) {
            true => data::SplitRule::Stratified,
            false => data::SplitRule::Random,
        }
    }

    /// The loss of a row.
    pub fn loss(&self) -> Loss {
        match &self.manifest.spec.task {
            api::Task::BinaryClassification {
                label_smoothing, ..
            }
            | api::Task::MulticlassClassification {
                label_smoothing, ..
            } => Loss::CrossEntropy {
                label_smoothing: label_smoothing.unwrap_or(0.0),
            },
            api::Task::Regression { loss, .. } => match loss {
                None | Some(api::RegressionLoss::MeanSquaredError {}) => Loss::MeanSquaredError {},
                Some(api::RegressionLoss::MeanAbsoluteError {}) => Loss::MeanAbsoluteError {},
                Some(api::RegressionLoss::Huber { delta }) => Loss::Huber { delta: *delta },
                Some(api::RegressionLoss::Poisson {}) => Loss::Poisson {},
            },
        }
    }

    /// The probability above which the positive class is predicted.
    fn threshold(&self) -> Option<f64> {
        match &self.manifest.spec.task {
            api::Task::BinaryClassification { threshold, .. } => *threshold,
            api::Task::MulticlassClassification { .. } | api::Task::Regression { .. } => None,
        }
    }

    /// How the target of a regression is scaled.
    fn target_normalization(&self) -> data::Normalization {
        match self.manifest.spec.task {
            api::Task::Regression {
                target_normalization: Some(said),
                ..
            } => normalization(said),
            // Counts are not scaled: their logarithm is learned.
            api::Task::Regression {
                loss: Some(api::RegressionLoss::Poisson {}),
                ..
            } => data::Normalization::None,
            api::Task::Regression { .. } if self.defaults >= 4 => data::Normalization::Standardize,
            _ => data::Normalization::None,
        }
    }

    /// What to load, for workers.
    ///
    /// # Errors
    /// If a delimiter is not one byte.
    pub fn load_options(&self) -> Result<data::LoadOptions> {
        let spec = &self.manifest.spec.data;
        let train = source(&spec.train, self.defaults >= 2);
        let validation = held_out("validation", &spec.validation, &train)?;
        let test = held_out("test", &spec.test, &train)?;
        let rule = |rows: &Option<api::HeldOut>| match rows {
            Some(api::HeldOut::Split(split)) => Some(self.split(Some(split))),
            _ => None,
        };
        Ok(data::LoadOptions {
            task: self.task,
            positive: match &self.manifest.spec.task {
                api::Task::BinaryClassification { positive, .. } => positive.clone(),
                api::Task::MulticlassClassification { .. } | api::Task::Regression { .. } => None,
            },
            class_weights: self.class_weights(),
            train,
            validation,
            test,
            split: rule(&spec.validation).unwrap_or_else(|| self.split(None)),
            test_split: rule(&spec.test),
            normalization: normalization(spec.normalization),
            target: self.target_normalization(),
            link: self.loss().link(),
            threshold: self.threshold(),
            seed: self.training().seed,
            schema: None,
            limits: crate::memory::limits(),
        })
    }

    /// The manifest as JSON, for checkpoints and artifacts.
    ///
    /// # Errors
    /// Never for a manifest that was decoded.
    pub fn to_json(&self) -> Result<Value> {
        let mut json = serde_json::to_value(&self.manifest)?;
        if let (Some(fields), 2..) = (json.as_object_mut(), self.defaults) {
            fields.insert("defaults".into(), self.defaults.into());
        }
        Ok(json)
    }
}

/// The rows that the model is not trained on.
fn held_out(
    field: &str,
    said: &Option<api::HeldOut>,
    train: &data::SourceSpec,
) -> Result<data::HeldOut> {
    let source = match said {
        None => return Ok(data::HeldOut::None),
        Some(api::HeldOut::Fraction(fraction)) => return Ok(data::HeldOut::Fraction(*fraction)),
        Some(api::HeldOut::Split(split)) => return Ok(data::HeldOut::Fraction(split.fraction)),
        Some(api::HeldOut::Npy(npy)) => npy_source(npy),
        Some(api::HeldOut::Idx(idx)) => idx_source(idx),
        Some(api::HeldOut::Images(images)) => {
            let data::SourceSpec::Images(train) = train else {
                bail!("spec.data.{field} must have the format of spec.data.train")
            };
            data::SourceSpec::Images(data::ImageOptions {
                uri: images.uri.clone(),
                ..train.clone()
            })
        }
        Some(api::HeldOut::Csv(file) | api::HeldOut::Parquet(file)) => {
            let format = match said {
                Some(api::HeldOut::Parquet(_)) => data::TableFormat::Parquet,
                _ => data::TableFormat::Csv,
            };
            let data::SourceSpec::Table(train) = train else {
                bail!("spec.data.{field} must have the format of spec.data.train")
            };
            if train.format != format {
                bail!("spec.data.{field} must have the format of spec.data.train");
            }
            data::SourceSpec::Table(data::TableOptions {
                uris: uris(&file.uri, &file.uris),
                weight: None,
                ..train.clone()
            })
        }
    };
    Ok(data::HeldOut::Source(source))
}

/// One file, or several.
fn uris(uri: &Option<String>, uris: &[String]) -> Vec<String> {
    uri.iter().chain(uris).cloned().collect()
}

/// What of a spec determines the model, and so may not differ between two runs of a job.
pub fn determining(spec: &Value) -> Value {
    let mut data = spec["data"].clone();
    if let Some(fields) = data.as_object_mut() {
        // Where files lie does not change what is in them.
        fields.remove("volume");
        fields.remove("s3");
    }
    let mut determining = json!({
        "task": spec["task"], "model": spec["model"], "data": data, "training": spec["training"],
    });
    if let Some(initial) = spec.get("initialModel") {
        // Not where it lies, but which it is.
        determining["initialModel"] = initial["modelSha256"].clone();
    }
    determining
}

/// The defaults that a checkpoint was made with.
fn defaults_of(checkpoint: &Manifest) -> u32 {
    let recorded = checkpoint.spec["defaults"].as_u64();
    recorded.map_or(1, |defaults| defaults.try_into().unwrap_or(u32::MAX))
}

fn task(task: &api::Task) -> Task {
    match task {
        api::Task::BinaryClassification { .. } => Task::Binary,
        api::Task::MulticlassClassification { .. } => Task::Multiclass,
        api::Task::Regression { .. } => Task::Regression,
    }
}

fn metric(metric: api::Metric) -> Metric {
    match metric {
        api::Metric::Loss => Metric::Loss,
        api::Metric::Accuracy => Metric::Accuracy,
        api::Metric::Precision => Metric::Precision,
        api::Metric::Recall => Metric::Recall,
        api::Metric::F1 => Metric::F1,
        api::Metric::Auc => Metric::Auc,
        api::Metric::PrAuc => Metric::PrAuc,
        api::Metric::Rmse => Metric::Rmse,
        api::Metric::Mae => Metric::Mae,
        api::Metric::Mape => Metric::Mape,
        api::Metric::R2 => Metric::R2,
    }
}

fn optimizer(optimizer: &api::Optimizer) -> Optimizer {
    match optimizer {
        api::Optimizer::Sgd(o) => Optimizer::Sgd {
            momentum: o.momentum,
            dampening: o.dampening,
            nesterov: o.nesterov,
            weight_decay: o.weight_decay,
        },
        api::Optimizer::Adam(o) => Optimizer::Adam {
            beta1: o.beta1,
            beta2: o.beta2,
            epsilon: o.epsilon,
            weight_decay: o.weight_decay,
        },
        api::Optimizer::AdamW(o) => Optimizer::AdamW {
            beta1: o.beta1,
            beta2: o.beta2,
            epsilon: o.epsilon,
            weight_decay: o.weight_decay,
        },
        api::Optimizer::Adagrad(o) => Optimizer::Adagrad {
            lr_decay: o.lr_decay,
            weight_decay: o.weight_decay,
            initial_accumulator_value: o.initial_accumulator_value,
            epsilon: o.epsilon,
        },
    }
}

fn schedule(schedule: &api::Schedule) -> (Schedule, u64) {
    match schedule {
        api::Schedule::Constant(s) => (Schedule::Constant, s.warmup_steps.into()),
        api::Schedule::Step(s) => (
            Schedule::Step {
                step_size: s.step_size.into(),
                gamma: s.gamma,
            },
            s.warmup_steps.into(),
        ),
        api::Schedule::Exponential(s) => (
            Schedule::Exponential { gamma: s.gamma },
            s.warmup_steps.into(),
        ),
        api::Schedule::Cosine(s) => (
            Schedule::Cosine {
                min_learning_rate: s.min_learning_rate,
            },
            s.warmup_steps.into(),
        ),
        api::Schedule::OneCycle(s) => (
            Schedule::OneCycle {
                max_learning_rate: s.max_learning_rate,
                pct_start: s.pct_start,
                div_factor: s.div_factor,
                final_div_factor: s.final_div_factor,
            },
            0,
        ),
    }
}

fn normalization(normalization: api::Normalization) -> data::Normalization {
    match normalization {
        api::Normalization::Standardize => data::Normalization::Standardize,
        api::Normalization::None => data::Normalization::None,
    }
}

fn source(dataset: &api::Dataset, na_is_missing: bool) -> data::SourceSpec {
    match dataset {
        api::Dataset::Csv(csv) => data::SourceSpec::Table(data::TableOptions {
            format: data::TableFormat::Csv,
            uris: uris(&csv.uri, &csv.uris),
            label: csv.label.clone(),
            delimiter: csv.delimiter_byte(),
            decimal: csv.decimal_byte(),
            thousands: csv.thousands_byte(),
            encoding: match csv.encoding {
                api::Encoding::Utf8 => data::Encoding::Utf8,
                api::Encoding::Latin1 => data::Encoding::Latin1,
                api::Encoding::Windows1252 => data::Encoding::Windows1252,
            },
            headerless: !csv.header,
            weight: csv.weight.clone(),
            exclude: csv.exclude.clone(),
            categorical: csv.categorical.clone(),
            columns: csv.columns.iter().map(column).collect(),
            missing: missing(csv.missing),
            missing_values: csv.missing_values.clone(),
            na_is_missing,
            unnamed: csv.unnamed_columns == api::UnnamedColumns::Include,
        }),
        api::Dataset::Parquet(table) => data::SourceSpec::Table(data::TableOptions {
            uris: uris(&table.uri, &table.uris),
            weight: table.weight.clone(),
            exclude: table.exclude.clone(),
            columns: table.columns.iter().map(column).collect(),
            missing: missing(table.missing),
            missing_values: table.missing_values.clone(),
            ..data::TableOptions::parquet("", &table.label)
        }),
        api::Dataset::Npy(npy) => npy_source(npy),
        api::Dataset::Idx(idx) => idx_source(idx),
        api::Dataset::Images(images) => data::SourceSpec::Images(data::ImageOptions {
            uri: images.uri.clone(),
            size: images.height.zip(images.width),
            color: images.color.map(|color| match color {
                api::Color::Grayscale => data::Color::Grayscale,
                api::Color::Rgb => data::Color::Rgb,
            }),
        }),
    }
}

fn missing(policy: api::MissingPolicy) -> data::MissingPolicy {
    match policy {
        api::MissingPolicy::Error => data::MissingPolicy::Error,
        api::MissingPolicy::Mean => data::MissingPolicy::Mean,
        api::MissingPolicy::DropRow => data::MissingPolicy::DropRow,
        api::MissingPolicy::Impute => data::MissingPolicy::Impute,
    }
}

fn column(column: &api::TableColumn) -> data::ColumnOptions {
    let kind = column.r#type.map(|kind| match kind {
        api::ColumnType::Number => data::ColumnType::Number,
        api::ColumnType::Category => data::ColumnType::Category,
        api::ColumnType::Boolean => data::ColumnType::Boolean,
        api::ColumnType::Ordinal => data::ColumnType::Ordinal,
        api::ColumnType::Date => data::ColumnType::Date,
    });
    let missing = column.missing.map(|missing| match missing {
        api::ColumnMissing::Error => data::Missing::Error,
        api::ColumnMissing::Mean => data::Missing::Mean,
        api::ColumnMissing::Median => data::Missing::Median,
        api::ColumnMissing::MostFrequent => data::Missing::MostFrequent,
        api::ColumnMissing::Constant => data::Missing::Constant,
        api::ColumnMissing::DropRow => data::Missing::DropRow,
    });
    let part = |part: &api::DatePart| match part {
        api::DatePart::Elapsed => data::DatePart::Elapsed,
        api::DatePart::Year => data::DatePart::Year,
        api::DatePart::Month => data::DatePart::Month,
        api::DatePart::Day => data::DatePart::Day,
        api::DatePart::DayOfWeek => data::DatePart::DayOfWeek,
        api::DatePart::DayOfYear => data::DatePart::DayOfYear,
        api::DatePart::Hour => data::DatePart::Hour,
    };
    data::ColumnOptions {
        name: column.name.clone(),
        kind,
        missing,
        fill_value: column.fill_value.clone(),
        missing_indicator: column.missing_indicator,
        categories: column.categories.clone(),
        date_format: column.date_format.clone(),
        date_parts: column.date_parts.iter().map(part).collect(),
    }
}

fn npy_source(npy: &api::NpySource) -> data::SourceSpec {
    data::SourceSpec::Npy {
        features: npy.features.clone(),
        labels: npy.labels.clone(),
    }
}

fn idx_source(idx: &api::IdxSource) -> data::SourceSpec {
    data::SourceSpec::Idx {
        images: idx.images.clone(),
        labels: idx.labels.clone(),
    }
}

mod warnings;

#[cfg(test)]
mod tests;
