//! Changes to a manifest from the command line: `path=value`.

use super::error::{Place, Report};
use super::node::{Entry, Kind, Node};
use super::suggest;
use super::tree;
use serde_json::Value;

/// Most steps of a path; deeper than the schema.
const MAX_STEPS: usize = 32;

/// Applies the change with this `index` to the tree of a manifest with this `schema`.
pub(super) fn apply(
    root: &mut Node,
    index: usize,
    change: &str,
    schema: &Value,
    report: &mut Report,
) {
    let place = Place::Set(index);
    let Some((path, text)) = change.split_once('=') else {
        return report.add(
            place,
            "",
            "expected path=value".into(),
            "as in spec.training.epochs=3",
        );
    };
    let path = path.trim();
    let steps = steps(path);
    if steps.len() > MAX_STEPS || steps.iter().any(String::is_empty) {
        return report.add(
            place,
            "",
            format!("`{path}` is not a path"),
            "as in spec.training.epochs",
        );
    }
    let first = steps.first().map_or("", String::as_str);
    if first != "spec" && first != "metadata" {
        let near = suggest::nearest(first, &["spec", "metadata"]).unwrap_or("spec");
        return report.add(
            place,
            path,
            "a path begins with `spec.` or `metadata.`".into(),
            format!("did you mean `{near}`?"),
        );
    }
    let node = match tree::parse_value(text, place) {
        Ok(node) => as_text(node, text, schema, &steps),
        Err(_) if text.trim().is_empty() => Node {
            place,
            kind: Kind::Null,
        },
        Err(fault) => return report.add(place, path, fault.what, fault.remedy),
    };
    if let Err(what) = put(root, &steps, node, place) {
        report.add(place, path, what, "");
    }
}

/// A plain `yes` or `1` as the text that it is, where the schema has text: a shell has taken off the quotes
/// that would say so.
fn as_text(node: Node, text: &str, schema: &Value, steps: &[String]) -> Node {
    let is_scalar = matches!(
        node.kind,
        Kind::Bool(..) | Kind::Integer(_) | Kind::Float(_)
    );
    let wanted = steps.iter().try_fold(schema, |schema, step| {
        let field = schema.get("properties").and_then(|fields| fields.get(step));
        let item = || schema.get("items");
        field
            .or_else(item)
            .or_else(|| schema.get("additionalProperties"))
    });
    let wants_text = wanted.and_then(|schema| schema.get("type")) == Some(&"string".into());
    match is_scalar && wants_text {
        true => Node {
            kind: Kind::String(text.trim().to_owned()),
            ..node
        },
        false => node,
    }
}

/// The steps of a path: separated by dots (`\.` is a dot within a name), list elements also as `[0]`.
fn steps(path: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'.') => {
                characters.next();
                push(&mut steps, '.');
            }
            '.' => steps.push(String::new()),
            '[' if path.ends_with(']') || path.contains("].") => steps.push(String::new()),
            ']' => {}
            other => push(&mut steps, other),
        }
    }
    steps
}

fn push(steps: &mut [String], character: char) {
    if let Some(last) = steps.last_mut() {
        last.push(character);
    }
}

/// Puts `node` at the end of `steps`, with maps made on the way where nothing is.
fn put(mut at: &mut Node, steps: &[String], node: Node, place: Place) -> Result<(), String> {
    for (index, step) in steps.iter().enumerate() {
        if matches!(at.kind, Kind::Null) {
            *at = Node {
                place,
                kind: Kind::Map(Vec::new()),
            };
        }
        at = match &mut at.kind {
            Kind::Map(entries) => field(entries, step, place, index + 1 == steps.len()),
            Kind::List(items) => item(items, step, place)?,
            other => {
                return Err(format!(
                    "`{step}` is within {}, which has no fields",
                    super::value::describe(other)
                ));
            }
        };
    }
    *at = node;
    Ok(())
}

/// A field of a map. It keeps its place in the file unless it `is_last` of its path, the one that is changed.
fn field<'a>(entries: &'a mut Vec<Entry>, name: &str, place: Place, is_last: bool) -> &'a mut Node {
    let index = match entries.iter().position(|entry| entry.name == name) {
        Some(index) => index,
        None => {
            let node = Node {
                place,
                kind: Kind::Null,
            };
            entries.push(Entry {
                name: name.to_owned(),
                place,
                node,
            });
            entries.len() - 1
        }
    };
    let entry = &mut entries[index];
    if is_last {
        entry.place = place;
    }
    &mut entry.node
}

/// An item of a list; the number after the last appends one.
fn item<'a>(items: &'a mut Vec<Node>, step: &str, place: Place) -> Result<&'a mut Node, String> {
    let count = items.len();
    match step.parse::<usize>() {
        Ok(index) if index <= count => {
            if index == count {
                items.push(Node {
                    place,
                    kind: Kind::Null,
                });
            }
            Ok(&mut items[index])
        }
        Ok(index) => Err(format!("there is no element {index}: the list has {count}")),
        Err(_) => Err(format!("expected the number of an element, found `{step}`")),
    }
}
