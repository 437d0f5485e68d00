//! The CEL rules of the API, as `x-kubernetes-validations`. A rule stands on the object whose fields it compares, so that `self.x` of a required
//! parent is always there.

use kube::core::Rule;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

fn rule(rule: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(rule).message(message.into().as_str())
}

/// Like [`rule`], with the place that the API server reports. It must be a field of the object that the rule stands on.
fn rule_at(field_path: &str, rule: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule {
        field_path: Some(field_path.into()),
        ..self::rule(rule, message)
    }
}

/// A field of `self` that may not change. On the parent, because a rule on an optional field does not see the field removed and put back.
fn immutable(field: &str) -> Rule {
    rule_at(
        &format!(".{field}"),
        format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        ),
        format!("{field} cannot change while the job exists; create another job"),
    )
}

/// Longest name of a job: pods and services add up to 23 characters to it and must stay within a label of 63.
pub const MAX_NAME: usize = 40;
/// Names of jobs, as a service's: a label of RFC 1035.
pub(crate) const NAME: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";
/// What is said about any other name.
pub(crate) const NAME_MESSAGE: &str = "metadata.name must be at most 40 characters of a-z, 0-9 and '-', beginning with a letter and not \
     ending with '-', because pods and services are named after it";

/// Rule of the whole object.
pub(crate) fn root() -> Rule {
    rule(
        format!("self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches('{NAME}')"),
        NAME_MESSAGE,
    )
}

/// Rules of `spec`.
pub(crate) fn spec() -> Vec<Rule> {
    let mut rules: Vec<Rule> = [
        "image",
        "task",
        "model",
        "data",
        "training",
        "initialModel",
        "resumeFrom",
        "servers",
        "checkpoint",
    ]
    .map(immutable)
    .into();
    rules.extend([
        rule_at(
            ".workers.maxReplicas",
            "!has(self.workers.maxReplicas) || self.workers.maxReplicas <= self.training.microBatches",
            "maxReplicas must not exceed training.microBatches, the most workers that can share a step",
        ),
        rule_at(
            ".workers.replicas",
            "self.workers.replicas <= self.training.microBatches",
            "replicas must not exceed training.microBatches, the most workers that can share a step",
        ),
        rule_at(
            ".training.batchSize",
            "self.training.batchSize >= self.training.microBatches",
            "batchSize must be at least microBatches (4 unless set), so that each of the parts of a batch has a row",
        ),
        rule_at(
            ".training.earlyStopping",
            "!has(self.training.earlyStopping) || has(self.data.validation)",
            "earlyStopping needs data.validation",
        ),
        rule_at(
            ".training.earlyStopping.metric",
            "!has(self.training.earlyStopping) || self.training.earlyStopping.metric in \
             (has(self.task.regression) ? ['loss', 'rmse', 'mae', 'mape', 'r2'] : \
             has(self.task.multiclassClassification) ? ['loss', 'accuracy', 'precision', 'recall', 'f1'] : \
             ['loss', 'accuracy', 'precision', 'recall', 'f1', 'auc', 'prAuc'])",
            "metric must suit the task: loss, rmse, mae, mape or r2 for regression; loss, accuracy, precision, recall or f1 for classification, \
             and auc or prAuc too for binaryClassification",
        ),
        rule_at(
            ".task.regression",
            "!has(self.task.regression) || !has(self.task.regression.loss) || !has(self.task.regression.loss.poisson) || \
             !has(self.task.regression.targetNormalization) || self.task.regression.targetNormalization != 'Standardize'",
            "the loss poisson is of counts, which are not scaled: leave targetNormalization out",
        ),
        stratified("validation"),
        stratified("test"),
        rule_at(
            ".data.train",
            "!has(self.task.regression) || !has(self.data.train.images)",
            "the folders of images are classes, and the task is a regression: use a classification, or npy data",
        ),
        rule_at(
            ".data.train",
            "!has(self.model.cnn) || !(has(self.data.train.csv) || has(self.data.train.parquet))",
            "a cnn needs images: use images, idx or npy data, or an mlp",
        ),
    ]);
    rules
}

