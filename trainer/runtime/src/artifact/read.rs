//! Reading an artifact's files and checking them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use trainyard_core::layout::{Layout, ModelHasher, Placed};
use trainyard_core::metrics::TaskKind;
use trainyard_crds::training_job::Model;

use super::files::{self, ModelFile, ParameterShape, Provenance};
use super::{MODEL, PARAMETERS, PROVENANCE, tensors};
use crate::arch::Architecture;
use crate::exit::BadInput;

/// Largest JSON file read, in bytes: a schema of a million columns has less.
pub const JSON_LIMIT: u64 = 1 << 28;

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
        let file = path.join(PARAMETERS);
        // No more is read than these parameters and a header can have.
        let limit = (layout.len() as u64)
            .saturating_mul(4)
            .saturating_add(JSON_LIMIT);
        let parameters = in_file(
            path,
            PARAMETERS,
            bytes(&file, limit).and_then(|bytes| parameters(&bytes, &model, &layout)),
        )?;
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
    read(path, MODEL, files::decode)
}

/// Reads `provenance.json`.
///
/// # Errors
/// [`BadInput`] if it is missing or damaged.
pub fn provenance(path: &Path) -> Result<Provenance> {
    read(path, PROVENANCE, files::decode)
}

/// Reads every file and compares it with the digest in `provenance.json`.
pub fn verify_files(path: &Path, provenance: &Provenance) -> Vec<Verified> {
    let verify = |name: &str| match digest(&path.join(name)) {
        Ok((bytes, sha256)) => {
            let problem = provenance.files.get(name).and_then(|record| match () {
                () if record.bytes != bytes => {
                    Some(format!("it has {bytes} of {} bytes", record.bytes))
                }
                () if record.sha256 != sha256 => {
                    Some(format!("its SHA-256 should be {}", record.sha256))
                }
                () => None,
            });
            Verified {
                name: name.into(),
                bytes: Some(bytes),
                sha256: Some(sha256),
                problem,
            }
        }
        Err(error) => Verified {
            name: name.into(),
            bytes: None,
            sha256: None,
            problem: Some(format!("it cannot be read: {error}")),
        },
    };
    provenance.files.keys().map(|name| verify(name)).collect()
}

/// Size and SHA-256 of a file, read through a small buffer.
pub fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hash, mut bytes) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, base16ct::lower::encode_string(&hash.finalize()))),
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
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

fn read<T>(path: &Path, name: &str, decode: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
    in_file(
        path,
        name,
        bytes(&path.join(name), JSON_LIMIT).and_then(|bytes| decode(&bytes)),
    )
}

fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let meta = fs::metadata(path)?;
    ensure!(meta.is_file(), "it is no regular file");
    ensure!(
        meta.len() <= limit,
        "it is larger than the {limit} bytes it may have"
    );
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
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
    ensure!(
        is_bounded(&model.architecture),
        "its architecture has a size out of the bounds of spec.model"
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

/// The bounds of the API, which nobody has checked on a file: within them no size overflows.
fn is_bounded(model: &Model) -> bool {
    let widths = |hidden: &[u32]| {
        hidden.len() <= 64 && hidden.iter().all(|width| (1..=65_536).contains(width))
    };
    match model {
        Model::Mlp(mlp) => widths(&mlp.hidden),
        Model::Cnn(cnn) => {
            let block = |block: &trainyard_crds::training_job::ConvBlock| {
                (1..=4096).contains(&block.channels)
                    && (1..=31).contains(&block.kernel_size)
                    && block.pool.is_none_or(|pool| (2..=32).contains(&pool))
            };
            widths(&cnn.hidden) && cnn.blocks.len() <= 64 && cnn.blocks.iter().all(block)
        }
    }
}

/// The arena of the parameters, if the file holds them and nothing else.
fn parameters(bytes: &[u8], model: &ModelFile, layout: &Layout) -> Result<Vec<f32>> {
    let mut contents = tensors::read(bytes)?;
    let mut arena = Vec::new();
    let mut take = |placed: &Placed| -> Result<()> {
        let name = &placed.param.name;
        let tensor = contents
            .tensors
            .remove(name)
            .with_context(|| format!("parameter {name} is missing"))?;
        ensure!(
            tensor.shape == placed.param.shape,
            "parameter {name} has shape {:?}, expected {:?}",
            tensor.shape,
            placed.param.shape
        );
        arena.resize(placed.offset, 0.0);
        arena.extend_from_slice(&tensor.values);
        Ok(())
    };
    layout.params().try_for_each(&mut take)?;
    arena.resize(layout.len(), 0.0);
    if let Some(name) = contents.tensors.keys().next() {
        bail!("parameter {name} is not in {MODEL}");
    }
    let mut hasher = ModelHasher::new(layout);
    hasher.update(&arena)?;
    let digest = hasher.finish()?;
    ensure!(
        digest == model.model_sha256,
        "the parameters have the digest {digest}, {MODEL} says {}",
        model.model_sha256
    );
    Ok(arena)
}
