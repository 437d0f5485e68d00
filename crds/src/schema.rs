//! The structural schema of the API, from the Rust types.
//!
//! What `schemars` derives is turned into what the API server reads best: a choice is an object with a CEL rule that says in words what is wrong,
//! where `oneOf` would answer `<nil>: Found 2 valid alternatives`; an optional field is one that may be absent, never `null`; integers have formats
//! and bounds that Kubernetes knows.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
#[cfg(feature = "manifest")]
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
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

/// Syntax of a quantity.
pub(crate) const QUANTITY: &str = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+))?$";

/// Schema of `resources`, with the syntax of quantities, which Kubernetes' own schema leaves to code.
pub(crate) fn resources(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = bare::<ResourceRequirements>(generator);
    for list in ["limits", "requests"] {
        let quantity = schema.pointer_mut(&format!("/properties/{list}/additionalProperties"));
        if let Some(quantity) = quantity.and_then(Value::as_object_mut) {
            quantity.insert("pattern".into(), QUANTITY.into());
        }
    }
    schema
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
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| strip_descriptions(item, false)),
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
    describe(map);
    for (key, child) in map.iter_mut() {
        match (key.as_str(), child) {
            ("properties", Value::Object(properties)) => {
                properties
                    .values_mut()
                    .filter_map(Value::as_object_mut)
                    .for_each(rewrite);
            }
            ("items" | "additionalProperties", Value::Object(child)) => rewrite(child),
            ("oneOf" | "anyOf", Value::Array(variants)) => {
                variants
                    .iter_mut()
                    .filter_map(Value::as_object_mut)
                    .for_each(rewrite);
            }
            _ => {}
        }
    }
    optional(map);
    choice(map);
    if let Some(Value::String(meanings)) = map.remove("x-meanings") {
        let description = map
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let both = format!("{description}\n\n{meanings}").trim().to_owned();
        map.insert("description".into(), both.into());
    }
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

/// Descriptions come from doc comments, with the line breaks of the source.
fn describe(map: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = map.get_mut("description") {
        let paragraphs: Vec<String> = text
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "))
            .collect();
        *text = paragraphs.join("\n\n");
    }
}

/// An enum: of strings, a `string` with `enum`; of objects with one field each, an object with all the fields and the rule that one be set.
fn choice(map: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = map.remove("oneOf") else {
        return;
    };
    let fields: Vec<(String, Value)> = variants.iter().flat_map(variant_fields).collect();
    if fields.is_empty() {
        return string_enum(map, &variants);
    }
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    let rule = rules::exactly_one(&names);
    if let Value::Array(rules) = map
        .entry("x-kubernetes-validations")
        .or_insert_with(|| json!([]))
    {
        rules.push(json!(rule));
    }
    map.insert("type".into(), "object".into());
    map.insert(
        "properties".into(),
        Value::Object(fields.into_iter().collect()),
    );
}

/// The field of a variant that is an object, with the variant's description.
fn variant_fields(variant: &Value) -> Vec<(String, Value)> {
    let Some(Value::Object(properties)) = variant.get("properties") else {
        return Vec::new();
    };
    let describe = |(name, field): (&String, &Value)| {
        let mut field = field.clone();
        if let (Some(description), Some(field)) =
            (variant.get("description"), field.as_object_mut())
        {
            field.insert("description".into(), description.clone());
        }
        (name.clone(), field)
    };
    properties.iter().map(describe).collect()
}

/// An enum of strings. The values' own descriptions are appended to the field's, for `kubectl explain`.
fn string_enum(map: &mut Map<String, Value>, variants: &[Value]) {
    let mut names = Vec::new();
    let mut meanings = Vec::new();
    for variant in variants {
        if let Some(name) = variant.get("const").and_then(Value::as_str) {
            names.push(json!(name));
            if let Some(description) = variant.get("description").and_then(Value::as_str) {
                meanings.push(format!("{name}: {description}"));
            }
        } else if let Some(values) = variant.get("enum").and_then(Value::as_array) {
            names.extend(values.iter().cloned());
        }
    }
    map.insert("type".into(), "string".into());
    map.insert("enum".into(), names.into());
    if !meanings.is_empty() {
        map.insert("x-meanings".into(), meanings.join("\n").into());
    }
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
    let format = if max.as_f64().is_some_and(|m| m <= f64::from(i32::MAX)) {
        "int32"
    } else {
        format
    };
    map.insert("format".into(), format.into());
}

/// The schema of a kind, as it is installed on clusters.
pub fn open_api<K: CustomResourceExt>() -> Value {
    let crd = K::crd();
    let version = crd.spec.versions.into_iter().next();
    let schema = version
        .and_then(|version| version.schema)
        .and_then(|schema| schema.open_api_v3_schema);
    serde_json::to_value(schema).unwrap_or_default()
}

/// Schema of `metadata`, which the API server adds to every kind by itself. `managedFields` is left to it.
#[cfg(feature = "manifest")]
pub(crate) fn metadata() -> Value {
    let settings =
        schemars::generate::SchemaSettings::openapi3().with(|s| s.inline_subschemas = true);
    let mut schema = bare::<ObjectMeta>(&mut settings.into_generator()).to_value();
    schema["required"] = json!(["name"]);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(
            "managedFields".into(),
            json!({"x-kubernetes-preserve-unknown-fields": true}),
        );
        properties.remove("generateName");
    }
    schema
}