/// A regression has no classes.
fn stratified(field: &str) -> Rule {
    rule_at(
        &format!(".data.{field}.split.stratify"),
        format!(
            "!has(self.task.regression) || !has(self.data.{field}) || !has(self.data.{field}.split) || \
             !has(self.data.{field}.split.stratify) || !self.data.{field}.split.stratify"
        ),
        "stratify is for classes, and the task is a regression: leave it out",
    )
}

/// Rules of `spec.workers`, which has the fields of `Settings` beside its own.
pub(crate) fn workers<Settings: JsonSchema>() -> Vec<Rule> {
    // What a pod is made of cannot change under it. They are taken from the schema: a setting that is added is fixed too.
    let settings = SchemaGenerator::default().into_root_schema_for::<Settings>();
    let fields = settings.get("properties").and_then(Value::as_object);
    let fixed = fields
        .into_iter()
        .flatten()
        .map(|(name, _)| immutable(name));
    let mut rules: Vec<Rule> = fixed.collect();
    rules.extend([
        rule_at(
            ".minReplicas",
            "!has(self.minReplicas) || self.minReplicas <= self.replicas",
            "minReplicas must not exceed replicas",
        ),
        rule_at(
            ".maxReplicas",
            "!has(self.maxReplicas) || self.replicas <= self.maxReplicas",
            "maxReplicas must be at least replicas",
        ),
        rule_at(
            ".maxReplicas",
            "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            "maxReplicas must be at least minReplicas",
        ),
    ]);
    rules
}

/// Rules of `spec.data`.
pub(crate) fn data() -> Vec<Rule> {
    let same_format = |field: &str| {
        let formats = ["csv", "parquet", "npy", "idx", "images"]
            .map(|format| format!("has(self.{field}.{format}) == has(self.train.{format})"));
        rule_at(
            &format!(".{field}"),
            format!(
                "!has(self.{field}) || has(self.{field}.fraction) || has(self.{field}.split) || ({})",
                formats.join(" && ")
            ),
            format!("{field} must have the format of train, or be a fraction of it"),
        )
    };
    let by_column = |field: &str| {
        rule_at(
            &format!(".{field}.split"),
            format!(
                "!has(self.{field}) || !has(self.{field}.split) || has(self.train.csv) || has(self.train.parquet) || \
                 !(has(self.{field}.split.groupBy) || has(self.{field}.split.orderBy))"
            ),
            "groupBy and orderBy name columns, which arrays and images do not have: split them beforehand into files of their own",
        )
    };
    let share = |field: &str| {
        format!(
            "(has(self.{field}.fraction) ? self.{field}.fraction : has(self.{field}.split) ? \
             self.{field}.split.fraction : 0.0)"
        )
    };
    vec![
        same_format("validation"),
        same_format("test"),
        by_column("validation"),
        by_column("test"),
        rule_at(
            ".test",
            format!(
                "!has(self.test) || !has(self.validation) || {} + {} < 1.0",
                share("validation"),
                share("test")
            ),
            "the fractions of validation and test must leave rows to train on",
        ),
    ]
}

/// Rules of a table that is one file or several.
pub(crate) fn table_file() -> Vec<Rule> {
    vec![one_or_several()]
}

fn one_or_several() -> Rule {
    rule(
        "has(self.uri) != (has(self.uris) && self.uris.size() > 0)",
        "exactly one of uri and uris must be set",
    )
}

/// Rules of `spec.data.validation.split`.
pub(crate) fn split() -> Vec<Rule> {
    vec![rule(
        "[has(self.groupBy), has(self.orderBy), has(self.stratify) && self.stratify].filter(rule, rule).size() <= 1",
        "groupBy, orderBy and stratify exclude each other",
    )]
}

