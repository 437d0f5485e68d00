//! What a job begins from, if it does not begin anew: a model, or a checkpoint of another job.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use trainyard_checkpoint::{Check, Error, Log, spec_differences};
use trainyard_contract::DEFAULTS;
use trainyard_contract::pod::JOB_FILE;
use trainyard_core::manifest::Manifest;
use trainyard_crds::training_job as api;
use trainyard_crds::{TrainingJob, TrainingJobSpec};
use trainyard_files::open_regular;
use trainyard_object::Address;
use trainyard_runtime::artifact::{self, Draft, ModelFile, ModelFiles};
use trainyard_runtime::exit::{self, BadInput, ExitCode};
use trainyard_runtime::job::{Job, determining};
use trainyard_runtime::storage::Location;

use super::folder::{self, Folder};
use super::places::{self, Checkpoints};

/// The copy of the initial model in a run's folder: what the run began with stays, whatever becomes of the
/// original.
pub const FOLDER: &str = "initial";

/// The longest job file that is read, in bytes. It has all defaults, and so several times the bytes of its manifest.
const JOB_LIMIT: u64 = 16 << 20;

const MODEL_FIELD: &str = "spec.initialModel";
const CHECKPOINT_FIELD: &str = "spec.resumeFrom";

/// Names the initial model of a manifest by its digest, which is a part of the job's identity. `base` is
/// where relative paths begin.
///
/// # Errors
/// [`BadInput`] if it is not there, or is no model.
pub fn identify(manifest: &mut TrainingJob, base: &Path) -> Result<()> {
    let Some(initial) = &manifest.spec.initial_model else {
        return Ok(());
    };
    if initial.model_sha256.is_some() {
        return Ok(());
    }
    let place = locate(MODEL_FIELD, &initial.uri, base, &manifest.spec)?;
    let sha256 = Initial::find(&place).and_then(|found| found.sha256());
    let sha256 = sha256.map_err(|error| of_field(MODEL_FIELD, &initial.uri, error))?;
    if let Some(initial) = &mut manifest.spec.initial_model {
        initial.model_sha256 = Some(sha256);
    }
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
    if let Ok(files) = ModelFiles::read(&copy)
        && is_it(&files.model.model_sha256)
    {
        let fits = check_fit(job, &files.model);
        fits.map_err(|error| of_field(MODEL_FIELD, &initial.uri, error))?;
        return Ok(Some(copy));
    }
    if copy.exists() && !is_copy(&copy) {
        let copy = copy.display();
        bail!(BadInput(format!(
            "{copy} is in the way, where the run keeps its initial model: move it away, or choose another folder \
             with --out"
        )));
    }
    let place = locate(MODEL_FIELD, &initial.uri, base, &job.manifest.spec)?;
    let read = || -> Result<ModelFiles> {
        let files = Initial::find(&place)?.read()?;
        let found = &files.model.model_sha256;
        if !is_it(found) {
            bail!(BadInput(format!(
                "it is the model {found}, and spec.initialModel.modelSha256 names another: correct that, or leave it \
                 out"
            )));
        }
        check_fit(job, &files.model)?;
        Ok(files)
    };
    let files = read().map_err(|error| of_field(MODEL_FIELD, &initial.uri, error))?;
    let write = || -> Result<()> {
        if copy.exists() {
            fs::remove_dir_all(&copy)?; // damaged, or of a run that saved nothing
        }
        let draft = Draft::new(&copy)?;
        files.write(draft.path())?;
        draft.publish()
    };
    write().with_context(|| format!("{} cannot be written", copy.display()))?;
    Ok(Some(copy))
}

/// Imports the checkpoint that a job goes on from, if it names one, into the job's own log.
///
/// An import that was cut short is done anew, and one that is whole is left as it is. What was imported is used if the
/// source is not there any more; the sentence that is returned with the log says so.
///
/// # Errors
/// [`BadInput`] if there is no checkpoint, or it is of a job with other settings.
pub fn bring_checkpoint(
    job: &Job,
    base: &Path,
    (folder, checkpoints): (&Folder, &Checkpoints),
    mut log: Log,
) -> Result<(Log, Option<String>)> {
    let Some(from) = &job.manifest.spec.resume_from else {
        return Ok((log, None));
    };
    if has_begun(&log) || !log.damaged().is_empty() {
        return Ok((log, None));
    }
    let source = locate(CHECKPOINT_FIELD, &from.uri, base, &job.manifest.spec).and_then(|place| {
        let source = Source::open(&place, folder);
        let same = source.and_then(|source| check_same(job, &source.newest).map(|()| source));
        same.map_err(|error| of_field(CHECKPOINT_FIELD, &from.uri, error))
    });
    let source = match (source, log.latest()) {
        (Ok(source), Some(latest)) if latest.step == source.newest.step => return Ok((log, None)),
        (Ok(source), _) => source,
        (Err(error), Some(latest)) => {
            let step = latest.step;
            let told = format!("{error:#}; going on from step {step}, which was imported before");
            return Ok((log, Some(told)));
        }
        (Err(error), None) => return Err(error),
    };
    if matches!(checkpoints.location, Location::Folder(_)) && log.current_claim().is_some() {
        folder.clear_log()?;
        log = checkpoints.log(job)?;
    }
    let imported = source.import(job, &mut log);
    imported.with_context(|| format!("{CHECKPOINT_FIELD}: {} cannot be imported", from.uri))?;
    Ok((log, None))
}

