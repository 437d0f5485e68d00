//! Reads a `TrainingJob` from a manifest file and judges it as the API server would: the generated schema, its defaults, its CEL rules. Every error
//! names file, line, column and field, and what to do.
//!
//! The steps are those of `kubectl apply` with strict validation: YAML is resolved as kubectl resolves it, unknown and duplicate fields are refused,
//! nulls are dropped, defaults filled in, values checked, rules evaluated. Merge keys (`<<`), which kubectl takes, are refused here.

mod check;
mod error;
mod limits;
mod locate;
mod node;
mod overrides;
mod rules;
mod scalar;
mod suggest;
mod tree;
mod value;

use std::sync::OnceLock;

use serde_json::{Value, json};

pub use error::{ManifestError, ManifestErrors, Place};

use crate::{GROUP, TrainingJob, VERSION, schema};
use error::Report;
use node::{Kind, Node};

/// Longest manifest that is read, in bytes. The API server's own limit is not much higher.
pub const MAX_BYTES: usize = 1 << 20;

/// Reads the one `TrainingJob` of a manifest. `file_name` is for messages alone.
///
/// The result has every default filled in and satisfies the schema and the rules.
///
/// # Errors
/// Everything that is wrong, in the order of the file. Rules are evaluated only on a manifest whose fields are each right.
pub fn read(file_name: &str, text: &str) -> Result<TrainingJob, ManifestErrors> {
    read_with(file_name, text, &[])
}

/// Like [`read`], after changes of the form `path=value`, as in `spec.training.epochs=3`, in their order.
///
/// Elements of a list are named by their number, as in `spec.model.mlp.hidden.0`; a dot within a name is written `\.`. The value is YAML, as in
/// `spec.training.optimizer={sgd: {learningRate: 0.1}}`; nothing after the `=` removes the field.
///
/// # Errors
/// As [`read`]; an error in a change names the change instead of a line.
pub fn read_with(
    file_name: &str,
    text: &str,
    set: &[String],
) -> Result<TrainingJob, ManifestErrors> {
    let mut report = Report::new(file_name, set);
    let job = judge(text, set, &mut report);
    match job {
        Some(job) if report.is_empty() => Ok(job),
        _ => Err(report.finish()),
    }
}

/// The steps in order; `None` where one of them leaves nothing for the next.
fn judge(text: &str, set: &[String], report: &mut Report) -> Option<TrainingJob> {
    let mut root = tree::parse(text, report)?;
    for (index, change) in set.iter().enumerate() {
        overrides::apply(&mut root, index, change, document_schema(), report);
    }
    if !report.is_empty() {
        return None;
    }
    identify(&root, report);
    if !report.is_empty() {
        return None;
    }
    let value = check::check(document_schema(), &root, report)?;
    if report.rules_make_sense() {
        rules::evaluate(&value, &root, report);
    }
    if !report.is_empty() {
        return None;
    }
    serde_json::from_value(value)
        .map_err(|error| {
            report.add(
                root.place,
                "",
                format!("does not decode as a TrainingJob: {error}"),
                "",
            )
        })
        .ok()
}

/// Whether this is a `TrainingJob` at all; anything else would only yield a list of unknown fields.
fn identify(root: &Node, report: &mut Report) {
    let Kind::Map(entries) = &root.kind else {
        report.add(
            root.place,
            "",
            format!(
                "expected a TrainingJob, found {}",
                value::describe(&root.kind)
            ),
            "see examples/ for manifests that run",
        );
        return;
    };
    let expected = [
        ("apiVersion", format!("{GROUP}/{VERSION}")),
        ("kind", "TrainingJob".to_owned()),
    ];
    for (name, wanted) in expected {
        match entries.iter().find(|entry| entry.name == name) {
            None => report.add(
                root.place,
                name,
                "required field is missing".into(),
                format!("add `{name}: {wanted}`"),
            ),
            Some(entry) => match &entry.node.kind {
                Kind::String(found) if *found == wanted => {}
                other => report.add(
                    entry.node.place,
                    name,
                    format!("expected {wanted}, found {}", value::describe(other)),
                    format!("write `{name}: {wanted}`"),
                ),
            },
        }
    }
}

/// The schema of a whole manifest: that of the definition, and those parts of the object that the API server checks by itself.
fn document_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut root = crd_schema().clone();
        if let Some(properties) = root
            .pointer_mut("/properties")
            .and_then(Value::as_object_mut)
        {
            properties.insert("apiVersion".into(), json!({"type": "string"}));
            properties.insert("kind".into(), json!({"type": "string"}));
            properties.insert("metadata".into(), schema::metadata());
            // The API server takes no status from whoever creates an object.
            properties.insert(
                "status".into(),
                json!({"x-kubernetes-preserve-unknown-fields": true, "x-drop": true}),
            );
        }
        root["required"] = json!(["metadata", "spec"]);
        root
    })
}

/// The schema that is installed on clusters.
fn crd_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(schema::open_api::<TrainingJob>)
}
