//! What a misspelt name was meant to be.

use serde_json::Value;

/// Most valid names that are listed where none is near.
const MAX_LISTED: usize = 12;

/// What other programs call our fields.
const OTHER_NAMES: [(&str, &str); 20] = [
    ("path", "uri"),
    ("file", "uri"),
    ("filename", "uri"),
    ("url", "uri"),
    ("source", "uri"),
    ("target", "label"),
    ("sep", "delimiter"),
    ("separator", "delimiter"),
    ("lr", "learningRate"),
    ("batch", "batchSize"),
    ("layers", "hidden"),
    ("count", "replicas"),
    ("eps", "epsilon"),
    ("hidden_layers", "hidden"),
    ("hidden_sizes", "hidden"),
    ("units", "hidden"),
    ("val", "validation"),
    ("split", "validation"),
    ("validation_split", "validation"),
    ("test", "validation"),
];

/// The field of an object with `schema` that `name` was probably meant to be.
pub(super) fn meant<'s>(name: &str, schema: &'s Value) -> Option<&'s str> {
    let names: Vec<&str> = properties(schema).map(|(name, _)| name).collect();
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
    let ours = other.and_then(|(_, ours)| names.iter().find(|name| *name == ours));
    ours.copied().or_else(|| nearest(name, &names))
}

/// The remedy for an unknown field of an object with `schema` that is near to none, where `root` is the schema of the whole document.
pub(super) fn instead(name: &str, schema: &Value, root: &Value) -> String {
    let places = elsewhere(name, root);
    if !places.is_empty() {
        return format!("`{name}` belongs to {}", places.join(" or "));
    }
    let names: Vec<&str> = properties(schema).map(|(name, _)| name).collect();
    match names.len() {
        0 => "remove it; nothing can be set here".into(),
        1..=MAX_LISTED => format!("fields here: {}", names.join(", ")),
        _ => "remove it".into(),
    }
}

/// The name nearest to `name`, if it is near enough to be a slip: in letter case and separators alone, or in a third of its letters.
pub(super) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let plain = |name: &str| name.replace(['-', '_'], "").to_lowercase();
    if name.len() > 256 {
        return None;
    }
    if let Some(same) = names.iter().find(|other| plain(other) == plain(name)) {
        return Some(same);
    }
    names
        .iter()
        .map(|other| {
            (
                strsim::damerau_levenshtein(&plain(name), &plain(other)),
                *other,
            )
        })
        .filter(|(distance, other)| *distance <= (other.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.as_str(), schema))
}

/// The objects of the spec, nearest to its root, that have a field `name`. Kubernetes' own types, which have no descriptions, are left out.
fn elsewhere(name: &str, root: &Value) -> Vec<String> {
    let mut level: Vec<(String, &Value)> = root
        .pointer("/properties/spec")
        .map(|spec| ("spec".to_owned(), spec))
        .into_iter()
        .collect();
    while !level.is_empty() {
        let has = |schema: &Value| {
            properties(schema)
                .any(|(field, schema)| field == name && schema.get("description").is_some())
        };
        let found: Vec<String> = level
            .iter()
            .filter(|(_, schema)| has(schema))
            .map(|(path, _)| path.clone())
            .collect();
        if !found.is_empty() {
            return found;
        }
        level = level
            .iter()
            .flat_map(|(path, schema)| {
                properties(schema).map(move |(field, schema)| (format!("{path}.{field}"), schema))
            })
            .collect();
    }
    Vec::new()
}