/// The checkpoints of another run.
struct Source {
    log: Log,
    /// The one to go on from.
    newest: Manifest,
    /// Keeps runs out of its folder meanwhile: they would delete what is read.
    _kept_out: Option<File>,
}

impl Source {
    /// Opens the run at `place`, for a run in `folder`.
    fn open(place: &Location, folder: &Folder) -> Result<Self> {
        if let Location::Folder(path) = place
            && fs::canonicalize(path).is_ok_and(|path| path == folder.path)
        {
            bail!(BadInput(
                "it is this run's own folder: go on with --resume".into()
            ));
        }
        Source::of(place)
    }

    fn of(place: &Location) -> Result<Self> {
        let kept_out = match place {
            Location::Folder(path) => folder::keep_out(path)?,
            Location::S3(..) => None,
        };
        let is_artifact = match place {
            Location::Folder(path) => path.join(artifact::MODEL).is_file(),
            Location::S3(..) => false,
        };
        let log = Log::open_any(place.open_existing()?).map_err(|error| match error {
            Error::NoLog if is_artifact => BadInput(STATELESS.into()).into(),
            Error::NoLog => BadInput(NOTHING.into()).into(),
            error => anyhow::Error::from(error),
        })?;
        let newest = newest(&log)?.clone();
        Ok(Source {
            log,
            newest,
            _kept_out: kept_out,
        })
    }

    fn import(&self, job: &Job, log: &mut Log) -> Result<()> {
        let (newest, from) = (&self.newest, self.log.storage().as_ref());
        let spec = job.clone().as_begun(newest).to_json()?;
        // What early stopping may return to.
        let best = newest.coordinator.record.best.as_ref();
        let best = best.filter(|best| best.step < newest.step);
        let mut others = self.log.manifests().rev();
        let best = best.and_then(|best| others.find(|other| other.step == best.step));
        let generation = log.current_claim().map_or(0, |claim| claim.generation + 1);
        let holder = format!("resumeFrom-{:016x}", trainyard_runtime::incarnation());
        log.claim(generation, &holder)?;
        for checkpoint in best.into_iter().chain([newest]) {
            log.import(from, checkpoint, spec.clone())?;
        }
        Ok(())
    }
}

const STATELESS: &str = "it is an artifact, which has no optimizer state to go on from: give the run's folder, or begin \
                         with its parameters by spec.initialModel";

const NOTHING: &str =
    "there is neither an artifact nor a checkpoint: give the folder of an artifact or of a run";

/// Whether a job has trained: it has a checkpoint that was not imported.
pub fn has_trained(log: &Log) -> bool {
    log.manifests().any(|manifest| !manifest.imported)
}

/// Whether a job has begun: it has trained, or its result was imported.
pub fn has_begun(log: &Log) -> bool {
    has_trained(log) || log.complete().is_some()
}

/// Whether a folder is the copy of an initial model, and nothing else.
pub fn is_copy(path: &Path) -> bool {
    let ours = [artifact::MODEL, artifact::PARAMETERS];
    let entries = fs::read_dir(path).map(|entries| entries.flatten().collect::<Vec<_>>());
    entries.is_ok_and(|entries| {
        let mut names = entries.iter().map(fs::DirEntry::file_name);
        names.all(|name| ours.iter().any(|ours| name == *ours))
    })
}

/// Gives a manifest the digest of the initial model that its run has begun with, so that the run goes on
/// whatever has become of the original. `folders` are those that the run may be in.
pub fn recall(manifest: &mut TrainingJob, folders: impl Iterator<Item = PathBuf>) {
    let Some(initial) = &manifest.spec.initial_model else {
        return;
    };
    if initial.model_sha256.is_some() {
        return;
    }
    let begun = |folder: PathBuf| {
        let begun = Job::from_json(&job_file(&folder).ok()?).ok()?;
        let recorded = begun
            .manifest
            .spec
            .initial_model
            .filter(|recorded| recorded.uri == initial.uri)?;
        let mut ours = manifest.clone();
        ours.spec.initial_model = Some(recorded.clone());
        let ours = Job::new(ours, DEFAULTS).ok()?;
        (ours.spec_digest == begun.spec_digest && ours.name == begun.name).then_some(recorded)
    };
    let mut found: Vec<_> = folders
        .take_while(|folder| folder.exists())
        .filter_map(begun)
        .collect();
    found.dedup();
    // Of several, the original says which is meant.
    if let [recorded] = &found[..] {
        manifest.spec.initial_model = Some(recorded.clone());
    }
}

