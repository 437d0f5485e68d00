//! `trainyard run`: real server and worker processes on this machine.

mod earlier;
pub mod end;
mod finisher;
mod folder;
mod memory;
mod observer;
mod origin;
mod places;
pub mod policy;
pub mod process;
mod pulse;
mod sockets;
mod stuck;
mod supervisor;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use trainyard_contract::DEFAULTS;
use trainyard_contract::pod::JOB_FILE;
use trainyard_core::manifest::{CoordinatorState, Manifest};
use trainyard_crds::TrainingJob;
use trainyard_crds::manifest::MAX_BYTES;
use trainyard_crds::training_job as api;
use trainyard_object::Address;
use trainyard_runtime::exit::{BadInput, ExitCode};
use trainyard_runtime::job::Job;
use trainyard_runtime::signals::{self, Termination};
use trainyard_runtime::storage::Location;

use crate::ui::{Note, Summary, Ui};
use finisher::{Exported, Finisher};
use folder::{Folder, elsewhere};
use places::Checkpoints;
use supervisor::{Over, Supervisor};

/// What carries data and control between the processes of a run. `/status`, `/healthz` and `/metrics` are
/// on loopback TCP in any case.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// Unix sockets in a folder that other users of the machine cannot enter.
    #[default]
    Unix,
    /// TCP on loopback, which any user of the machine can reach.
    Tcp,
}

/// What `trainyard run` is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The manifest.
    pub file: PathBuf,
    /// Changes to it, `path=value`.
    pub set: Vec<String>,
    /// Workers, instead of the manifest's.
    pub workers: Option<u32>,
    /// Servers, instead of the manifest's.
    pub servers: Option<u32>,
    /// The run's folder, instead of `runs/NAME`.
    pub out: Option<PathBuf>,
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// Delete what an earlier run has left in the folder.
    pub overwrite: bool,
    /// Threads of a worker; the cores shared evenly if none.
    pub threads: Option<usize>,
    /// Bulk connections of a worker to each server, in each direction.
    pub connections: u32,
    /// What carries data and control.
    pub transport: Transport,
    /// File with the servers' key, instead of a random one.
    pub key_file: Option<String>,
    /// The command line of this process, the program first.
    pub arguments: Vec<OsString>,
}

const RESUME: &str = "--resume";
const OVERWRITE: &str = "--overwrite";

/// Reads a manifest as `run` does, for a new job.
///
/// # Errors
/// [`BadInput`] with file, line, column, path and remedy.
pub fn read_job(file: &Path, set: &[String]) -> Result<Job> {
    let mut manifest = read_manifest(file, set)?;
    origin::identify(&mut manifest, &folder_of(file))?;
    Job::new(manifest, DEFAULTS)
}

fn read_manifest(file: &Path, set: &[String]) -> Result<TrainingJob> {
    let name = file.display().to_string();
    let bytes =
        read_file(file).map_err(|error| BadInput(format!("{name} cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        BadInput(format!(
            "{name} is not UTF-8: the first wrong byte is at offset {}",
            error.utf8_error().valid_up_to()
        ))
    })?;
    let manifest = trainyard_crds::manifest::read_with(&name, &text, set);
    Ok(manifest.map_err(|errors| BadInput(errors.to_string()))?)
}

/// A file that the user has named, or a pipe. Of one that is longer than any manifest, as much as shows that.
fn read_file(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    match bytes.len() > MAX_BYTES {
        // It may be cut within a character; what is wrong with it is its length.
        true => Ok(vec![b' '; bytes.len()]),
        false => Ok(bytes),
    }
}

/// Where relative paths of a manifest begin.
fn folder_of(manifest: &Path) -> PathBuf {
    match manifest.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Runs a job to its end.
///
/// # Errors
/// [`BadInput`] for what the user must mend, anything else if the job has failed.
pub fn run(mut options: Options, ui: &mut Ui) -> Result<ExitCode> {
    let begin = Instant::now();
    // Storage may be slow or away. What is half done here is done again by the next run.
    let termination = signals::termination()?;
    termination.leave_at_once(ExitCode::Interrupted);
    let mut manifest = read_manifest(&options.file, &options.set)?;
    let base = Path::new("runs").join(manifest.metadata.name.as_deref().unwrap_or_default());
    if options.resume {
        match &options.out {
            Some(out) => origin::recall(&mut manifest, std::iter::once(out.clone())),
            None => origin::recall(&mut manifest, folder::candidates(&base)),
        }
    }
    origin::identify(&mut manifest, &folder_of(&options.file))?;
    let job = Job::new(manifest, DEFAULTS)?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None if options.overwrite => base,
        None => folder::choose(&base, &job, options.resume),
    };
    if out.to_str().is_some_and(Address::is_meant) {
        return Err(BadInput(format!(
            "--out is a folder of this machine, not {}: checkpoints in a bucket are spec.checkpoint.storage.s3",
            out.display()
        ))
        .into());
    }
    for message in without_effect(&job) {
        ui.note(&Note::Warning { message });
    }
    options.out = Some(out.clone());
    let folder = Folder::open(&out)?;
    if earlier::exists(&folder.path) {
        settle(&folder, false)?; // whoever set something aside has been killed
    }
    let checkpoints = Checkpoints::open(&job, &folder.path)?;
    if options.overwrite {
        checkpoints.may_be_overwritten()?;
        origin::check_not_overwritten(&folder.path, &job, &folder_of(&options.file))?;
        earlier::set_aside(&folder.path)?;
    } else if checkpoints.are_abandoned(&job) {
        folder.clear_log()?; // of a manifest that was changed since
    }
    let ended = train(
        &options,
        job,
        (&folder, &checkpoints),
        begin,
        (&termination, ui),
    );
    let done = matches!(ended, Ok(ExitCode::Done));
    if earlier::exists(&folder.path) && !settle(&folder, done)? {
        let message = "nothing was saved, so the run that was to be overwritten is back".into();
        ui.note(&Note::Warning { message });
    }
    ended
}

