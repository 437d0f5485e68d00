//! The objects that a job consists of, built from it and nothing else: the same job gives the same bytes.

pub mod digest;
mod keys;
pub mod labels;
mod network;
mod pod;

pub use keys::keys;
pub use network::{config_map, coordinator, headless, network_policy};
pub use pod::pod;

use trainyard_contract::Member;
use trainyard_contract::pod::STORAGE_FOLDER;

use crate::job::Job;

/// User and group that the containers run as, unless the job says otherwise.
pub const USER: i64 = 65532;

/// Name of a member's pod.
pub fn pod_name(job: &str, member: Member, attempt: u32) -> String {
    format!("{job}-{member}-{attempt}")
}

/// Name of the Service in front of the coordinator.
pub fn coordinator_name(job: &str) -> String {
    format!("{job}-coordinator")
}

/// Name of the ConfigMap with the resolved job.
pub fn config_name(job: &str) -> String {
    format!("{job}-job")
}

/// Name of the Secret with the job's keys. A namesake of another job, deleted or not, has another: nobody looks whose it is.
pub fn keys_name(job: &Job) -> String {
    format!("{}-keys-{}", job.name, job.short_uid())
}

/// URI of a job's folder in its storage, as the pods see it.
pub fn storage_uri(job: &Job) -> String {
    match &job.storage {
        crate::job::StoragePlace::Volume(_) => format!("{STORAGE_FOLDER}/{}", job.folder()),
        crate::job::StoragePlace::S3(s3) => {
            let prefix = s3.prefix.trim_matches('/');
            let slash = if prefix.is_empty() { "" } else { "/" };
            format!("s3://{}/{prefix}{slash}{}", s3.bucket, job.folder())
        }
    }
}
