//! Bounds that a schema sets on values of the right type.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;
use serde_json::{Number, Value};

use super::{suggest, value};
use crate::schema::QUANTITY;

/// What is wrong, and what to do about it.
type Broken = Option<(String, String)>;

/// The bound that `value`, a string or a number, breaks.
pub(super) fn broken(schema: &Value, value: &Value) -> Broken {
    match value {
        Value::String(text) => broken_enum(schema, text)
            .or_else(|| broken_length(schema, text))
            .or_else(|| broken_pattern(schema, text)),
        Value::Number(number) => broken_range(schema, number),
        _ => None,
    }
}

fn broken_enum(schema: &Value, text: &str) -> Broken {
    let names: Vec<&str> = schema
        .get("enum")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if names.contains(&text) {
        return None;
    }
    let remedy = match suggest::nearest(text, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => String::new(),
    };
    Some((
        format!(
            "expected one of {}, found {}",
            names.join(", "),
            value::quote(text)
        ),
        remedy,
    ))
}

fn broken_length(schema: &Value, text: &str) -> Broken {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    let length = text.chars().count() as u64;
    if let Some(min) = bound("minLength").filter(|min| length < *min) {
        let what = if length == 0 {
            "must not be empty".to_owned()
        } else {
            format!("must have at least {min} characters, has {length}")
        };
        return Some((what, String::new()));
    }
    let max = bound("maxLength").filter(|max| length > *max)?;
    Some((
        format!(
            "must have at most {max} character{}, has {length}",
            plural(max)
        ),
        String::new(),
    ))
}

fn broken_pattern(schema: &Value, text: &str) -> Broken {
    let pattern = schema.get("pattern")?.as_str()?;
    if compiled(pattern)?.is_match(text) {
        return None;
    }
    Some(match pattern {
        QUANTITY => (
            format!("{} is not a quantity", value::quote(text)),
            "as in 500m, 2 or 1.5Gi".to_owned(),
        ),
        _ => (
            format!("{} does not have the form {pattern}", value::quote(text)),
            String::new(),
        ),
    })
}

/// The regular expression of a schema's pattern, compiled once in the life of the process: a list may have hundreds of
/// elements that one applies to. `None` if it cannot be compiled; the API server refuses a definition with such a pattern, and
/// a test compiles each of ours.
fn compiled(pattern: &str) -> Option<Regex> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<Regex>>>> =
        LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = compiled.get(pattern) {
        return known.clone();
    }
    let regex = Regex::new(pattern).ok();
    compiled.insert(pattern.to_owned(), regex.clone());
    regex
}

fn broken_range(schema: &Value, number: &Number) -> Broken {
    // As it was written: 1 rather than 1.0.
    let text = number.as_i64().map_or_else(
        || format!("{}", number.as_f64().unwrap_or(f64::NAN)),
        |n| n.to_string(),
    );
    let number = number.as_f64()?;
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let exclusive = |name: &str| schema.get(name) == Some(&Value::Bool(true));
    if let Some(min) = bound("minimum") {
        if exclusive("exclusiveMinimum") && number <= min {
            return Some((format!("must be more than {min}, is {text}"), String::new()));
        }
        if number < min {
            return Some((format!("must be at least {min}, is {text}"), String::new()));
        }
    }
    let max = bound("maximum")?;
    if exclusive("exclusiveMaximum") && number >= max {
        return Some((format!("must be less than {max}, is {text}"), String::new()));
    }
    (number > max).then(|| (format!("must be at most {max}, is {text}"), String::new()))
}

/// The bound on a number of elements or fields (`keyword` is `Items` or `Properties`) that `count` breaks.
pub(super) fn broken_count(schema: &Value, keyword: &str, noun: &str, count: usize) -> Broken {
    let bound = |name: &str| {
        schema
            .get(format!("{name}{keyword}"))
            .and_then(Value::as_u64)
    };
    let count = count as u64;
    if let Some(min) = bound("min").filter(|min| count < *min) {
        return Some((
            format!("must have at least {min} {noun}, has {count}"),
            String::new(),
        ));
    }
    let max = bound("max").filter(|max| count > *max)?;
    Some((
        format!("must have at most {max} {noun}, has {count}"),
        String::new(),
    ))
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The text of what must differ between the elements of a list of this schema: the element of a set, the keys of a map; `None` where equal elements
/// are allowed.
pub(super) fn identity(schema: &Value, element: &Value) -> Option<String> {
    match schema.get("x-kubernetes-list-type")?.as_str()? {
        "set" => Some(element.to_string()),
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys")?.as_array()?;
            let keys = keys.iter().filter_map(Value::as_str);
            let keys: Value = keys
                .map(|key| element.get(key).cloned().unwrap_or_default())
                .collect();
            Some(keys.to_string())
        }
        _ => None,
    }
}
