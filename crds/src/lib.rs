//! The Trainyard API as Rust types: `TrainingJob` of group `trainyard.dev`, version `v1alpha1`, with its schema, defaults and CEL rules, and a
//! reader of manifest files that judges as the Kubernetes API server would.
//!
//! There is no client here and no I/O: everything else in the workspace depends on this crate.
//!
//! The schema that users install is made from these types by [`schema::crds`]; the copy in `crds/yaml/` is checked to be current by a test.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

#[cfg(feature = "manifest")]
pub mod manifest;
mod rules;
pub mod schema;
pub mod training_job;

pub use rules::MAX_NAME;
pub use training_job::{TrainingJob, TrainingJobSpec, TrainingJobStatus};

/// API group of every kind in this crate.
pub const GROUP: &str = "trainyard.dev";
/// Version of the API that this crate holds.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every object of this crate.
pub const API_VERSION: &str = "trainyard.dev/v1alpha1";
/// `kind` of a [`TrainingJob`].
pub const KIND: &str = "TrainingJob";

#[cfg(test)]
mod tests {
    use kube::Resource;

    use super::*;

    #[test]
    fn the_constants_are_those_of_the_resource() {
        assert_eq!(API_VERSION, format!("{GROUP}/{VERSION}"));
        assert_eq!(TrainingJob::api_version(&()), API_VERSION);
        assert_eq!(TrainingJob::kind(&()), KIND);
    }
}
