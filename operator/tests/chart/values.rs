//! The chart's values: the schema, the defaults and the README name the same ones.

use serde_json::Value;

use crate::helm::{chart, try_template, yaml};

fn read(name: &str) -> String {
    std::fs::read_to_string(chart().join(name)).expect(name)
}

#[test]
fn o30_the_schema_refuses_wrong_values_and_names_them() {
    // A change, and what the answer must name.
    let wrong = [
        ("replica=2", "replica"),
        ("replicas=-1", "replicas"),
        (r#"replicas="two""#, "replicas"),
        (r#"image.pullPolicy="Sometimes""#, "pullPolicy"),
        (r#"image.repository="""#, "repository"),
        (r#"image.name="x""#, "name"),
        (r#"image.tag="a b""#, "tag"),
        (r#"image.digest="1234""#, "digest"),
        (r#"trainerImage="x""#, "trainerImage"),
        (r#"trainerImage.pullPolicy="Always""#, "pullPolicy"),
        ("crds.instal=true", "instal"),
        (r#"crds.install="yes""#, "install"),
        (r#"watchNamespace="Not_A_Name""#, "watchNamespace"),
        (r#"watchNamespace=["a","b"]"#, "watchNamespace"),
        (r#"log.format="xml""#, "format"),
        (r#"metrics.serviceMonitor.interval="often""#, "interval"),
        ("serviceMonitor.enabled=true", "serviceMonitor"),
        (r#"imagePullSecrets=["registry"]"#, "imagePullSecrets"),
        (
            r#"networkPolicy.ingressFrom=[{"podSelektor":{}}]"#,
            "podSelektor",
        ),
        (r#"env=[{"value":"x"}]"#, "env"),
        (r#"resources.limit={"memory":"1Gi"}"#, "limit"),
        (r#"tolerations={"key":"x"}"#, "tolerations"),
        (r#"podLabels={"x":1}"#, "podLabels"),
        (
            "terminationGracePeriodSeconds=0",
            "terminationGracePeriodSeconds",
        ),
    ];
    std::thread::scope(|scope| {
        let cases = wrong.map(|(change, name)| {
            let answer = scope.spawn(move || try_template(&chart(), &[change]));
            (change, name, answer)
        });
        for (change, name, answer) in cases {
            match answer.join().expect("helm was asked") {
                Ok(_) => panic!("{change} is taken"),
                Err(error) => assert!(error.contains(name), "{change}: {error}"),
            }
        }
    });
}

/// Paths of the values that have no values below them; an empty map is a value of its own.
fn leaves(values: &Value, path: &str, found: &mut Vec<String>) {
    match values.as_object() {
        Some(map) if !map.is_empty() && !WHOLE.contains(&path) => {
            for (name, child) in map {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(child, &format!("{path}{dot}{name}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// Values that go into an object as they are.
const WHOLE: [&str; 3] = ["resources", "podSecurityContext", "securityContext"];

#[test]
fn every_value_is_in_the_readme_and_no_other() {
    let mut found = Vec::new();
    leaves(&yaml(&read("values.yaml")), "", &mut found);
    let readme = read("README.md");
    let (_, table) = readme
        .split_once("| Value | Default | |")
        .expect("the table");
    let named: Vec<String> = table
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    found.sort();
    let mut sorted = named.clone();
    sorted.sort();
    assert_eq!(sorted, found);
}

#[test]
fn every_value_is_in_the_schema_and_the_schema_is_strict() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    let values = yaml(&read("values.yaml"));
    strict(&schema, &schema, &values, "");
}

fn strict(root: &Value, schema: &Value, values: &Value, path: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{path}: no {reference}")),
        None => schema,
    };
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    assert_eq!(schema["additionalProperties"], false, "{path}");
    let values = values
        .as_object()
        .unwrap_or_else(|| panic!("{path} has no defaults"));
    for name in values.keys() {
        assert!(
            properties.contains_key(name),
            "{path}.{name} is not in the schema"
        );
    }
    for (name, schema) in properties {
        // Helm gives every chart the parent's global values.
        let optional = name == "global" || path == ".resources";
        match values.get(name) {
            Some(value) => strict(root, schema, value, &format!("{path}.{name}")),
            None => assert!(optional, "{path}.{name} has no default in values.yaml"),
        }
    }
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = yaml(&read("Chart.yaml"));
    for field in ["version", "appVersion"] {
        assert_eq!(
            chart[field],
            env!("CARGO_PKG_VERSION"),
            "{field} in Chart.yaml"
        );
    }
}
