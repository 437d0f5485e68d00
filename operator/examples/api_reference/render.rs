//! The definition of TrainingJob as a page of Markdown: a section for each object, a row for each field.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Fields that are Kubernetes' own types; its documentation describes what is below them.
const FOREIGN: [(&str, &str); 11] = [
    ("affinity", "Affinity"),
    ("conditions", "[]Condition"),
    ("env", "[]EnvVar"),
    ("envFrom", "[]EnvFromSource"),
    ("imagePullSecrets", "[]LocalObjectReference"),
    ("resources", "ResourceRequirements"),
    ("securityContext", "PodSecurityContext"),
    ("tolerations", "[]Toleration"),
    ("topologySpreadConstraints", "[]TopologySpreadConstraint"),
    ("volumeMounts", "[]VolumeMount"),
    ("volumes", "[]Volume"),
];
/// Heading of the fields that both roles have.
const ROLES: [&str; 2] = ["servers", "workers"];
const POD_SETTINGS: &str = "Settings of pods";
/// How messages of rules end that forbid a change.
const IMMUTABLE: &str = " cannot change while the job exists; create another job";

/// The page.
pub fn reference() -> String {
    let crd = trainyard_crds::schema::crds().into_iter().next();
    let crd = serde_json::to_value(crd).unwrap_or_default();
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut page = Page::default();
    page.head(&crd, version);
    page.line("\n## TrainingJob\n");
    page.line(text(&schema["description"]));
    page.rules(schema);
    page.object("spec", &schema["properties"]["spec"]);
    page.object("status", &schema["properties"]["status"]);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn head(&mut self, crd: &Value, version: &Value) {
        self.line("# API reference\n");
        self.line("Generated from the types in `crds/src` by `make docs`; `kubectl explain trainingjob.spec --recursive` shows the same.\n");
        let spec = &crd["spec"];
        let mut row = |name: &str, value: String| {
            let _ = writeln!(self.text, "| {name} | {value} |");
        };
        row("", String::new());
        row("---", "---".into());
        let (group, name) = (text(&spec["group"]), text(&version["name"]));
        row("apiVersion", format!("`{group}/{name}`"));
        row("kind", code(&spec["names"]["kind"]));
        row("Scope", text(&spec["scope"]).into());
        row("Short name", code(&spec["names"]["shortNames"][0]));
        let columns: Vec<&str> = list(&version["additionalPrinterColumns"])
            .map(|column| text(&column["name"]))
            .collect();
        row("Columns of `kubectl get`", columns.join(", "));
        let scale = code(&version["subresources"]["scale"]["specReplicasPath"]);
        row("`kubectl scale` and autoscalers set", scale);
    }

    /// A section for an object, then those for the objects in it.
    fn object(&mut self, path: &str, schema: &Value) {
        let _ = writeln!(self.text, "\n### {path}\n");
        self.line(text(&schema["description"]));
        let Some(fields) = schema["properties"].as_object() else {
            return;
        };
        let shared = match path {
            "spec" => shared(fields),
            _ => Map::new(),
        };
        self.fields(path, fields, schema);
        self.rules(schema);
        for (name, field) in fields {
            let mut object = inner(field).clone();
            if !shared.is_empty() && ROLES.contains(&name.as_str()) {
                if let Some(fields) = object["properties"].as_object_mut() {
                    fields.retain(|name, _| !shared.contains_key(name));
                }
                let settings = format!(
                    "Besides these fields, [those of pods](#{}).",
                    anchor(POD_SETTINGS)
                );
                object["description"] =
                    format!("{}\n\n{settings}", text(&field["description"])).into();
            }
            if has_section(name, &object) {
                self.object(&section(path, name, field), &object);
            }
        }
        if !shared.is_empty() {
            let _ = writeln!(self.text, "\n### {POD_SETTINGS}\n");
            self.line("Fields of `spec.servers` and of `spec.workers`, under the names of Kubernetes' `PodSpec` and `Container`. A local run uses `env` (values written out) alone.\n");
            self.fields(POD_SETTINGS, &shared, &Value::Null);
        }
    }

    /// `path` is where the sections of the fields are.
    fn fields(&mut self, path: &str, fields: &Map<String, Value>, parent: &Value) {
        self.line("\n| Field | Type | Default | Values | |\n| --- | --- | --- | --- | --- |");
        let required: Vec<&str> = list(&parent["required"]).map(text).collect();
        for (name, field) in fields {
            let default = match field.get("default") {
                _ if required.contains(&name.as_str()) => "required".into(),
                // The defaults of the fields in it.
                Some(default) if default.as_object().is_some_and(|map| !map.is_empty()) => {
                    "see there".into()
                }
                Some(default) => format!("`{}`", number(default)),
                None => String::new(),
            };
            let mut kind = kind(name, field);
            if has_section(name, inner(field)) {
                kind = format!("[{kind}](#{})", anchor(&section(path, name, field)));
            }
            let cells = [
                kind,
                default,
                constraints(field).join("<br>"),
                lines(text(&field["description"])),
            ]
            .map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(self.text, "| `{name}` | {} |", cells.join(" | "));
        }
    }

    /// What the API server checks across fields: CEL.
    fn rules(&mut self, schema: &Value) {
        let rules: Vec<&Value> = list(&schema["x-kubernetes-validations"]).collect();
        let fixed: Vec<String> = rules
            .iter()
            .filter_map(|rule| text(&rule["message"]).strip_suffix(IMMUTABLE))
            .map(|field| format!("`{field}`"))
            .collect();
        if !fixed.is_empty() {
            let _ = writeln!(
                self.text,
                "\nFixed while the job exists: {}.",
                fixed.join(", ")
            );
        }
        let others: Vec<&&Value> = rules
            .iter()
            .filter(|rule| !text(&rule["message"]).ends_with(IMMUTABLE))
            .collect();
        if !others.is_empty() {
            self.line("\nRules (CEL):");
        }
        for rule in others {
            let _ = writeln!(
                self.text,
                "- {}: `{}`",
                text(&rule["message"]),
                text(&rule["rule"])
            );
        }
    }
}