/// What of a manifest only a cluster can do.
fn without_effect(job: &Job) -> Vec<String> {
    let spec = &job.manifest.spec;
    let limits = |settings: &api::PodSettings| {
        let resources = settings.resources.as_ref();
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        limits.is_some_and(|limits| limits.keys().any(|name| name.ends_with("/gpu")))
    };
    let gpus = limits(&spec.workers.pod) || limits(&spec.servers.pod);
    let fields = [
        (spec.suspend, "spec.suspend"),
        (
            spec.active_deadline_seconds.is_some(),
            "spec.activeDeadlineSeconds",
        ),
        (gpus, "a GPU in resources"),
    ];
    let set = fields.into_iter().filter(|(set, _)| *set);
    set.map(|(_, name)| format!("{name} has no effect in a local run"))
        .collect()
}

/// What was overwritten comes back if nothing has taken its place. Checkpoints imported from another job do not
/// count. Returns whether something has.
fn settle(folder: &Folder, done: bool) -> Result<bool> {
    let replaced = done || folder::has_trained(&folder.path);
    match replaced {
        true => earlier::delete(&folder.path)?,
        false => earlier::put_back(&folder.path)?,
    }
    Ok(replaced)
}

/// Trains in a folder that is ready for it.
fn train(
    options: &Options,
    job: Job,
    (folder, checkpoints): (&Folder, &Checkpoints),
    begin: Instant,
    (termination, ui): (&Termination, &mut Ui),
) -> Result<ExitCode> {
    let out = options.out.as_deref().unwrap_or(&folder.path);
    let log = checkpoints.log(&job)?;
    let has_begun = origin::has_begun(&log);
    let base = folder_of(&options.file);
    let (log, told) = origin::bring_checkpoint(&job, &base, (folder, checkpoints), log)?;
    if let Some(message) = told {
        ui.note(&Note::Warning { message });
    }
    let job = match log.latest() {
        Some(latest) => &job.as_begun(latest),
        None => &job,
    };
    if options.resume && log.latest().is_none() {
        ui.note(&Note::Warning {
            message: format!(
                "there is nothing to resume in {}: the job begins at its first step",
                shown(checkpoints, out)
            ),
        });
    }
    if let Some(latest) = log.latest().filter(|_| has_begun && !options.resume) {
        let (place, step) = (shown(checkpoints, out), latest.step);
        let elsewhere = elsewhere(&checkpoints.location);
        let message = match log.complete() {
            None => format!(
                "{place} already holds a run of this job up to step {step}: go on with --resume, or {elsewhere}"
            ),
            Some(_) => format!(
                "{place} already holds this job, which is complete: to train it again, {elsewhere}"
            ),
        };
        return Err(BadInput(message).into());
    }
    if log.complete().is_some() {
        let message = "the job is complete already: nothing is trained".into();
        ui.note(&Note::Warning { message });
    }
    folder.write(JOB_FILE, &job.to_json()?)?;
    let finisher = Finisher::new(folder.path.join(JOB_FILE))?;
    if log.complete().is_none() {
        let initial_model = origin::bring_model(job, &base, &folder.path)?;
        let places = (folder, checkpoints, &finisher.program);
        let outside = (termination, &mut *ui);
        let mut supervisor = Supervisor::new(options, job, places, initial_model, &log, outside)?;
        let end = supervisor.supervise();
        supervisor.dismiss(end.is_ok());
        let (step, total) = (supervisor.progress.step, supervisor.progress.total_steps);
        drop(supervisor);
        if !termination.requested() {
            termination.leave_at_once(ExitCode::Interrupted); // nothing is left to be saved
        }
        match end? {
            Over::Done => {}
            Over::Stopped if checkpoints.log(job)?.complete().is_some() => {}
            Over::Stopped => {
                let saved = checkpoints
                    .log(job)?
                    .latest()
                    .is_some_and(|manifest| manifest.step == step);
                ui.stopped(step, total, saved, &resume_command(&options.arguments));
                return Ok(ExitCode::Interrupted);
            }
        }
    }
    let log = checkpoints.log(job)?;
    let manifest = log
        .complete()
        .context("the job has ended without a complete checkpoint")?;
    let place = shown(checkpoints, out);
    let exported = finish(&finisher, folder, checkpoints, termination).with_context(|| {
        format!(
            "the job is complete and its checkpoint is in {place}, but the artifact cannot be exported \
             (fix this, then go on with {})",
            resume_command(&options.arguments)
        )
    })?;
    if exported == Exported::Stopped {
        let total = job.plan(manifest.facts.train_rows)?.total_steps();
        let resume = resume_command(&options.arguments);
        ui.stopped(manifest.step, total, true, &resume);
        return Ok(ExitCode::Interrupted);
    }
    ui.finished(&summary(job, manifest, &place, begin.elapsed())?);
    Ok(ExitCode::Done)
}

