//! The real helm, and the objects that it renders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// Version of Kubernetes that objects are rendered for.
const KUBE_VERSION: &str = "1.34.0";
/// Name and namespace of the release.
pub const RELEASE: &str = "trainyard";
pub const NAMESPACE: &str = "trainyard-system";

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    root().join("charts/trainyard")
}

/// Helm: `$HELM`, the one on the PATH, or the one that the test cluster's tools brought.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let candidates = [
            std::env::var_os("HELM").map(PathBuf::from),
            Some("helm".into()),
            cache.map(|cache| cache.join("trainyard/cluster/bin/helm")),
        ];
        let works = |path: &PathBuf| {
            let version = Command::new(path).arg("version").output();
            version.is_ok_and(|output| output.status.success())
        };
        candidates
            .into_iter()
            .flatten()
            .find(works)
            .expect("helm is missing: `make tools` builds the pinned one, or let HELM name another (version 3)")
    })
}

/// Runs helm.
pub fn helm<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    Command::new(program())
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env("HELM_KUBECONTEXT", "")
        .output()
        .expect("helm runs")
}

/// `helm template` of a chart with changes as `--set-json` takes them; an error is what helm said.
pub fn try_template(chart: &Path, set: &[&str]) -> Result<String, String> {
    let chart = chart.to_str().expect("a path of this repository is text");
    let mut arguments = vec!["template", RELEASE, chart, "--namespace", NAMESPACE];
    arguments.extend(["--kube-version", KUBE_VERSION]);
    for change in set {
        arguments.extend(["--set-json", change]);
    }
    let output = helm(arguments);
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).expect("helm writes text")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The objects that the chart gives with changes to its values.
pub fn render(set: &[&str]) -> Vec<Value> {
    objects(&try_template(&chart(), set).unwrap_or_else(|error| panic!("{set:?}: {error}")))
}

/// The objects that the chart gives with its own values.
pub fn defaults() -> &'static [Value] {
    static OBJECTS: OnceLock<Vec<Value>> = OnceLock::new();
    OBJECTS.get_or_init(|| render(&[]))
}

/// The documents of a YAML stream that are not empty.
pub fn objects(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|document| document.strip_prefix("---\n").unwrap_or(document))
        .map(yaml)
        .filter(|object| !object.is_null())
        .collect()
}

/// A document.
pub fn yaml(text: &str) -> Value {
    if text
        .lines()
        .all(|line| line.is_empty() || line.starts_with('#'))
    {
        return Value::Null;
    }
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("not YAML: {error}\n{text}"))
}

/// The objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

/// The only object of a kind.
pub fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    match of_kind(objects, kind).as_slice() {
        [one] => one,
        found => panic!("{} objects of kind {kind}", found.len()),
    }
}
