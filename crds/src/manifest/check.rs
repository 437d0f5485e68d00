//! Walks a manifest along the structural schema: unknown and duplicate fields, types, bounds; drops nulls and fills in defaults.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::error::{Place, Report};
use super::node::{Entry, Kind, Node};
use super::{limits, suggest, value};

/// The document as JSON, with defaults, or `None` if errors leave nothing of it. Errors go to `report`.
pub(super) fn check(schema: &Value, root: &Node, report: &mut Report) -> Option<Value> {
    let mut walker = Walker {
        root: schema,
        report,
    };
    walker.node(
        schema,
        root,
        &At {
            path: String::new(),
            place: root.place,
        },
    )
}

/// The field that is looked at: its path, and the place of its name.
struct At {
    path: String,
    place: Place,
}

impl At {
    fn field(&self, name: &str, place: Place) -> At {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        At { path, place }
    }

    fn item(&self, index: usize, place: Place) -> At {
        At {
            path: format!("{}[{index}]", self.path),
            place,
        }
    }
}

struct Walker<'r, 's, 'a> {
    root: &'s Value,
    report: &'r mut Report<'a>,
}

impl Walker<'_, '_, '_> {
    /// One value. `None` if it is wrong or to be left out.
    fn node(&mut self, schema: &Value, node: &Node, at: &At) -> Option<Value> {
        if flag(schema, "x-drop") {
            return None;
        }
        if matches!(node.kind, Kind::Null) && flag(schema, "nullable") {
            return Some(Value::Null);
        }
        if flag(schema, "x-kubernetes-int-or-string") {
            return self.int_or_string(schema, node, at);
        }
        match (schema.get("type").and_then(Value::as_str), &node.kind) {
            (None, _) => Some(value::to_json(node)),
            (Some("object"), Kind::Map(entries)) => self.object(schema, entries, at),
            (Some("array"), Kind::List(items)) => self.array(schema, items, at),
            (Some("string"), Kind::String(text)) => {
                self.bounded(schema, text.as_str().into(), node, at)
            }
            (Some("boolean"), Kind::Bool(value, _)) => Some((*value).into()),
            (Some("integer"), Kind::Integer(number)) => {
                self.bounded(schema, (*number).into(), node, at)
            }
            (Some("number"), Kind::Integer(number)) => {
                self.bounded(schema, (*number as f64).into(), node, at)
            }
            (Some("number"), Kind::Float(number)) if number.is_finite() => {
                self.bounded(schema, (*number).into(), node, at)
            }
            (Some(wanted), found) => {
                let (what, remedy) = wrong_type(schema, wanted, found);
                self.report.add(node.place, &at.path, what, remedy);
                None
            }
        }
    }

    fn int_or_string(&mut self, schema: &Value, node: &Node, at: &At) -> Option<Value> {
        match &node.kind {
            Kind::Integer(number) => Some((*number).into()),
            Kind::String(text) => self.bounded(schema, text.as_str().into(), node, at),
            found => {
                let what = format!(
                    "expected a whole number or a string, found {}",
                    value::describe(found)
                );
                self.report
                    .add(node.place, &at.path, what, "quote the value");
                None
            }
        }
    }

    /// A value of the right type, if it is within the bounds of its schema.
    fn bounded(&mut self, schema: &Value, value: Value, node: &Node, at: &At) -> Option<Value> {
        match limits::broken(schema, &value) {
            None => Some(value),
            Some((what, remedy)) => {
                self.report.add(node.place, &at.path, what, remedy);
                None
            }
        }
    }

    fn object(&mut self, schema: &Value, entries: &[Entry], at: &At) -> Option<Value> {
        self.count(schema, "Properties", "fields", entries.len(), at)?;
        let none = Map::new();
        let properties = schema
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&none);
        let additional = schema
            .get("additionalProperties")
            .filter(|schema| schema.is_object());
        let mut object = Map::new();
        let mut seen = BTreeSet::new();
        let mut meant = Vec::new();
        for entry in entries {
            let here = at.field(&entry.name, entry.place);
            if !seen.insert(entry.name.as_str()) {
                self.report.add_surplus(
                    entry.place,
                    &here.path,
                    "this field is there twice".into(),
                    "remove one of them",
                );
                continue;
            }
            match properties.get(&entry.name).or(additional) {
                Some(schema)
                    if matches!(entry.node.kind, Kind::Null) && !flag(schema, "nullable") => {}
                Some(schema) => {
                    if let Some(value) = self.node(schema, &entry.node, &here) {
                        object.insert(entry.name.clone(), value);
                    }
                }
                None if flag(schema, "x-kubernetes-preserve-unknown-fields") => {
                    object.insert(entry.name.clone(), value::to_json(&entry.node));
                }
                None => meant.extend(self.unknown(schema, entry, &here)),
            }
        }
        self.required(schema, entries, &meant, at);
        let mut object = Value::Object(object);
        fill_defaults(schema, &mut object);
        Some(object)
    }

    /// Whether a list or a map may have as many parts as it has. If not, they are not looked at one by one:
    /// there may be very many, and what is wrong has been said.
    fn count(
        &mut self,
        schema: &Value,
        keyword: &str,
        noun: &str,
        count: usize,
        at: &At,
    ) -> Option<()> {
        match limits::broken_count(schema, keyword, noun, count) {
            None => Some(()),
            Some((what, remedy)) => {
                self.report.add(at.place, &at.path, what, remedy);
                None
            }
        }
    }

    /// Reports an unknown field and returns the name that was probably meant.
    fn unknown<'n>(&mut self, schema: &'n Value, entry: &Entry, at: &At) -> Option<&'n str> {
        if self.report.is_full() {
            // Nobody would see what was probably meant, and to find it takes a while for each.
            self.report
                .add_surplus(entry.place, &at.path, String::new(), "");
            return None;
        }
        let meant = suggest::meant(&entry.name, schema);
        let remedy = match meant {
            Some(near) => format!("did you mean `{near}`?"),
            None if entry.name.contains(':') => "put a space after the colon".into(),
            None => suggest::instead(&entry.name, schema, self.root),
        };
        self.report
            .add_surplus(entry.place, &at.path, "unknown field".into(), remedy);
        meant
    }

    /// Reports required fields that are not there. One that was only misspelt (`meant`) has been reported already.
    fn required(&mut self, schema: &Value, entries: &[Entry], meant: &[&str], at: &At) {
        let names = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        for name in names.filter_map(Value::as_str) {
            let found = entries.iter().find(|entry| entry.name == name);
            match found {
                Some(Entry {
                    node: Node {
                        kind: Kind::Null, ..
                    },
                    place,
                    ..
                }) => {
                    let path = at.field(name, *place).path;
                    self.report.add(
                        *place,
                        &path,
                        "required field has no value".into(),
                        hint(schema, name),
                    );
                }
                None if meant.contains(&name) => self.report.leave_rules(),
                None => {
                    let path = at.field(name, at.place).path;
                    self.report.add(
                        at.place,
                        &path,
                        "required field is missing".into(),
                        hint(schema, name),
                    );
                }
                Some(_) => {}
            }
        }
    }

    fn array(&mut self, schema: &Value, items: &[Node], at: &At) -> Option<Value> {
        self.count(schema, "Items", "elements", items.len(), at)?;
        let none = Value::Null;
        let item_schema = schema.get("items").unwrap_or(&none);
        let mut values = Vec::new();
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let here = at.item(index, item.place);
            let Some(value) = self.node(item_schema, item, &here) else {
                continue;
            };
            if limits::identity(schema, &value).is_some_and(|identity| !seen.insert(identity)) {
                self.report.add(
                    item.place,
                    &here.path,
                    "this element is there twice".into(),
                    "remove one of them",
                );
            }
            values.push(value);
        }
        Some(Value::Array(values))
    }
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