/// Has the artifact exported; what the finisher says is in `logs/finisher.log`.
fn finish(
    finisher: &Finisher,
    folder: &Folder,
    checkpoints: &Checkpoints,
    termination: &Termination,
) -> Result<Exported> {
    let mut log = File::options()
        .create(true)
        .append(true)
        .open(folder.path.join("logs/finisher.log"))?;
    let env = checkpoints.env();
    finisher.run(&checkpoints.location, &env, &mut log, termination)
}

/// Where the checkpoints are, in the user's words.
fn shown(checkpoints: &Checkpoints, out: &Path) -> Location {
    match &checkpoints.location {
        Location::Folder(_) => Location::Folder(out.to_owned()),
        elsewhere => elsewhere.clone(),
    }
}

/// The command line that goes on with a run: the one that began it, with `--resume`, quoted so that it
/// can be pasted into a shell.
fn resume_command(arguments: &[OsString]) -> String {
    let words = arguments.iter().map(|word| word.to_string_lossy());
    let mut words: Vec<_> = words
        .filter(|word| word != RESUME && word != OVERWRITE)
        .collect();
    // Behind `--` it would be another file.
    let end = words.iter().position(|word| word == "--");
    words.insert(end.unwrap_or(words.len()), RESUME.into());
    // Only a NUL cannot be quoted, and no argument has one.
    let quoted = words.iter().filter_map(|word| shlex::try_quote(word).ok());
    quoted.collect::<Vec<_>>().join(" ")
}

fn summary(job: &Job, manifest: &Manifest, place: &Location, elapsed: Duration) -> Result<Summary> {
    let CoordinatorState { record, metrics } = manifest.coordinator.clone();
    let plan = job.plan(manifest.facts.train_rows)?;
    let epochs = plan.position(record.step).epoch;
    let best = job.early_stopping().filter(|early| early.restore_best);
    let best = best.and(record.best.as_ref()).map(|best| best.epoch);
    Ok(Summary {
        job: job.name.clone(),
        steps: record.step,
        epochs,
        stopped_early: record.stopped_early,
        model_epoch: best.unwrap_or(epochs.saturating_sub(1)),
        positive: manifest.facts.schema.positive().map(str::to_owned),
        metrics: metrics.context("the final checkpoint has no metrics")?,
        model_sha256: manifest.model_sha256.clone().unwrap_or_default(),
        artifact: place.artifact().to_string(),
        checkpoint: place.to_string(),
        elapsed_seconds: elapsed.as_secs_f64(),
    })
}

/// The job in a few words, such as `binary classification, mlp 128-64-32`.
fn describe(job: &Job) -> String {
    use trainyard_core::metrics::Task;
    use trainyard_crds::training_job::Model;
    let task = match job.task {
        Task::Binary => "binary classification",
        Task::Multiclass => "multiclass classification",
        Task::Regression => "regression",
    };
    let join = |widths: Vec<String>| widths.join("-");
    let model = match &job.manifest.spec.model {
        Model::Mlp(mlp) => format!(
            "mlp {}",
            join(mlp.hidden.iter().map(u32::to_string).collect())
        ),
        Model::Cnn(cnn) => format!(
            "cnn {}",
            join(cnn.blocks.iter().map(|b| b.channels.to_string()).collect())
        ),
    };
    format!("{task}, {model}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t25_the_command_that_resumes_can_be_pasted_and_loses_no_option() {
        let command = |line: &str| {
            let words = shlex::split(line).expect("a command line");
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            resume_command(&words)
        };
        let same = "bin/trainyard run 'my data/my job.yaml' --out 'out dir' --servers 2 --set 'spec.x={a: \"b\"}'";
        assert_eq!(command(same), format!("{same} --resume"));
        let resumed = format!("{same} --resume");
        assert_eq!(command(&resumed), resumed, "once");
        assert_eq!(command(&format!("{same} --overwrite")), resumed);
        assert_eq!(
            command("trainyard run -- --odd.yaml"),
            "trainyard run --resume -- --odd.yaml"
        );
        assert_eq!(
            command("trainyard run it\\'s.yaml"),
            "trainyard run \"it's.yaml\" --resume"
        );
    }
}
