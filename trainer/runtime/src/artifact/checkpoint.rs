//! The model of a checkpoint, as an artifact holds it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use trainyard_checkpoint::{Storage, load_range};
use trainyard_core::manifest::Manifest;
use trainyard_core::metrics::Loss;

use super::tensors::{self, Named};
use super::{FORMAT, MODEL, ModelFile, ModelFiles, Output, PARAMETERS, ParameterShape};
use crate::job::Job;

impl ModelFiles {
    /// The model of a checkpoint of `job`.
    ///
    /// # Errors
    /// If the checkpoint cannot be loaded, or was written with another layout of parameters.
    pub fn of_checkpoint(job: &Job, storage: &dyn Storage, manifest: &Manifest) -> Result<Self> {
        let layout = job.layout(&manifest.facts)?;
        let digest = layout.digest();
        ensure!(
            manifest.layout_digest == digest && manifest.floats == layout.len() as u64,
            "the checkpoint has another layout of parameters: export it with the version that wrote it"
        );
        let parameters = parameters(storage, manifest)?;
        let model_sha256 = layout.model_sha256(&parameters)?;
        if let Some(recorded) = &manifest.model_sha256 {
            ensure!(
                *recorded == model_sha256,
                "the parameters have the digest {model_sha256}, the checkpoint says {recorded}: restore it from a backup"
            );
        }
        let schema = &manifest.facts.schema;
        let model = ModelFile {
            format_version: FORMAT,
            job: job.name.clone(),
            task: schema.task,
            architecture: job.manifest.spec.model.clone(),
            input_schema: schema.clone(),
            input_shape: schema.input_shape(),
            output: Output::of(schema),
            loss: Some(job.loss())
                .filter(|loss| *loss != Loss::of(schema.task.kind(schema.outputs()))),
            parameters: ParameterShape::all(&layout),
            model_sha256,
        };
        Ok(ModelFiles {
            model,
            architecture: job.architecture(&manifest.facts)?,
            layout,
            parameters,
        })
    }

    /// Writes `model.json` and `model.safetensors` into a folder.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(MODEL), &self.model)?;
        let tensors: Vec<Named<'_>> = self
            .layout
            .params()
            .map(|placed| Named {
                name: &placed.param.name,
                shape: &placed.param.shape,
                values: &self.parameters[placed.range()],
            })
            .collect();
        tensors::write(&folder.join(PARAMETERS), &[], &tensors).context(PARAMETERS)
    }
}

/// Writes a JSON file as an artifact has it.
///
/// # Errors
/// If it cannot be written.
pub fn write_json<T: Serialize>(file: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}

/// The whole arena, shard by shard, so that the optimizer's slots of only one are in memory.
fn parameters(storage: &dyn Storage, manifest: &Manifest) -> Result<Vec<f32>> {
    manifest.check()?;
    let mut arena = Vec::new();
    let floats = usize::try_from(manifest.floats)?;
    arena
        .try_reserve_exact(floats)
        .with_context(|| format!("{floats} floats of the model do not fit the memory"))?;
    for shard in &manifest.shards {
        let range = shard.start as usize..shard.end as usize;
        arena.extend(load_range(storage, manifest, range)?.parameters);
    }
    Ok(arena)
}
