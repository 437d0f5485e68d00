//! Jobs that train: the cluster computes what this machine computes.

use anyhow::Result;
use serde_json::{Value, json};
use trainyard_tests::cluster::{self, Namespace};

/// Names of two nodes that take ordinary pods; the same one twice if there is one.
fn two_nodes() -> Result<[String; 2]> {
    let nodes = cluster::kubectl(&["get", "nodes", "-o", "json"])?;
    let nodes: Value = serde_json::from_str(&nodes)?;
    let open = |node: &&Value| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty);
    let mut names = nodes["items"].as_array().into_iter().flatten().filter(open);
    let name = |node: &Value| {
        node["metadata"]["labels"]["kubernetes.io/hostname"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let first = names.next().map(name).unwrap_or_default();
    let second = names.next().map_or_else(|| first.clone(), name);
    Ok([first, second])
}

/// Servers on one node, workers on another.
pub fn across_two_nodes(job: &mut Value) -> Result<()> {
    let [servers, workers] = two_nodes()?;
    job["spec"]["servers"]["nodeSelector"] = json!({"kubernetes.io/hostname": servers});
    job["spec"]["workers"]["nodeSelector"] = json!({"kubernetes.io/hostname": workers});
    Ok(())
}

fn same_bits(test: &str, manifest: &str, settings: &[&str], workers: &[u32]) -> Result<()> {
    cluster::operator()?;
    let local = cluster::run_locally(manifest, settings)?;
    let namespace = Namespace::new(test)?;
    let job = cluster::example(manifest)?;
    let mut names = Vec::new();
    for count in workers {
        let mut job = job.clone();
        let name = format!(
            "{}-{count}",
            job["metadata"]["name"].as_str().unwrap_or_default()
        );
        job["metadata"] = json!({"name": name});
        job["spec"]["workers"]["replicas"] = json!(count);
        for setting in settings {
            let (path, value) = setting.split_once('=').unwrap_or_default();
            let pointer = format!("/{}", path.replace('.', "/"));
            if let Some(field) = job.pointer_mut(&pointer) {
                *field = serde_json::from_str(value)?;
            }
        }
        across_two_nodes(&mut job)?;
        namespace.submit(&job)?;
        names.push(name);
    }
    for name in names {
        let status = namespace.wait_for_phase(&name, &["Succeeded", "Failed"])?;
        assert_eq!(
            status["phase"],
            "Succeeded",
            "{}",
            namespace.describe(&name)
        );
        assert_eq!(status["modelSha256"], local["modelSha256"], "{name}");
        assert_eq!(status["progress"]["step"], local["steps"], "{name}");
        assert_eq!(
            status["restarts"]["failures"],
            0,
            "{}",
            namespace.describe(&name)
        );
    }
    Ok(())
}

#[test]
fn breast_cancer_gives_the_local_bits_with_1_and_3_workers_across_two_nodes() -> Result<()> {
    same_bits("breast-cancer", "breast-cancer/job.yaml", &[], &[1, 3])
}

#[test]
fn digits_gives_the_local_bits_with_1_and_3_workers_across_two_nodes() -> Result<()> {
    same_bits("digits", "digits/mlp.yaml", &[], &[1, 3])
}
