//! Where the pieces of a local run are: its folder, its checkpoints, its data.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use trainyard_checkpoint::{Log, Storage};
use trainyard_crds::TrainingJobSpec;
use trainyard_crds::training_job as api;
use trainyard_data::{Files, HeldOut};
use trainyard_object::{Address, Connection, has_credentials};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::files::{self, Sources};
use trainyard_runtime::job::Job;
use trainyard_runtime::storage::Location;

use super::folder;

/// The checkpoints of a job.
pub struct Checkpoints {
    /// Where they are.
    pub location: Location,
    storage: Arc<dyn Storage>,
}

impl Checkpoints {
    /// Opens the place that a job names, or `folder` if it names none that a local run can use.
    ///
    /// # Errors
    /// [`BadInput`] if the store lacks what is needed, or there are no credentials for it.
    pub fn open(job: &Job, folder: &Path) -> Result<Self> {
        let location = match &job.manifest.spec.checkpoint.storage {
            Some(api::Storage::S3(s3)) => {
                credentials("spec.checkpoint.storage.s3")?;
                let address = Address {
                    bucket: s3.bucket.clone(),
                    key: s3.prefix.clone(),
                };
                // The API does not know the rules of keys.
                let address: Address = address.to_string().parse().map_err(BadInput)?;
                let connection = connection(&s3.endpoint, &s3.region);
                Location::S3(address.join(&job.name), connection)
            }
            Some(api::Storage::Volume(_)) | None => Location::Folder(folder.to_owned()),
        };
        let storage = location.open()?;
        Ok(Checkpoints { location, storage })
    }

    /// Whether what is here can be deleted for a new run.
    ///
    /// # Errors
    /// [`BadInput`] if it is in a bucket: others may be using it.
    pub fn may_be_overwritten(&self) -> Result<()> {
        match &self.location {
            Location::Folder(_) => Ok(()),
            Location::S3(..) => bail!(BadInput(format!(
                "--overwrite deletes no checkpoints in a bucket: {}",
                folder::elsewhere(&self.location)
            ))),
        }
    }

    /// Whether another job has begun here, in a folder that is this run's, and has saved nothing.
    pub fn are_abandoned(&self, job: &Job) -> bool {
        match &self.location {
            Location::Folder(path) => folder::is_abandoned(path, job),
            Location::S3(..) => false,
        }
    }

    /// The commit log.
    ///
    /// # Errors
    /// If another job is there.
    pub fn log(&self, job: &Job) -> Result<Log> {
        folder::log(&self.storage, &self.location, job)
    }

    /// The environment in which servers find the store.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        match &self.location {
            Location::Folder(_) => Vec::new(),
            Location::S3(_, connection) => connection.env(),
        }
    }
}

/// The store of a job's data; tried out, so that what is missing is told before anything is started.
///
/// # Errors
/// [`BadInput`] if a file or an object is missing, or there are no credentials.
pub fn data(job: &Job, folder: &Path) -> Result<Connection> {
    let connection = data_connection(job.manifest.spec.data.s3.as_ref());
    let sources = Sources::new(folder, connection.clone());
    for (_, uri) in job.manifest.spec.data.uris() {
        if Address::is_meant(uri) {
            credentials(uri)?;
        }
    }
    let options = job.load_options()?;
    let held_out = [&options.validation, &options.test].map(HeldOut::source);
    for source in held_out.into_iter().flatten().chain([&options.train]) {
        for file in source.first_files(&sources).map_err(files::failed)? {
            let opened = sources.open(&file);
            drop(opened.map_err(|error| files::unopened(&file, error))?);
        }
    }
    Ok(connection)
}

/// The store in which other runs are looked for: that of the checkpoints, else that of the data.
pub fn runs_connection(spec: &TrainingJobSpec) -> Connection {
    match &spec.checkpoint.storage {
        Some(api::Storage::S3(s3)) => connection(&s3.endpoint, &s3.region),
        Some(api::Storage::Volume(_)) | None => data_connection(spec.data.s3.as_ref()),
    }
}

/// The store that `spec.data.s3` names, or the environment's.
fn data_connection(s3: Option<&api::S3Connection>) -> Connection {
    s3.map_or_else(Connection::default, |s3| {
        connection(&s3.endpoint, &s3.region)
    })
}

fn connection(endpoint: &Option<String>, region: &str) -> Connection {
    Connection {
        endpoint: endpoint.clone(),
        region: Some(region.to_owned()),
        credentials: None,
    }
}

/// Checks that there are credentials for what `what` names.
///
/// # Errors
/// [`BadInput`] if there are none.
pub fn credentials(what: &str) -> Result<()> {
    if !has_credentials() {
        bail!(BadInput(format!(
            "{what} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )));
    }
    Ok(())
}
