//! What a job begins from, if it does not begin anew: a model, or a checkpoint of another job.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use trainyard_checkpoint::{Check, Error, Log, spec_differences};
use trainyard_core::layout::Layout;
use trainyard_core::manifest::Manifest;
use trainyard_crds::TrainingJob;
use trainyard_crds::training_job as api;
use trainyard_object::Address;
use trainyard_runtime::arch::Architecture;
use trainyard_runtime::artifact::{self, Draft, ModelFile, ModelFiles, ParameterShape};
use trainyard_runtime::exit::{BadInput, TryAgain};
use trainyard_runtime::job::{Job, determining};
use trainyard_runtime::storage::Location;

use super::places;

/// The copy of the initial model in a run's folder: what the run began with stays, whatever becomes of the
/// original.
pub const FOLDER: &str = "initial";

const MODEL_FIELD: &str = "spec.initialModel";
const CHECKPOINT_FIELD: &str = "spec.resumeFrom";

/// Names the initial model of a manifest by its digest, which is a part of the job's identity. `base` is
/// where relative paths begin.
///
/// # Errors
/// [`BadInput`] if it is not there, or is no model.
pub fn identify(manifest: &mut TrainingJob, base: &Path) -> Result<()> {
    let s3 = manifest.spec.data.s3.clone();
    let Some(initial) = &mut manifest.spec.initial_model else {
        return Ok(());
    };
    if initial.model_sha256.is_some() {
        return Ok(());
    }
    let remedy = "give an artifact or a run's folder; to go on with a run that has begun, \
                  spec.initialModel.modelSha256 is enough";
    let place = locate(MODEL_FIELD, &initial.uri, base, s3.as_ref(), remedy)?;
    let sha256 = Initial::find(&place).and_then(|found| found.sha256());
    let sha256 = sha256.map_err(|error| of_field(MODEL_FIELD, &initial.uri, error))?;
    initial.model_sha256 = Some(sha256);
    Ok(())
}

/// Copies the initial model of a job into its folder, unless it is there. Returns where it is.
///
/// # Errors
/// [`BadInput`] if it is not there, is another model than the job says, or does not fit the job.
pub fn bring_model(job: &Job, base: &Path, folder: &Path) -> Result<Option<PathBuf>> {
    let Some(initial) = &job.manifest.spec.initial_model else {
        return Ok(None);
    };
    let copy = folder.join(FOLDER);
    let is_it = |sha256: &str| Some(sha256) == initial.model_sha256.as_deref();
    if let Ok(model) = artifact::model(&copy)
        && is_it(&model.model_sha256)
    {
        check_fit(job, &model).map_err(|error| of_field(MODEL_FIELD, &initial.uri, error))?;
        return Ok(Some(copy));
    }
    let s3 = job.manifest.spec.data.s3.as_ref();
    let remedy = "give an artifact or a run's folder";
    let place = locate(MODEL_FIELD, &initial.uri, base, s3, remedy)?;
    let bring = || -> Result<()> {
        let files = Initial::find(&place)?.read()?;
        let found = &files.model.model_sha256;
        if !is_it(found) {
            bail!(BadInput(format!(
                "it is the model {found}, and spec.initialModel.modelSha256 names another"
            )));
        }
        check_fit(job, &files.model)?;
        if copy.exists() {
            fs::remove_dir_all(&copy)?; // of a run that saved nothing, with another model
        }
        let draft = Draft::new(&copy)?;
        files.write(draft.path())?;
        draft.publish()
    };
    bring().map_err(|error| of_field(MODEL_FIELD, &initial.uri, error))?;
    Ok(Some(copy))
}

/// Takes over the checkpoint that a job goes on from into its own log, which is empty.
///
/// # Errors
/// [`BadInput`] if there is none, or it is of a job with other settings.
pub fn bring_checkpoint(job: &Job, base: &Path, log: &mut Log) -> Result<()> {
    let Some(from) = &job.manifest.spec.resume_from else {
        return Ok(());
    };
    let s3 = job.manifest.spec.data.s3.as_ref();
    let place = locate(CHECKPOINT_FIELD, &from.uri, base, s3, "give a run's folder")?;
    take_over(job, &place, log).map_err(|error| of_field(CHECKPOINT_FIELD, &from.uri, error))
}

fn take_over(job: &Job, place: &Location, log: &mut Log) -> Result<()> {
    let theirs = Log::open_any(place.open_existing()?)?;
    let newest = newest(&theirs)?;
    check_same(job, newest)?;
    let spec = job.clone().as_begun(newest).to_json()?;
    // What early stopping may return to.
    let best = newest.coordinator.record.best.as_ref();
    let best = best.filter(|best| best.step < newest.step);
    let best = best.and_then(|best| theirs.manifests().rev().find(|m| m.step == best.step));
    let generation = log.current_claim().map_or(0, |claim| claim.generation + 1);
    let holder = format!("resumeFrom-{:016x}", trainyard_runtime::incarnation());
    log.claim(generation, &holder)?;
    for checkpoint in best.into_iter().chain([newest]) {
        log.import(theirs.storage().as_ref(), checkpoint, spec.clone())?;
    }
    Ok(())
}

