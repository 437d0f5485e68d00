//! Reading an artifact's files and checking them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use trainyard_checkpoint::zeros;
use trainyard_core::layout::{Layout, Placed};
use trainyard_core::metrics::TaskKind;
use trainyard_files::open_regular;

use super::files::{self, FileRecord, MetricsFile, ModelFile, ParameterShape, Provenance};
use super::tensors::Reader;
use super::{METRICS, MODEL, PARAMETERS, PROVENANCE, files_of, identity};
use crate::arch::Architecture;
use crate::exit::BadInput;

/// Largest JSON file read, in bytes: a schema of a million columns has less.
pub const JSON_LIMIT: u64 = 1 << 28;

/// Largest `provenance.json` read, in bytes. It holds a job, whose file may have a megabyte, and takes several
/// times its size of memory.
pub const PROVENANCE_LIMIT: u64 = 16 << 20;

/// A model's description and parameters, read and checked.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// What `model.json` says.
    pub model: ModelFile,
    /// Its layers.
    pub architecture: Architecture,
    /// Where the parameters lie in `parameters`.
    pub layout: Layout,
    /// The arena of the parameters: `layout.len()` floats, zero in the padding.
    pub parameters: Vec<f32>,
}

/// A file of an artifact as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its name.
    pub name: String,
    /// Its size in bytes, where it could be read.
    pub bytes: Option<u64>,
    /// Its SHA-256 (hex), where it could be read.
    pub sha256: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl ModelFiles {
    /// Reads `model.json` and the parameters, and checks their digest.
    ///
    /// # Errors
    /// [`BadInput`] naming the file, if it is missing or damaged, or the path is no artifact.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            bail!(BadInput(format!(
                "there is no folder {}: give the folder of an artifact",
                path.display()
            )));
        }
        let model = model(path)?;
        let (architecture, layout) = in_file(path, MODEL, layout(&model))?;
        let parameters = in_file(path, PARAMETERS, parameters(path, &model, &layout))?;
        Ok(ModelFiles {
            model,
            architecture,
            layout,
            parameters,
        })
    }

    /// What the outputs mean.
    pub fn kind(&self) -> TaskKind {
        self.model.task.kind(self.model.output.width)
    }
}

/// Reads `model.json`.
///
/// # Errors
/// [`BadInput`] if it is missing or damaged.
pub fn model(path: &Path) -> Result<ModelFile> {
    read(path, MODEL, JSON_LIMIT, files::decode)
}

/// Reads `provenance.json`.
///
/// # Errors
/// [`BadInput`] if it is missing or damaged.
pub fn provenance(path: &Path) -> Result<Provenance> {
    read(path, PROVENANCE, PROVENANCE_LIMIT, files::decode_provenance)
}

/// Reads `metrics.json`.
///
/// # Errors
/// [`BadInput`] if it is missing or damaged.
pub fn metrics(path: &Path) -> Result<MetricsFile> {
    read(path, METRICS, JSON_LIMIT, |bytes| {
        Ok(serde_json::from_slice(bytes)?)
    })
}

/// Reads every file of an artifact and compares it with the digest in `provenance.json`. What that names
/// beside them is told, and not opened: it may lie anywhere.
pub fn verify_files(path: &Path, provenance: &Provenance) -> Vec<Verified> {
    let recorded = &provenance.files;
    let own: Vec<&str> = files_of(provenance.format_version).collect();
    let ours = own
        .iter()
        .map(|name| verify(path, name, recorded.get(*name)));
    let is_other = |name: &&String| !own.contains(&name.as_str());
    let others = recorded.keys().filter(is_other).map(|name| Verified {
        name: name.clone(),
        bytes: None,
        sha256: None,
        problem: Some(format!(
            "{PROVENANCE} names it, and no file of an artifact is called so"
        )),
    });
    let expected = identity(recorded);
    let is_other = provenance
        .artifact_sha256
        .as_ref()
        .is_some_and(|digest| *digest != expected);
    let whole = is_other.then(|| Verified {
        name: PROVENANCE.into(),
        bytes: None,
        sha256: None,
        problem: Some(format!("its artifactSha256 should be {expected}")),
    });
    ours.chain(others).chain(whole).collect()
}