/// Adds the defaults of fields that are absent, also within what is there.
fn fill_defaults(schema: &Value, value: &mut Value) {
    let (Some(properties), Some(object)) = (
        schema.get("properties").and_then(Value::as_object),
        value.as_object_mut(),
    ) else {
        return;
    };
    for (name, schema) in properties {
        if object.contains_key(name) {
            continue;
        }
        if let Some(default) = schema.get("default") {
            let mut default = default.clone();
            fill_defaults(schema, &mut default);
            object.insert(name.clone(), default);
        }
    }
}

/// What a missing field is for, or which alternatives it has.
fn hint(schema: &Value, name: &str) -> String {
    let field = schema
        .get("properties")
        .and_then(|properties| properties.get(name));
    let description = field
        .and_then(|field| field.get("description"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let paragraph = description.lines().next().unwrap_or_default();
    let sentence = paragraph.split(". ").next().unwrap_or_default();
    match sentence.trim_end_matches('.') {
        "" => format!("add `{name}`"),
        sentence => format!("add it ({})", lower_first(sentence)),
    }
}

/// As within a sentence; acronyms stay as they are.
fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next();
    match (first, characters.clone().next()) {
        (Some(_), Some(second)) if second.is_uppercase() => text.to_owned(),
        (Some(first), _) => first.to_lowercase().chain(characters).collect(),
        (None, _) => String::new(),
    }
}

fn wrong_type(schema: &Value, wanted: &str, found: &Kind) -> (String, String) {
    let name = match wanted {
        "object" => "a map",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    };
    let remedy = match (wanted, found) {
        ("string", Kind::Bool(..) | Kind::Integer(_) | Kind::Float(_)) => {
            "quote the value".to_owned()
        }
        ("boolean" | "integer" | "number", Kind::String(text))
            if is_quoted_scalar(wanted, text) =>
        {
            "remove the quotes".to_owned()
        }
        ("object", Kind::String(text))
            if schema.pointer(&format!("/properties/{text}")).is_some() =>
        {
            format!("write `{text}: {{}}`, with its settings in the braces")
        }
        ("array", Kind::String(_) | Kind::Integer(_) | Kind::Float(_)) => {
            "put it in brackets".to_owned()
        }
        _ => String::new(),
    };
    (
        format!("expected {name}, found {}", value::describe(found)),
        remedy,
    )
}

fn is_quoted_scalar(wanted: &str, text: &str) -> bool {
    match wanted {
        "boolean" => matches!(text, "true" | "false"),
        "integer" => text.parse::<i64>().is_ok(),
        _ => text.parse::<f64>().is_ok_and(f64::is_finite),
    }
}
