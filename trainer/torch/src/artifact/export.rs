//! From a checkpoint to an artifact.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use trainyard_checkpoint::{Manifest, Storage, load_range};
use trainyard_core::layout::Layout;
use trainyard_data::InputSchema;
use trainyard_runtime::artifact::tensors::{self, Named};
use trainyard_runtime::artifact::{
    Checkpoint, DataProvenance, Draft, FILES, FORMAT, FileRecord, GOLDEN, METRICS, MODEL,
    MetricsFile, ModelFile, Output, PARAMETERS, PROVENANCE, ParameterShape, Provenance, SCRIPT,
    Versions, digest,
};
use trainyard_runtime::job::Job;

use super::model::tensors as to_torch;
use super::script;
use crate::capability::LIBTORCH_VERSION;
use crate::engine::use_threads;
use crate::network::Network;

/// What was exported.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactInfo {
    /// The artifact's folder.
    pub path: PathBuf,
    /// Name of the job.
    pub job: String,
    /// Steps that the parameters have learned.
    pub step: u64,
    /// Epochs done by then.
    pub epoch: u64,
    /// Whether the job was finished with them.
    pub complete: bool,
    /// Parameters as users count them.
    pub parameters: u64,
    /// Digest of the parameters.
    pub model_sha256: String,
    /// Metrics and history.
    pub metrics: MetricsFile,
}

/// Writes the artifact of a checkpoint to the folder `out`, whole or not at all. An artifact that is
/// there is replaced; anything else is not.
///
/// Holds the parameters in memory, and the largest shard. Pins libtorch to one thread.
///
/// # Errors
/// If a shard is missing or damaged, the parameters are not those of the manifest's digest, `out`
/// cannot be written, or the TorchScript module, loaded again, does not reproduce the golden outputs.
pub fn export(storage: Arc<dyn Storage>, manifest: &Manifest, out: &Path) -> Result<ArtifactInfo> {
    let source = Source::read(storage.as_ref(), manifest)?;
    let draft = Draft::new(out)?;
    use_threads(1);
    source.write_model(&draft)?;
    source.write_tensors(&draft)?;
    source.write_script(&draft)?;
    let metrics = MetricsFile::of(manifest.coordinator.clone(), &manifest.facts.schema);
    write_json(&draft, METRICS, &metrics)?;
    write_json(&draft, PROVENANCE, &source.provenance(&draft)?)?;
    draft.publish()?;
    Ok(ArtifactInfo {
        path: out.to_owned(),
        job: source.job.name.clone(),
        step: manifest.step,
        epoch: manifest.epoch,
        complete: manifest.complete,
        parameters: source.layout.parameter_count() as u64,
        model_sha256: source.model_sha256,
        metrics,
    })
}

/// A checkpoint's parameters with all that explains them.
struct Source<'a> {
    manifest: &'a Manifest,
    job: Job,
    schema: InputSchema,
    layout: Layout,
    arena: Vec<f32>,
    model_sha256: String,
}

impl<'a> Source<'a> {
    fn read(storage: &dyn Storage, manifest: &'a Manifest) -> Result<Self> {
        let job = Job::from_value(manifest.spec.clone()).context("the checkpoint is of no job")?;
        let layout = job.layout(&manifest.facts)?;
        let digest = layout.digest();
        ensure!(
            manifest.layout_digest == digest && manifest.floats == layout.len() as u64,
            "the checkpoint has another layout of parameters: export it with the version that wrote it"
        );
        let arena = parameters(storage, manifest)?;
        let model_sha256 = layout.model_sha256(&arena)?;
        if let Some(recorded) = &manifest.model_sha256 {
            ensure!(
                *recorded == model_sha256,
                "the parameters have the digest {model_sha256}, the checkpoint says {recorded}: restore it from a backup"
            );
        }
        Ok(Source {
            manifest,
            job,
            schema: manifest.facts.schema.clone(),
            layout,
            arena,
            model_sha256,
        })
    }

    fn write_model(&self, draft: &Draft) -> Result<()> {
        let model = ModelFile {
            format_version: FORMAT,
            job: self.job.name.clone(),
            task: self.schema.task,
            architecture: self.job.manifest.spec.model.clone(),
            input_schema: self.schema.clone(),
            input_shape: self.schema.input_shape(),
            output: Output::of(&self.schema),
            parameters: ParameterShape::all(&self.layout),
            model_sha256: self.model_sha256.clone(),
        };
        write_json(draft, MODEL, &model)
    }

    fn write_tensors(&self, draft: &Draft) -> Result<()> {
        let tensors: Vec<Named<'_>> = self
            .layout
            .params()
            .map(|placed| Named {
                name: &placed.param.name,
                shape: &placed.param.shape,
                values: &self.arena[placed.range()],
            })
            .collect();
        tensors::write(&draft.file(PARAMETERS), &[], &tensors).context(PARAMETERS)
    }

    fn write_script(&self, draft: &Draft) -> Result<()> {
        let architecture = self.job.architecture(&self.manifest.facts)?;
        let network = Network::new(&architecture, &self.layout);
        let tensors = to_torch(&self.arena, &self.layout)?;
        let seed = self.job.manifest.spec.training.seed;
        let golden = script::compute_golden(
            &network,
            &tensors,
            &architecture.input_shape,
            seed,
            tensors.len() as u64,
        )?;
        golden.write(&draft.file(GOLDEN)).context(GOLDEN)?;
        script::trace(&network, &tensors, &draft.file(SCRIPT)).context(SCRIPT)?;
        script::check_golden(&golden, &draft.file(SCRIPT))
            .context("the traced module does not reproduce the golden outputs")
    }

    fn provenance(&self, draft: &Draft) -> Result<Provenance> {
        let mut files = BTreeMap::new();
        for name in FILES {
            let (bytes, sha256) = digest(&draft.file(name))?;
            files.insert(name.to_owned(), FileRecord { bytes, sha256 });
        }
        let manifest = self.manifest;
        Ok(Provenance {
            format_version: FORMAT,
            job: self.job.name.clone(),
            model_sha256: self.model_sha256.clone(),
            spec_digest: manifest.identity.spec_digest.clone(),
            data: DataProvenance {
                digest: manifest.facts.digest.clone(),
                train_rows: manifest.facts.train_rows,
                validation_rows: manifest.facts.validation_rows,
            },
            checkpoint: Checkpoint {
                step: manifest.step,
                epoch: manifest.epoch,
                generation: manifest.generation,
                complete: manifest.complete,
            },
            capability: manifest.capability.clone(),
            versions: Versions {
                trainyard: env!("CARGO_PKG_VERSION").into(),
                libtorch: LIBTORCH_VERSION.into(),
            },
            files,
            spec: manifest.spec.clone(),
        })
    }
}

/// The whole arena, shard by shard, so that the optimizer's slots of only one are in memory.
fn parameters(storage: &dyn Storage, manifest: &Manifest) -> Result<Vec<f32>> {
    manifest.check()?;
    let mut arena = Vec::new();
    for shard in &manifest.shards {
        let range = shard.start as usize..shard.end as usize;
        arena.extend(load_range(storage, manifest, range)?.parameters);
    }
    Ok(arena)
}

fn write_json<T: Serialize>(draft: &Draft, name: &str, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    fs::write(draft.file(name), text).with_context(|| format!("{name} cannot be written"))
}
