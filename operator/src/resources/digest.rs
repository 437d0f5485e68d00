//! The digest by which an object tells that it is as the operator last applied it, without a comparison field by field.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::job::Job;
use crate::observe::ChildObject;

/// Bytes of the digest that are kept.
const LENGTH: usize = 8;

/// The digest of an object, before it carries one.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn digest(object: &impl Serialize) -> serde_json::Result<String> {
    let bytes = serde_json::to_vec(object)?;
    Ok(base16ct::lower::encode_string(
        &Sha256::digest(bytes)[..LENGTH],
    ))
}

/// Digest of a child object as it should be, with the Service in front of server 0 leading to its pod
/// `coordinator_attempt`.
///
/// # Errors
/// Never for a job that was decoded.
pub fn of_child(
    job: &Job,
    child: ChildObject,
    coordinator_attempt: u32,
) -> serde_json::Result<String> {
    match child {
        ChildObject::Config => digest(&super::config_map(job)?),
        ChildObject::Headless => digest(&super::headless(job)),
        ChildObject::Coordinator => digest(&super::coordinator(job, coordinator_attempt)),
        ChildObject::Policy => digest(&super::network_policy(job)),
    }
}
