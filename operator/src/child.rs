//! The objects of a job that are not pods.

use crate::resources;

/// An object of a job that is not a pod.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildObject {
    /// The ConfigMap with the resolved job.
    Config,
    /// The headless Service.
    Headless,
    /// The coordinator's Service.
    Coordinator,
    /// The NetworkPolicy.
    Policy,
}

impl ChildObject {
    /// All of them, in the order in which they are made.
    pub const ALL: [ChildObject; 4] = [
        ChildObject::Config,
        ChildObject::Headless,
        ChildObject::Coordinator,
        ChildObject::Policy,
    ];

    /// Whether it is made once and never changed after. What pods are told to train must not change under them: another
    /// operator might write the job file otherwise.
    pub fn is_fixed(self) -> bool {
        match self {
            ChildObject::Config => true,
            ChildObject::Headless | ChildObject::Coordinator | ChildObject::Policy => false,
        }
    }

    /// Its kind in the API.
    pub fn kind(self) -> &'static str {
        match self {
            ChildObject::Config => "ConfigMap",
            ChildObject::Headless | ChildObject::Coordinator => "Service",
            ChildObject::Policy => "NetworkPolicy",
        }
    }

    /// Its name.
    pub fn name(self, job: &str) -> String {
        match self {
            ChildObject::Config => resources::config_name(job),
            ChildObject::Coordinator => resources::coordinator_name(job),
            ChildObject::Headless | ChildObject::Policy => job.into(),
        }
    }
}

/// A child object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Child {
    /// It belongs to the job.
    Ours {
        /// `metadata.uid`.
        uid: String,
        /// Whether it is as it should be.
        current: bool,
    },
    /// It belongs to somebody else, and has the name.
    Foreign,
}
