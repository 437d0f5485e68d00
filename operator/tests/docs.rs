//! What users read, held against the code: no reason without an entry, no manifest that would be refused, no dead link.

#[path = "../examples/api_reference/render.rs"]
mod render;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trainyard_operator::job::Job;

/// CamelCase words in the operator's code that are not reasons of ours.
const NOT_REASONS: &[&str] = &[
    // Kinds, and words of Kubernetes' API.
    "AlreadyExists",
    "ConfigMap",
    "DisruptionTarget",
    "FallbackToLogsOnError",
    "False",
    "Ingress",
    "NetworkPolicy",
    "Never",
    "OnRootMismatch",
    "Opaque",
    "PersistentVolumeClaim",
    "PodScheduled",
    "RuntimeDefault",
    "Service",
    "TrainingJob",
    "True",
    // Phases of pods, and a job that has none.
    "Failed",
    "None",
    "Succeeded",
    // Why the kubelet ended a pod, or cannot start it.
    "ContainerStatusUnknown",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "NodeAffinity",
    "NodeLost",
    "NodeShutdown",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfpods",
    "Preempted",
    "Preempting",
    "RunContainerError",
    "Shutdown",
    "Terminated",
    "UnexpectedAdmissionError",
    "Unknown",
    // Types of conditions, and actions of events.
    "ArtifactReady",
    "Degraded",
    "Invalid",
    "Running",
];
/// Actions of events.
const ACTIONS: [&str; 5] = ["Create", "Export", "Read", "Replace", "Train"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below a folder with an extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The pages that users of a cluster read.
fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), "md");
    pages.push(root().join("charts/trainyard/README.md"));
    pages.push(root().join("examples/README.md"));
    pages
}

#[test]
fn the_reference_of_the_api_is_current() {
    let path = root().join("docs/api-reference.md");
    assert!(
        read(&path) == render::reference(),
        "{} is not current: make docs",
        path.display()
    );
}

#[test]
fn the_reference_has_every_field_of_ours() {
    let page = render::reference();
    let crd = trainyard_crds::schema::open_api::<trainyard_crds::TrainingJob>();
    let mut missing = Vec::new();
    described(&crd["properties"]["spec"], &mut |name| {
        if !page.contains(&format!("| `{name}` |")) {
            missing.push(name.to_owned());
        }
    });
    assert_eq!(missing, Vec::<String>::new());
}

/// Names of the fields that have a description, that is of all that are not Kubernetes' own.
fn described(schema: &Value, visit: &mut dyn FnMut(&str)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if field["description"].is_string() {
            visit(name);
            described(field, visit);
            described(&field["items"], visit);
        }
    }
}

/// String literals of the operator's code that are one word in CamelCase.
fn words() -> BTreeSet<String> {
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.len() > 3
            && text.contains(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let mut words = BTreeSet::new();
    for file in files(&root().join("operator/src"), "rs") {
        let text = read(&file);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            let literals = line.split('"').skip(1).step_by(2);
            words.extend(literals.filter(|text| word(text)).map(str::to_owned));
        }
    }
    words
}

/// Reasons that troubleshooting has an entry for.
fn entries() -> BTreeSet<String> {
    let page = read(&root().join("docs/troubleshooting.md"));
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    let names = headings.map(|heading| heading.trim_matches('`').to_owned());
    names.collect()
}

#[test]
fn every_reason_has_an_entry_and_every_entry_a_reason() {
    let other: BTreeSet<&str> = NOT_REASONS.iter().copied().chain(ACTIONS).collect();
    let words = words();
    assert!(
        words.contains("BackoffLimitExceeded"),
        "the code was not read"
    );
    let reasons: BTreeSet<String> = words
        .iter()
        .filter(|word| !other.contains(word.as_str()))
        .cloned()
        .collect();
    let entries = entries();
    let without: Vec<_> = reasons.difference(&entries).collect();
    assert!(
        without.is_empty(),
        "docs/troubleshooting.md has no entry for {without:?}"
    );
    let stale: Vec<_> = entries.difference(&reasons).collect();
    assert!(
        stale.is_empty(),
        "no code gives {stale:?}, which docs/troubleshooting.md has"
    );
    let gone: Vec<_> = other
        .iter()
        .filter(|word| !words.contains(**word))
        .collect();
    assert!(
        gone.is_empty(),
        "{gone:?} are not in the code any more: take them off the list here"
    );
}

