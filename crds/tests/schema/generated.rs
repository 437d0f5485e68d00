//! The definition that is checked in, and what it promises to clusters.

#[path = "../../examples/crdgen/render.rs"]
mod render;

use serde_json::Value;
use trainyard_crds::{TrainingJob, schema};

#[test]
fn checked_in_yaml_is_current() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let crds = schema::crds();
    for crd in &crds {
        let path = folder.join(render::file_name(crd));
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let wanted = render::yaml(crd).expect("a definition is YAML");
        assert!(
            found == wanted,
            "{} is not current: cargo run -p trainyard-crds --example crdgen",
            path.display()
        );
    }
    assert_eq!(
        std::fs::read_dir(folder)
            .expect("crds/yaml is there")
            .count(),
        crds.len()
    );
}

/// `kubectl apply` keeps a copy of the object in an annotation, and annotations have 256 KiB in all.
#[test]
fn definitions_are_small_enough_for_apply() {
    for crd in schema::crds() {
        let size = serde_json::to_vec(&crd)
            .expect("a definition is JSON")
            .len();
        assert!(
            size < 200 * 1024,
            "{} has {size} bytes",
            render::file_name(&crd)
        );
    }
}

/// Calls `visit` on each schema with its path.
fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(
            &schema["additionalProperties"],
            &format!("{path}{{}}"),
            visit,
        );
    }
}

#[test]
fn every_field_of_ours_has_a_description() {
    // Kubernetes' own types, whose descriptions are left out below these fields.
    const FOREIGN: [&str; 11] = [
        "resources",
        "env",
        "envFrom",
        "volumes",
        "volumeMounts",
        "tolerations",
        "affinity",
        "topologySpreadConstraints",
        "imagePullSecrets",
        "securityContext",
        "conditions",
    ];
    let mut bare = Vec::new();
    let mut count = 0;
    walk(
        &schema::open_api::<TrainingJob>(),
        "",
        &mut |path, schema| {
            let mut steps = path.rsplit('.');
            let own = steps.next().is_some_and(|last| !last.contains(['[', '{']))
                && !steps.any(|step| FOREIGN.contains(&step.trim_end_matches("[]")));
            if own {
                count += 1;
                if schema["description"]
                    .as_str()
                    .unwrap_or_default()
                    .is_empty()
                {
                    bare.push(path.to_owned());
                }
            }
        },
    );
    assert!(count > 100, "only {count} fields seen");
    assert!(bare.is_empty(), "without description: {bare:?}");
}

#[test]
fn schema_is_structural_and_plain() {
    walk(
        &schema::open_api::<TrainingJob>(),
        "",
        &mut |path, schema| {
            for keyword in [
                "oneOf",
                "anyOf",
                "allOf",
                "not",
                "$ref",
                "x-kubernetes-preserve-unknown-fields",
            ] {
                assert!(schema.get(keyword).is_none(), "{path} has {keyword}");
            }
            assert!(
                schema["type"].is_string() || schema["x-kubernetes-int-or-string"] == true,
                "{path} has no type: {schema}"
            );
            if schema["type"] == "integer" {
                assert!(
                    matches!(schema["format"].as_str(), Some("int32" | "int64")),
                    "{path}: {schema}"
                );
            }
            if let Some(pattern) = schema["pattern"].as_str() {
                regex::Regex::new(pattern).expect("a pattern compiles");
            }
        },
    );
}

/// The estimated cost of a rule grows with the bounds of what it reads.
#[test]
fn own_strings_and_lists_of_the_spec_are_bounded() {
    let schema = schema::open_api::<TrainingJob>();
    walk(
        &schema["properties"]["spec"],
        "spec",
        &mut |path, schema| {
            if schema["description"].is_string() {
                match schema["type"].as_str() {
                    Some("string") => assert!(
                        schema["maxLength"].is_u64() || schema["enum"].is_array(),
                        "{path} has no maxLength"
                    ),
                    Some("array") => assert!(schema["maxItems"].is_u64(), "{path} has no maxItems"),
                    Some("integer" | "number") => assert!(
                        schema["minimum"].is_number() && schema["maximum"].is_number(),
                        "{path} has no bounds"
                    ),
                    _ => {}
                }
            }
        },
    );
}
