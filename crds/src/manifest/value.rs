//! Values as JSON, and in words.

use serde_json::{Number, Value};

use super::node::{Kind, Node};

/// A value in words, for messages.
pub(super) fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Null => "nothing".into(),
        Kind::Bool(_, text) => format!("the boolean `{text}`"),
        Kind::Integer(number) => format!("the number {number}"),
        Kind::Float(number) => format!("the number {number}"),
        Kind::String(text) => format!("the string {}", quote(text)),
        Kind::List(_) => "a list".into(),
        Kind::Map(_) => "a map".into(),
    }
}

/// Text in quotes, cut where it is long.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A value as JSON without a schema; numbers that JSON does not have become null.
pub(super) fn to_json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(value, _) => (*value).into(),
        Kind::Integer(number) => (*number).into(),
        Kind::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Kind::String(text) => text.as_str().into(),
        Kind::List(items) => items.iter().map(to_json).collect(),
        Kind::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|entry| (entry.name.clone(), to_json(&entry.node)))
                .collect(),
        ),
    }
}
