//! What a misspelt name was meant to be.

use serde_json::Value;

/// Most valid names that are listed where none is near.
const MAX_LISTED: usize = 12;

/// The remedy for the unknown field `name` of an object with `schema`, where `root` is the schema of the whole document.
pub(super) fn for_field(name: &str, schema: &Value, root: &Value) -> String {
    let mut names: Vec<&str> = properties(schema).map(|(name, _)| name).collect();
    names.sort_unstable();
    if let Some(near) = nearest(name, &names) {
        return format!("did you mean `{near}`?");
    }
    if let Some(place) = elsewhere(name, root) {
        return format!("`{name}` belongs to {place}");
    }
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
        .map(|other| (strsim::damerau_levenshtein(&plain(name), &plain(other)), *other))
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

/// The object of the spec, nearest to its root, that has a field `name`. Kubernetes' own types, which have no descriptions, are left out.
fn elsewhere(name: &str, root: &Value) -> Option<String> {
    let mut level = vec![("spec".to_owned(), root.pointer("/properties/spec")?)];
    while !level.is_empty() {
        if let Some((path, _)) = level.iter().find(|(_, schema)| {
            schema
                .get("properties")
                .and_then(|p| p.get(name))
                .is_some_and(|field| field.get("description").is_some())
        }) {
            return Some(path.clone());
        }
        level = level
            .iter()
            .flat_map(|(path, schema)| {
                properties(schema).map(move |(field, schema)| (format!("{path}.{field}"), schema))
            })
            .collect();
    }
    None
}