/// The text of the job file that a run has left in its folder.
fn job_file(folder: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = open_regular(&folder.join(JOB_FILE))?;
    file.take(JOB_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// Checks that a job does not begin from what is in `folder`, which is to be overwritten.
///
/// # Errors
/// [`BadInput`] if it does.
pub fn check_not_overwritten(folder: &Path, job: &Job, base: &Path) -> Result<()> {
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
    Checkpoint(Box<Source>),
}

impl Initial {
    fn find(place: &Location) -> Result<Self> {
        let files = place.fetch(&[artifact::MODEL])?;
        match files.path().join(artifact::MODEL).is_file() {
            true => Ok(Initial::Artifact(place.clone())),
            false => Ok(Initial::Checkpoint(Box::new(Source::of(place)?))),
        }
    }

    fn sha256(&self) -> Result<String> {
        match self {
            Initial::Artifact(place) => {
                let files = place.fetch(&[artifact::MODEL])?;
                Ok(artifact::model(files.path())?.model_sha256)
            }
            Initial::Checkpoint(found) => match &found.newest.model_sha256 {
                Some(known) => Ok(known.clone()),
                None => Ok(self.read()?.model.model_sha256),
            },
        }
    }

    fn read(&self) -> Result<ModelFiles> {
        match self {
            Initial::Artifact(place) => {
                let files =
                    place.fetch(&[artifact::MODEL, artifact::PARAMETERS, artifact::PROVENANCE])?;
                check_description(files.path())?;
                ModelFiles::read(files.path())
            }
            Initial::Checkpoint(found) => {
                let job = Job::from_value(found.newest.spec.clone())?;
                ModelFiles::of_checkpoint(&job, found.log.storage().as_ref(), &found.newest)
            }
        }
    }
}

/// Checks that `model.json` is as it was written: `modelSha256` is of the parameters alone, and what they mean is
/// there.
fn check_description(artifact: &Path) -> Result<()> {
    let provenance = artifact::provenance(artifact)?;
    let (_, found) = artifact::digest(&artifact.join(artifact::MODEL))?;
    let recorded = provenance.files.get(artifact::MODEL);
    if recorded.is_some_and(|recorded| recorded.sha256 != found) {
        bail!(BadInput(format!(
            "{} was changed since it was exported: export it again",
            artifact::MODEL
        )));
    }
    Ok(())
}

/// The result of a log, or its newest checkpoint.
fn newest(log: &Log) -> Result<&Manifest> {
    let loadable = log.result_or_newest(Check::Sizes)?;
    let none = || BadInput("there is no checkpoint yet: train it first".into());
    Ok(loadable.ok_or_else(none)?.manifest)
}

/// Where `uri` leads. A bucket is looked for in the store of the checkpoints, else in that of the data, else in the
/// environment's.
fn locate(field: &str, uri: &str, base: &Path, spec: &TrainingJobSpec) -> Result<Location> {
    if !Address::is_meant(uri) {
        let path = base.join(uri);
        if path.is_dir() {
            return Ok(Location::Folder(path));
        }
        let shown = path.display();
        bail!(BadInput(match path.exists() {
            true => format!("{field}: {shown} is a file: give the folder that it is in"),
            false if Path::new(uri).is_dir() => format!(
                "{field}: there is no folder {shown}, for relative paths begin at the manifest's folder; there is one \
                 in the current folder: give its absolute path, or its path from the manifest"
            ),
            false => format!(
                "{field}: there is no folder {shown}: check the path, which begins at the manifest's folder"
            ),
        }));
    }
    places::credentials(field)?;
    let address = uri.parse();
    let address = address.map_err(|error| BadInput(format!("{field}: {uri}: {error}")))?;
    Ok(Location::S3(address, places::runs_connection(spec)))
}

/// Checks that a job's model takes the parameters of another, and its data that one's rows.
fn check_fit(job: &Job, model: &ModelFile) -> Result<()> {
    if model.task != job.task {
        bail!(BadInput(
            "it was trained for another task: spec.task must be the same".into()
        ));
    }
    let (theirs, ours) = (&model.architecture, &job.manifest.spec.model);
    if without_dropout(theirs) != without_dropout(ours) {
        let [theirs, ours] = [theirs, ours].map(serde_json::to_string);
        bail!(BadInput(format!(
            "its model is {}, and spec.model is {}: make them the same (dropout may differ)",
            theirs?, ours?
        )));
    }
    Ok(())
}

/// What of an architecture decides what the parameters mean.
fn without_dropout(model: &api::Model) -> api::Model {
    let mut model = model.clone();
    match &mut model {
        api::Model::Mlp(mlp) => mlp.dropout = 0.0,
        api::Model::Cnn(cnn) => cnn.dropout = 0.0,
    }
    model
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
        "it is of a job with other settings ({}): set them as there to go on; to begin anew with its parameters, set \
         spec.initialModel instead of spec.resumeFrom",
        differences.join("; ")
    )))
}

/// An error that says which field names the place. Unless another attempt may succeed, it is the user's to
/// mend.
fn of_field(field: &str, uri: &str, error: anyhow::Error) -> anyhow::Error {
    match exit::of_error(&error) {
        ExitCode::TryAgain => error.context(format!("{field}: {uri}")),
        _ => BadInput(format!("{field}: {uri}: {error:#}")).into(),
    }
}