/// Compares a file with its record. Of one that has another size no more is read.
fn verify(path: &Path, name: &str, record: Option<&FileRecord>) -> Verified {
    let Some(record) = record else {
        return Verified {
            name: name.into(),
            bytes: None,
            sha256: None,
            problem: Some(format!("{PROVENANCE} does not name it")),
        };
    };
    let compare = || -> io::Result<(u64, Option<String>, Option<String>)> {
        let file = open_regular(&path.join(name))?;
        let bytes = file.metadata()?.len();
        if bytes != record.bytes {
            let problem = format!("it has {bytes} of {} bytes", record.bytes);
            return Ok((bytes, None, Some(problem)));
        }
        let (bytes, sha256) = digest_of(file.take(bytes))?;
        let problem =
            (sha256 != record.sha256).then(|| format!("its SHA-256 should be {}", record.sha256));
        Ok((bytes, Some(sha256), problem))
    };
    let (bytes, sha256, problem) = match compare() {
        Ok((bytes, sha256, problem)) => (Some(bytes), sha256, problem),
        Err(error) => (None, None, Some(format!("it cannot be read: {error}"))),
    };
    Verified {
        name: name.into(),
        bytes,
        sha256,
        problem,
    }
}

/// Size and SHA-256 of a regular file, read through a small buffer.
///
/// # Errors
/// If it is something else, or cannot be read.
pub fn digest(path: &Path) -> io::Result<(u64, String)> {
    digest_of(open_regular(path)?)
}

fn digest_of(mut file: impl Read) -> io::Result<(u64, String)> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, base16ct::lower::encode_string(&hash.finalize()))),
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn in_file<T>(path: &Path, name: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        let file = path.join(name);
        BadInput(format!(
            "{}: {error:#}; check the path, or export the artifact again",
            file.display()
        ))
        .into()
    })
}

fn read<T>(path: &Path, name: &str, limit: u64, decode: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
    let bytes = bytes(&path.join(name), limit);
    in_file(path, name, bytes.and_then(|bytes| decode(&bytes)))
}

/// The bytes of a regular file of at most `limit`.
pub(super) fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file: File = open_regular(path)?;
    let mut bytes = Vec::new();
    // It may be longer by now than it says.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= limit,
        "it is larger than the {limit} bytes it may have"
    );
    Ok(bytes)
}

/// The network that `model.json` describes, if all that it says fits together.
fn layout(model: &ModelFile) -> Result<(Architecture, Layout)> {
    let schema = &model.input_schema;
    ensure!(
        model.task == schema.task,
        "its task differs from its input schema's"
    );
    ensure!(
        model.input_shape == schema.input_shape(),
        "its input shape differs from its input schema's"
    );
    ensure!(
        model.output == files::Output::of(schema),
        "its output differs from its input schema's"
    );
    let architecture =
        Architecture::new(&model.architecture, &model.input_shape, model.output.width)?;
    let layout = Layout::new(architecture.params.clone())?;
    ensure!(
        model.parameters == ParameterShape::all(&layout),
        "its parameters are not those of its architecture"
    );
    Ok((architecture, layout))
}

/// The arena of the parameters, if the file holds them and nothing else.
fn parameters(path: &Path, model: &ModelFile, layout: &Layout) -> Result<Vec<f32>> {
    let mut file = Reader::open(&path.join(PARAMETERS))?;
    // First what the header says: then the file is as long as these parameters, so that they are worth
    // their memory.
    for Placed { param, .. } in layout.params() {
        let name = &param.name;
        let shape = file
            .shape(name)
            .with_context(|| format!("parameter {name} is missing"))?;
        ensure!(
            shape == param.shape,
            "parameter {name} has shape {shape:?}, expected {:?}",
            param.shape
        );
    }
    let placed: BTreeMap<&str, &Placed> = layout
        .params()
        .map(|placed| (placed.param.name.as_str(), placed))
        .collect();
    let other = |name: &&String| !placed.contains_key(name.as_str());
    if let Some(name) = file.names().iter().find(other) {
        bail!("parameter {name} is not in {MODEL}");
    }
    let mut arena = zeros(layout.len())?;
    while let Some(placed) = file.next_name().and_then(|name| placed.get(name)) {
        file.read_next(&mut arena[placed.range()])?;
    }
    let digest = layout.model_sha256(&arena)?;
    ensure!(
        digest == model.model_sha256,
        "the parameters have the digest {digest}, {MODEL} says {}",
        model.model_sha256
    );
    Ok(arena)
}
