//! The schema's CEL rules, evaluated as the API server does when an object is created.

use kube_cel::Validator;
use serde_json::Value;

use super::error::Report;
use super::node::Node;
use super::{crd_schema, locate};
use crate::rules::{NAME_MESSAGE, is_exactly_one};

/// Adds an error for each rule that `value`, a checked document with its defaults, breaks.
pub(super) fn evaluate(value: &Value, root: &Node, report: &mut Report) {
    let Err(errors) = Validator::new().validate(crd_schema(), value, None) else {
        return;
    };
    for error in errors.into_vec() {
        if error.message == NAME_MESSAGE {
            let path = "metadata.name";
            report.add(
                locate::place(root, path),
                path,
                error.message,
                "rename the job",
            );
        } else if is_exactly_one(&error.rule) {
            // An unknown field in a choice is a misspelt alternative; that has been said already.
            if !report.knows(&error.field_path) {
                choice(&error.field_path, error.message, root, report);
            }
        } else {
            report.add(
                locate::place(root, &error.field_path),
                &error.field_path,
                error.message,
                "",
            );
        }
    }
}

/// Not exactly one alternative: the second one found is the place to look at.
fn choice(path: &str, message: String, root: &Node, report: &mut Report) {
    let found = locate::fields(root, path, true);
    match found.as_slice() {
        [] | [_] => {
            let blank = locate::fields(root, path, false);
            let (place, remedy) = match blank.first() {
                // `{a}` is a map too: of `a` to nothing.
                Some((name, place)) => (
                    *place,
                    format!(
                        "`{name}` has no value: give it one, or write `{name}: {{}}` if it needs none"
                    ),
                ),
                None => (locate::place(root, path), "none is set".into()),
            };
            report.add(place, path, message, remedy);
        }
        [.., (_, place)] => {
            let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
            report.add(
                *place,
                path,
                message,
                format!("found {}; remove all but one", names.join(" and ")),
            );
        }
    }
}