/// Rules of `spec.data.train.csv`.
pub(crate) fn csv() -> Vec<Rule> {
    let mut rules = table();
    rules.extend([
        rule_at(
            ".categorical",
            "!(self.label in self.categorical)",
            "categorical must not name the label column",
        ),
        rule_at(
            ".categorical",
            "!self.categorical.exists(c, c in self.exclude)",
            "a column must not be both categorical and excluded",
        ),
        rule_at(
            ".decimal",
            "!has(self.decimal) || self.decimal != self.delimiter",
            "decimal must differ from the delimiter",
        ),
        rule_at(
            ".thousands",
            "!has(self.thousands) || self.thousands != (has(self.decimal) ? self.decimal : '.')",
            "thousands must differ from decimal",
        ),
    ]);
    rules
}

/// Rules of `spec.data.train.parquet`.
pub(crate) fn parquet() -> Vec<Rule> {
    table()
}

/// Rules of `spec.data.train.images`.
pub(crate) fn images() -> Vec<Rule> {
    vec![rule(
        "has(self.height) == has(self.width)",
        "height and width need each other",
    )]
}

/// Rules of the table that is trained on, whatever its format.
fn table() -> Vec<Rule> {
    vec![
        one_or_several(),
        rule_at(
            ".exclude",
            "!has(self.exclude) || !(self.label in self.exclude)",
            "exclude must not name the label column",
        ),
        rule_at(
            ".columns",
            "!has(self.columns) || !self.columns.exists(c, c.name == self.label)",
            "columns must not name the label column",
        ),
    ]
}

/// Rules of one of the `spec.data.train.csv.columns`.
pub(crate) fn table_column() -> Vec<Rule> {
    let only = |field: &str, kind: &str| {
        rule_at(
            &format!(".{field}"),
            format!("!has(self.{field}) || (has(self.type) && self.type == '{kind}')"),
            format!("{field} is for columns of type {kind}"),
        )
    };
    vec![
        rule_at(
            ".fillValue",
            "has(self.fillValue) == (has(self.missing) && self.missing == 'Constant')",
            "fillValue and missing: Constant need each other",
        ),
        only("categories", "Ordinal"),
        only("dateFormat", "Date"),
        only("dateParts", "Date"),
        rule_at(
            ".categories",
            "!has(self.type) || self.type != 'Ordinal' || (has(self.categories) && self.categories.size() >= 2)",
            "a column of type Ordinal needs at least two categories, lowest first",
        ),
    ]
}

/// Rules of one of the `spec.model.cnn.blocks`.
pub(crate) fn conv_block() -> Vec<Rule> {
    vec![
        rule_at(
            ".kernelSize",
            "self.kernelSize % 2 == 1",
            "kernelSize must be odd, so that padding keeps the size",
        ),
        rule_at(
            ".groups",
            "!has(self.groups) || self.channels % self.groups == 0",
            "groups must divide channels",
        ),
    ]
}

/// Rules of `spec.training.optimizer.sgd`.
pub(crate) fn sgd() -> Vec<Rule> {
    vec![rule_at(
        ".nesterov",
        "!self.nesterov || (self.momentum > 0.0 && self.dampening == 0.0)",
        "nesterov needs a momentum above 0 and a dampening of 0",
    )]
}

/// Rules of `spec.training.microBatches`.
pub(crate) fn micro_batches() -> Vec<Rule> {
    vec![rule(
        "self in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]",
        "microBatches must be a power of two: 1, 2, 4, 8, 16, 32, 64, 128, 256, 512 or 1024",
    )]
}

/// The rule of a choice: exactly one of `names`.
pub(crate) fn exactly_one(names: &[&str]) -> Rule {
    let all = names.join(", ");
    let present: Vec<String> = names
        .iter()
        .map(|name| format!("has(self.{name})"))
        .collect();
    match names {
        [one] => rule(present[0].as_str(), format!("{one} must be set")),
        _ => rule(
            format!("[{}].exists_one(set, set)", present.join(", ")),
            format!("exactly one of {all} must be set"),
        ),
    }
}

/// Whether `rule` was made by [`exactly_one`].
#[cfg(feature = "manifest")]
pub(crate) fn is_exactly_one(rule: &str) -> bool {
    rule.ends_with("].exists_one(set, set)")
}
