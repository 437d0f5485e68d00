//! What a run leaves behind: its log, its shards, its artifact and its job file.

use std::fs;
use std::path::Path;

use serde_json::Value;
use trainyard_fuzz::archive::pack;

use super::{Out, Result};

/// Name and bytes of a file.
type File = (String, Vec<u8>);

/// The files of a folder and those below it, by name.
fn files(root: &Path, below: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| "no UTF-8")?;
        let name = format!("{below}/{name}");
        match entry.file_type()?.is_dir() {
            true => files.extend(self::files(root, &name)?),
            false => files.push((name, fs::read(entry.path())?)),
        }
    }
    files.sort();
    Ok(files)
}

fn packed<'a>(files: impl IntoIterator<Item = &'a File>) -> Vec<u8> {
    pack(
        files
            .into_iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
    )
}

/// An entry of the log without its envelope.
fn bare(entry: &[u8]) -> Option<&[u8]> {
    let at = b"\"entry\":";
    let start = entry.windows(at.len()).position(|window| window == at)? + at.len();
    entry.get(start..entry.len() - 1)
}

pub fn seeds(run: &Path, out: &Out) -> Result<()> {
    let log = files(run, "log")?;
    let shards = files(run, "checkpoints")?;
    for (number, (_, shard)) in shards.iter().enumerate() {
        out.put("shard", &format!("adam-{number}"), shard)?;
    }
    let bare: Vec<File> = log
        .iter()
        .filter_map(|(name, bytes)| Some((name.clone(), bare(bytes)?.to_vec())))
        .collect();
    out.put("log", "sealed", packed(log.iter().chain(&shards)))?;
    out.put("log", "whole", packed(bare.iter().chain(&shards)))?;
    // The claim and the newest commit: the first that is complete.
    let short = bare
        .iter()
        .take(1)
        .chain(bare.iter().skip(5))
        .chain(shards.iter().skip(2));
    out.put("log", "short", packed(short))?;
    out.put("log", "claim", packed(bare.iter().take(1)))?;
    history(&bare, out)?;
    artifact(run, out)?;
    job(run, out)
}

/// A history of what the log has cleaned, as a compaction makes it.
fn history(bare: &[File], out: &Out) -> Result<()> {
    let entries: Vec<Value> = bare
        .iter()
        .map(|(_, bytes)| serde_json::from_slice(bytes))
        .collect::<std::result::Result<_, _>>()?;
    let identity = entries.first().ok_or("the log is empty")?["identity"].clone();
    let cleaned = entries
        .iter()
        .filter_map(|entry| entry["record"].get("cleaned"));
    let points: Vec<Value> = cleaned.cloned().collect();
    let history = serde_json::json!({"identity": identity, "points": points}).to_string();
    let name = "log/history-000000000004.json".to_owned();
    let files: Vec<File> = bare
        .iter()
        .filter(|(name, _)| !name.ends_with("1.json") && !name.ends_with("3.json"))
        .cloned()
        .chain([(name, history.into_bytes())])
        .collect();
    out.put("log", "with-a-history", packed(&files))
}

fn artifact(run: &Path, out: &Out) -> Result<()> {
    let files: Vec<File> = files(&run.join("artifact"), ".")?
        .into_iter()
        .map(|(name, bytes)| (name.trim_start_matches("./").to_owned(), bytes))
        .collect();
    // What libtorch reads is none of ours: its digest alone is looked at.
    let ours = || files.iter().filter(|(name, _)| name != "model.pt");
    out.put("artifact", "whole", packed(ours()))?;
    for (name, bytes) in ours() {
        let target = match name.ends_with(".safetensors") {
            true => "tensors",
            false => "artifact",
        };
        let seed = match target {
            "tensors" => bytes.clone(),
            _ => packed([&(name.clone(), bytes.clone())]),
        };
        out.put(target, &name.replace('.', "-"), seed)?;
    }
    let model = files.iter().filter(|(name, _)| name.starts_with("model."));
    out.put(
        "artifact",
        "model",
        packed(model.filter(|(name, _)| name != "model.pt")),
    )
}

/// The job file, as a process and as the operator read it.
fn job(run: &Path, out: &Out) -> Result<()> {
    let text = fs::read_to_string(run.join("job.json"))?;
    out.put("job", "of-a-run", &text)?;
    let mut object: Value = serde_json::from_str(&text)?;
    object["metadata"] = serde_json::json!({
        "name": "toy", "namespace": "team", "uid": "0000-1", "generation": 1, "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    object["spec"]["checkpoint"]["storage"] =
        serde_json::json!({"volume": {"persistentVolumeClaim": {"claimName": "runs"}}});
    object["spec"]["data"]["volume"] = serde_json::json!({"configMap": {"name": "toy"}});
    object["status"] = serde_json::json!({"phase": "Running", "contract": 3, "defaults": 2, "generation": 1, "startedGeneration": 1,
        "startTime": "2026-01-01T00:00:01Z", "progress": {"step": 1, "totalSteps": 6}, "warnings": ["one"]});
    out.put("job", "of-a-cluster", object.to_string())
}