/// Fields that both roles have, and that are the same in both.
fn shared(spec: &Map<String, Value>) -> Map<String, Value> {
    let [servers, workers] = ROLES.map(|role| spec.get(role).map(|schema| &schema["properties"]));
    let (Some(servers), Some(workers)) = (servers.and_then(Value::as_object), workers) else {
        return Map::new();
    };
    let same = |(name, field): &(&String, &Value)| workers.get(name.as_str()) == Some(field);
    let owned = |(name, field): (&String, &Value)| (name.clone(), field.clone());
    servers.iter().filter(same).map(owned).collect()
}

/// The schema of what a list or map holds, or the schema itself.
fn inner(field: &Value) -> &Value {
    match (&field["items"], &field["additionalProperties"]) {
        (items @ Value::Object(_), _) => items,
        (_, values @ Value::Object(_)) => values,
        _ => field,
    }
}

fn has_section(name: &str, object: &Value) -> bool {
    let fields = object["properties"].as_object();
    fields.is_some_and(|fields| !fields.is_empty()) && foreign(name).is_none()
}

fn foreign(name: &str) -> Option<&'static str> {
    FOREIGN
        .iter()
        .find(|(field, _)| *field == name)
        .map(|(_, kind)| *kind)
}

fn kind(name: &str, field: &Value) -> String {
    if let Some(kind) = foreign(name) {
        return format!("Kubernetes' `{kind}`");
    }
    format!("`{}`", plain_kind(field))
}

fn plain_kind(field: &Value) -> String {
    let inside = plain_kind_of_inner(field);
    match (text(&field["type"]), text(&field["format"])) {
        ("array", _) => format!("[]{inside}"),
        ("object", _) if field["additionalProperties"].is_object() => {
            format!("map[string]{inside}")
        }
        ("string", "date-time") => "time".into(),
        (kind, _) => kind.into(),
    }
}

fn plain_kind_of_inner(field: &Value) -> String {
    match inner(field) {
        same if std::ptr::eq(same, field) => String::new(),
        other => plain_kind(other),
    }
}

/// What a value must satisfy, in words.
fn constraints(field: &Value) -> Vec<String> {
    let mut said = bounds(field);
    let held = inner(field);
    if !std::ptr::eq(held, field) {
        let each = bounds(held);
        said.extend(each.iter().map(|bound| format!("each: {bound}")));
    }
    // Rules of an object stand in its own section.
    if field["properties"].is_null() {
        for rule in list(&field["x-kubernetes-validations"]) {
            said.push(format!(
                "{} (CEL: `{}`)",
                text(&rule["message"]),
                text(&rule["rule"])
            ));
        }
    }
    said
}

fn bounds(field: &Value) -> Vec<String> {
    let mut said = Vec::new();
    let values: Vec<String> = list(&field["enum"]).map(code).collect();
    if !values.is_empty() {
        said.push(format!("one of {}", values.join(", ")));
    }
    let bound = |name: &str, exclusive: &str| {
        let bound = field.get(name).map(number)?;
        Some((bound, field[exclusive] == true))
    };
    match (
        bound("minimum", "exclusiveMinimum"),
        bound("maximum", "exclusiveMaximum"),
    ) {
        (Some((min, false)), Some((max, false))) => said.push(format!("{min} to {max}")),
        (min, max) => {
            said.extend(min.map(|(min, open)| {
                format!("{} {min}", if open { "more than" } else { "at least" })
            }));
            said.extend(max.map(|(max, open)| {
                format!("{} {max}", if open { "less than" } else { "at most" })
            }));
        }
    }
    for (least, most, unit) in [
        ("minLength", "maxLength", "characters"),
        ("minItems", "maxItems", "items"),
        ("minProperties", "maxProperties", "entries"),
    ] {
        match (field.get(least).map(number), field.get(most).map(number)) {
            (None, None) => {}
            (None, Some(most)) => said.push(format!("at most {most} {unit}")),
            (Some(least), None) => said.push(format!("at least {least} {unit}")),
            (Some(least), Some(most)) if least == most => said.push(format!("{least} {unit}")),
            (Some(least), Some(most)) => said.push(format!("{least} to {most} {unit}")),
        }
    }
    if let Some(pattern) = field["pattern"].as_str() {
        said.push(format!("matches `{pattern}`"));
    }
    match text(&field["x-kubernetes-list-type"]) {
        "set" => said.push("no item twice".into()),
        "map" => {
            let keys: Vec<String> = list(&field["x-kubernetes-list-map-keys"])
                .map(code)
                .collect();
            said.push(format!("one item for each {}", keys.join(", ")));
        }
        _ => {}
    }
    said
}

/// A number without the `.0` that bounds have in the types; any other value as JSON.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 9.1e15 => format!("{float:.0}"),
        _ => value.to_string(),
    }
}

/// Heading of a field's section.
fn section(path: &str, name: &str, field: &Value) -> String {
    let each = match field["type"] == "array" {
        true => "[]",
        false => "",
    };
    format!("{path}.{name}{each}")
}

/// Under which a heading can be linked to.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c => (c.is_ascii_alphanumeric() || c == '-').then(|| c.to_ascii_lowercase()),
    };
    heading.chars().filter_map(kept).collect()
}

/// A text in a row of a table.
fn lines(text: &str) -> String {
    text.replace("\n\n", "<br>").replace('\n', "<br>")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn code(value: &Value) -> String {
    format!("`{}`", text(value))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