/// Checks that a job does not begin from what is in `folder`, which is to be overwritten.
///
/// # Errors
/// [`BadInput`] if it does.
pub fn is_not_in(folder: &Path, job: &Job, base: &Path) -> Result<()> {
    let spec = &job.manifest.spec;
    let model = spec
        .initial_model
        .as_ref()
        .map(|initial| (MODEL_FIELD, &initial.uri));
    let checkpoint = spec
        .resume_from
        .as_ref()
        .map(|from| (CHECKPOINT_FIELD, &from.uri));
    for (field, uri) in model.into_iter().chain(checkpoint) {
        let path = fs::canonicalize(base.join(uri));
        if path.is_ok_and(|path| path.starts_with(folder)) {
            bail!(BadInput(format!(
                "{field}: {uri} is in the folder that --overwrite replaces: choose another folder with --out"
            )));
        }
    }
    Ok(())
}

/// A model that a job can begin with.
enum Initial {
    /// An artifact at this place.
    Artifact(Location),
    /// A checkpoint.
    Checkpoint(Log, Manifest),
}

impl Initial {
    fn find(place: &Location) -> Result<Self> {
        let files = place.fetch(&[artifact::MODEL])?;
        if files.path().join(artifact::MODEL).is_file() {
            return Ok(Initial::Artifact(place.clone()));
        }
        let log = Log::open_any(place.open_existing()?).map_err(|error| match error {
            Error::NoLog => BadInput("there is neither an artifact nor a checkpoint".into()).into(),
            error => anyhow::Error::from(error),
        })?;
        let manifest = newest(&log)?.clone();
        Ok(Initial::Checkpoint(log, manifest))
    }

    fn sha256(&self) -> Result<String> {
        match self {
            Initial::Artifact(place) => {
                let files = place.fetch(&[artifact::MODEL])?;
                Ok(artifact::model(files.path())?.model_sha256)
            }
            Initial::Checkpoint(
                _,
                Manifest {
                    model_sha256: Some(known),
                    ..
                },
            ) => Ok(known.clone()),
            Initial::Checkpoint(..) => Ok(self.read()?.model.model_sha256),
        }
    }

    fn read(&self) -> Result<ModelFiles> {
        match self {
            Initial::Artifact(place) => {
                let files = place.fetch(&[artifact::MODEL, artifact::PARAMETERS])?;
                ModelFiles::read(files.path())
            }
            Initial::Checkpoint(log, manifest) => {
                let job = Job::from_value(manifest.spec.clone())?;
                ModelFiles::of_checkpoint(&job, log.storage().as_ref(), manifest)
            }
        }
    }
}

/// The result of a log, or its newest checkpoint.
fn newest(log: &Log) -> Result<&Manifest> {
    // A damaged result is an error of its own: an older checkpoint is another model.
    if let Some(complete) = log.complete() {
        return Ok(complete);
    }
    let loadable = log.newest_loadable(Check::Sizes)?;
    let loadable = loadable.ok_or_else(|| BadInput("there is no checkpoint yet".into()))?;
    Ok(loadable.manifest)
}

fn locate(
    field: &str,
    uri: &str,
    base: &Path,
    s3: Option<&api::S3Connection>,
    remedy: &str,
) -> Result<Location> {
    if !Address::is_meant(uri) {
        let path = base.join(uri);
        if !path.is_dir() {
            let path = path.display();
            bail!(BadInput(format!(
                "{field}: there is no folder {path}: {remedy}"
            )));
        }
        return Ok(Location::Folder(path));
    }
    places::credentials(field)?;
    let address = uri.parse();
    let address = address.map_err(|error| BadInput(format!("{field}: {uri}: {error}")))?;
    Ok(Location::S3(address, places::data_connection(s3)))
}

/// Checks that a job's model takes the parameters of another, and its data that one's rows.
fn check_fit(job: &Job, model: &ModelFile) -> Result<()> {
    if model.task != job.task {
        bail!(BadInput(
            "it was trained for another task than spec.task".into()
        ));
    }
    let spec = &job.manifest.spec.model;
    let architecture = Architecture::new(spec, &model.input_shape, model.output.width)?;
    let ours = ParameterShape::all(&Layout::new(architecture.params)?);
    let mut pairs = ours.iter().zip(&model.parameters);
    let differing = pairs.find(|(ours, theirs)| ours != theirs);
    let told = match differing {
        Some((ours, theirs)) => {
            let shown = |p: &ParameterShape| format!("{} {:?}", p.name, p.shape);
            format!("it has {}, spec.model {}", shown(theirs), shown(ours))
        }
        None if ours.len() != model.parameters.len() => {
            format!(
                "it has {} parameter tensors, spec.model {}",
                model.parameters.len(),
                ours.len()
            )
        }
        None => return Ok(()),
    };
    let theirs = serde_json::to_string(&model.architecture)?;
    bail!(BadInput(format!("{told}; its model is {theirs}")))
}

/// Checks that a checkpoint is of a job that would become the same model.
fn check_same(job: &Job, checkpoint: &Manifest) -> Result<()> {
    if checkpoint.identity.spec_digest == job.spec_digest {
        return Ok(());
    }
    let ours = job.to_json()?;
    let differences = spec_differences(
        &determining(&checkpoint.spec["spec"]),
        &determining(&ours["spec"]),
    );
    bail!(BadInput(format!(
        "it is of a job with other settings ({}): to begin with its parameters, use spec.initialModel",
        differences.join("; ")
    )))
}

/// An error that says which field names the place. Unless a store may be back in a while, it is the
/// user's to mend.
fn of_field(field: &str, uri: &str, error: anyhow::Error) -> anyhow::Error {
    match error.is::<TryAgain>() {
        true => error.context(format!("{field}: {uri}")),
        false => BadInput(format!("{field}: {uri}: {error:#}")).into(),
    }
}