/// The YAML documents in a page, with where they are.
fn manifests(page: &Path) -> Vec<(String, Value)> {
    let text = read(page);
    let mut found = Vec::new();
    for (number, block) in text.split("```yaml\n").skip(1).enumerate() {
        let block = block.split("```").next().unwrap_or_default();
        for document in block.split("\n---\n") {
            let place = format!("{}, block {}", page.display(), number + 1);
            let value = serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{place}: {e}"));
            found.push((place, value));
        }
    }
    found
}

/// Puts the fields of `change` into `base`.
fn merge(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (name, value) in change {
                let entry = base.entry(name.as_str()).or_insert(Value::Null);
                // A choice is replaced by another, not completed.
                let is_choice = ["storage", "task", "model", "train"].contains(&name.as_str());
                let is_other = |value: &Value| {
                    let mut names = value.as_object().into_iter().flat_map(|value| value.keys());
                    names.any(|name| entry.get(name).is_none())
                };
                match is_choice && is_other(&value) {
                    true => *entry = value,
                    false => merge(entry, value),
                }
            }
        }
        (base, change) => *base = change,
    }
}

fn is_exact<K: Serialize + DeserializeOwned>(place: &str, object: &Value) {
    let typed: K =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{place}: {error}"));
    let again = serde_json::to_value(typed).expect("an object is JSON");
    assert_eq!(
        &again, object,
        "{place} has a field that Kubernetes does not know"
    );
}

/// A whole job, or a part of one that is put into the breast-cancer example.
fn runs_on_a_cluster(place: &str, object: Value) {
    let example = read(&root().join("examples/breast-cancer/job.yaml"));
    let mut job: Value = serde_saphyr::from_str(&example).expect("the example is YAML");
    merge(&mut job, object);
    let text = job.to_string();
    let job =
        trainyard_crds::manifest::read(place, &text).unwrap_or_else(|error| panic!("{error}"));
    if let Err(problems) = Job::new(Arc::new(job)) {
        panic!("{place}: {problems:?}");
    }
}

#[test]
fn manifests_in_the_docs_are_valid() {
    let mut jobs = 0;
    for page in pages() {
        for (place, object) in manifests(&page) {
            match object["kind"].as_str() {
                Some("PersistentVolumeClaim") => is_exact::<PersistentVolumeClaim>(&place, &object),
                Some("Pod") => is_exact::<Pod>(&place, &object),
                Some("NetworkPolicy") => is_exact::<NetworkPolicy>(&place, &object),
                Some("ClusterRole") => is_exact::<ClusterRole>(&place, &object),
                Some("TrainingJob") | None => {
                    runs_on_a_cluster(&place, object);
                    jobs += 1;
                }
                Some(other) => panic!("{place}: nothing here judges a {other}"),
            }
        }
    }
    assert!(jobs > 0, "no part of a job was found");
}

/// Under which a heading can be linked to.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c => (c.is_alphanumeric() || c == '-').then(|| c.to_ascii_lowercase()),
    };
    heading.trim().chars().filter_map(kept).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for page in pages() {
        // What stands in code is no link.
        let text: String = read(&page).split('`').step_by(2).collect();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().expect("a page lies in a folder").join(file),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !fragment.is_empty() {
                let found = read(&target)
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line.trim_start_matches('#')) == fragment);
                assert!(found, "{}: {link}: no such heading", page.display());
            }
        }
    }
    assert!(count > 20, "only {count} links seen");
}
