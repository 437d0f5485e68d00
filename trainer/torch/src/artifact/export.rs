//! From a checkpoint to an artifact.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use trainyard_checkpoint::{Manifest, Storage};
use trainyard_infer::{Model, golden};
use trainyard_runtime::artifact::{
    Checkpoint, DataProvenance, Draft, FILES, FORMAT, FileRecord, GOLDEN, Golden, GoldenRows,
    METRICS, MetricsFile, ModelFiles, PROVENANCE, Provenance, ROWS, SCRIPT, Versions, digest,
    identity, write_json,
};
use trainyard_runtime::job::Job;

use super::script;
use super::script::to_torch;
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
    let metrics = MetricsFile::of(manifest.coordinator.clone(), &manifest.facts.schema);
    let written = source
        .write(&draft, &metrics)
        .and_then(|()| draft.publish());
    written.with_context(|| format!("the artifact {} cannot be made", out.display()))?;
    Ok(ArtifactInfo {
        path: out.to_owned(),
        job: source.job.name.clone(),
        step: manifest.step,
        epoch: manifest.epoch,
        complete: manifest.complete,
        parameters: source.files.layout.parameter_count() as u64,
        model_sha256: source.files.model.model_sha256,
        metrics,
    })
}

/// A checkpoint's parameters with all that explains them.
struct Source<'a> {
    manifest: &'a Manifest,
    job: Job,
    files: ModelFiles,
}

impl<'a> Source<'a> {
    fn read(storage: &dyn Storage, manifest: &'a Manifest) -> Result<Self> {
        let job = Job::from_value(manifest.spec.clone()).context("the checkpoint is of no job")?;
        Ok(Source {
            files: ModelFiles::of_checkpoint(&job, storage, manifest)?,
            manifest,
            job,
        })
    }

    fn write(&self, draft: &Draft, metrics: &MetricsFile) -> Result<()> {
        self.files.write(draft.path())?;
        self.write_script(draft)?;
        self.write_rows(draft)?;
        write_json(&draft.file(METRICS), metrics)?;
        let provenance = self.provenance(draft)?.to_text()?;
        let file = draft.file(PROVENANCE);
        std::fs::write(&file, provenance)
            .with_context(|| format!("{} cannot be written", file.display()))
    }

    fn write_script(&self, draft: &Draft) -> Result<()> {
        let ModelFiles {
            architecture,
            layout,
            parameters,
            ..
        } = &self.files;
        let network = Network::new(architecture, layout);
        let tensors = to_torch(parameters, layout)?;
        let seed = self.job.manifest.spec.training.seed;
        let golden =
            script::compute_golden(&network, &tensors, architecture, seed, tensors.len() as u64)?;
        golden.write(&draft.file(GOLDEN)).context(GOLDEN)?;
        script::trace(&network, &tensors, &draft.file(SCRIPT)).context(SCRIPT)?;
        script::check_golden(&golden, &draft.file(SCRIPT))
            .context("the traced module does not reproduce the golden outputs")
    }

    /// Of the model as it is read from the draft: what is proved is what is published.
    fn write_rows(&self, draft: &Draft) -> Result<()> {
        let model = Model::open(draft.path())?;
        golden::check_network(&model, &Golden::read(&draft.file(GOLDEN))?)
            .context("the model does not compute what training computed")?;
        let rows = golden::make(&model)?;
        rows.write(&draft.file(ROWS)).context(ROWS)?;
        let rows = GoldenRows::read(&draft.file(ROWS))?;
        golden::check(&model, &rows).context("the golden rows are not reproduced")?;
        Ok(())
    }

    fn provenance(&self, draft: &Draft) -> Result<Provenance> {
        let mut files = BTreeMap::new();
        for name in FILES {
            let (bytes, sha256) = digest(&draft.file(name))?;
            files.insert(name.to_owned(), FileRecord { bytes, sha256 });
        }
        let manifest = self.manifest;
        Ok(Provenance {
            provenance_sha256: None,
            format_version: FORMAT,
            job: self.job.name.clone(),
            model_sha256: self.files.model.model_sha256.clone(),
            spec_digest: manifest.identity.spec_digest.clone(),
            data: DataProvenance {
                digest: manifest.facts.digest.clone(),
                train_rows: manifest.facts.train_rows,
                validation_rows: manifest.facts.validation_rows,
                test_rows: manifest.facts.test_rows,
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
            artifact_sha256: Some(identity(&files)),
            files,
            spec: manifest.spec.clone(),
        })
    }
}
