//! Whose an object is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::runtime::reflector::ObjectRef;

/// The job that an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl Owner {
    /// The TrainingJob that controls an object, if one does.
    pub fn of(metadata: &ObjectMeta) -> Option<Owner> {
        let controls = |owner: &&OwnerReference| {
            owner.controller == Some(true)
                && owner.kind == "TrainingJob"
                && is_ours(&owner.api_version)
        };
        let owner = metadata.owner_references.iter().flatten().find(controls)?;
        Some(Owner {
            uid: owner.uid.clone(),
            name: owner.name.clone(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
        })
    }

    /// A reference for the queue.
    pub fn reference<K>(&self) -> ObjectRef<K>
    where
        K: Resource<DynamicType = ()>,
    {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

fn is_ours(api_version: &str) -> bool {
    api_version
        .split_once('/')
        .is_some_and(|(group, _)| group == trainyard_crds::GROUP)
}
