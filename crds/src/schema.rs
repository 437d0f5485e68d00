//! The structural schema of the API, from the Rust types.
//!
//! What `schemars` derives is turned into what the API server reads best: a choice is an object with a CEL rule that says in words what is wrong, where `oneOf` would answer
//! `<nil>: Found 2 valid alternatives`; an optional field is one that may be absent, never `null`; integers have formats and bounds that Kubernetes knows.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{TrainingJob, rules};

/// Every CustomResourceDefinition of this crate.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![TrainingJob::crd()]
}

/// Schema of a Kubernetes type without its descriptions, which would fill the definition several times over.
pub(crate) fn bare<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut value = generator.subschema_for::<T>().to_value();
    strip_descriptions(&mut value, false);
    Schema::try_from(value).unwrap_or_default()
}

/// Removes `description` where it is a keyword; `is_properties` says that keys of this map are field names.
fn strip_descriptions(value: &mut Value, is_properties: bool) {
    match value {
        Value::Object(map) => {
            if !is_properties {
                map.remove("description");
            }
            for (key, child) in map {
                strip_descriptions(child, !is_properties && key == "properties");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip_descriptions(item, false)),
        _ => {}
    }
}

/// The transformation of a whole spec or status. It expects subschemas inlined, as in [`crds`].
pub(crate) fn structural(schema: &mut Schema) {
    if let Some(map) = schema.as_object_mut() {
        rewrite(map);
    }
}

fn rewrite(map: &mut Map<String, Value>) {
    for (key, child) in map.iter_mut() {
        match (key.as_str(), child) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().filter_map(Value::as_object_mut).for_each(rewrite);
            }
            ("items" | "additionalProperties", Value::Object(child)) => rewrite(child),
            ("oneOf" | "anyOf", Value::Array(variants)) => {
                variants.iter_mut().filter_map(Value::as_object_mut).for_each(rewrite);
            }
            _ => {}
        }
    }
    optional(map);
    choice(map);
    integer(map);
    if map.get("additionalProperties") == Some(&Value::Bool(false)) {
        map.remove("additionalProperties");
    }
}

/// `Option<T>`: the schema of `T`.
fn optional(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|t| t != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            map.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(variants)) = map.get_mut("anyOf") {
        variants.retain(|variant| variant != &json!({"type": "null"}));
        if let [one] = variants.as_slice() {
            let one = one.clone();
            map.remove("anyOf");
            merge(map, one);
        }
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|v| !v.is_null());
    }
}

/// Adds the keywords of `from` that `into` does not have.
fn merge(into: &mut Map<String, Value>, from: Value) {
    if let Value::Object(from) = from {
        for (key, value) in from {
            into.entry(key).or_insert(value);
        }
    }
}

/// An enum: of strings, a `string` with `enum`; of objects with one field each, an object with all the fields and the rule that one be set.
fn choice(map: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = map.remove("oneOf") else { return };
    let mut names = Vec::new();
    let mut properties = Map::new();
    for variant in variants {
        if let Some(name) = variant.get("const") {
            names.push(name.clone());
        } else if let Some(values) = variant.get("enum").and_then(Value::as_array) {
            names.extend(values.iter().cloned());
        } else if let Some(Value::Object(fields)) = variant.get("properties") {
            for (name, field) in fields {
                let mut field = field.clone();
                if let (Some(description), Some(field)) = (variant.get("description"), field.as_object_mut()) {
                    field.insert("description".into(), description.clone());
                }
                properties.insert(name.clone(), field);
            }
        }
    }
    if properties.is_empty() {
        map.insert("type".into(), "string".into());
        map.insert("enum".into(), names.into());
        return;
    }
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let rule = rules::exactly_one(&names);
    map.insert("type".into(), "object".into());
    map.insert("properties".into(), Value::Object(properties));
    map.entry("x-kubernetes-validations")
        .or_insert_with(|| json!([]))
        .as_array_mut()
        .into_iter()
        .for_each(|rules| rules.push(rule.clone()));
}

/// Kubernetes knows `int32` and `int64`; an unsigned type becomes one of them with bounds.
fn integer(map: &mut Map<String, Value>) {
    let (format, max) = match map.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "uint32") => ("int64", json!(u32::MAX)),
        Some("uint64" | "uint") => ("int64", json!(i64::MAX)),
        _ => return,
    };
    map.entry("minimum").or_insert(json!(0));
    let max = map.entry("maximum").or_insert(max).clone();
    let format = if max.as_f64().is_some_and(|m| m <= f64::from(i32::MAX)) { "int32" } else { format };
    map.insert("format".into(), format.into());
}
