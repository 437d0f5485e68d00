//! What the watches have brought of the jobs' pods and other objects, by the job that owns them.
//!
//! Whole pods would fill the memory with what nobody reads; a [`PodSeen`] is kept instead.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use crate::observed::PodSeen;

/// Objects by owner and name, as one kind's watch brings them.
pub struct Index<K, V> {
    inner: Mutex<Inner<K, V>>,
    /// Whether the watch has brought all that was there when it began.
    listed: watch::Sender<bool>,
}

struct Inner<K, V> {
    current: HashMap<Owner, BTreeMap<K, V>>,
    /// Fills up while a watch begins anew, and then takes the place of `current`.
    next: Option<HashMap<Owner, BTreeMap<K, V>>>,
}

/// The pods of all jobs, by their names.
pub type Pods = Index<String, PodSeen>;
/// Digests of what was applied to the other objects of all jobs, by their names. One index holds one kind: each watch begins
/// anew by itself.
pub type Parts = Index<String, String>;

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Index {
            inner: Mutex::new(Inner {
                current: HashMap::new(),
                next: None,
            }),
            listed: watch::Sender::new(false),
        }
    }
}

impl<K: Ord + Clone + Hash, V: Clone> Index<K, V> {
    /// Takes in an event of a watch. `entry` tells owner, key and value of an object; none leaves it out. Returns the
    /// owners that the event concerns.
    pub fn apply<O>(
        &self,
        event: &Event<O>,
        entry: impl Fn(&O) -> Option<(Owner, K, V)>,
    ) -> Vec<Owner> {
        let mut inner = self.lock();
        match event {
            Event::Init => {
                inner.next = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let (Some((owner, key, value)), Some(next)) = (entry(object), &mut inner.next) {
                    next.entry(owner).or_default().insert(key, value);
                }
                Vec::new()
            }
            Event::InitDone => {
                let next = inner.next.take().unwrap_or_default();
                let mut owners: Vec<Owner> =
                    inner.current.keys().chain(next.keys()).cloned().collect();
                owners.sort_unstable();
                owners.dedup();
                inner.current = next;
                self.listed.send_replace(true);
                owners
            }
            Event::Apply(object) => match entry(object) {
                Some((owner, key, value)) => {
                    inner
                        .current
                        .entry(owner.clone())
                        .or_default()
                        .insert(key, value);
                    vec![owner]
                }
                None => Vec::new(),
            },
            Event::Delete(object) => match entry(object) {
                Some((owner, key, _)) => {
                    if let Some(objects) = inner.current.get_mut(&owner) {
                        objects.remove(&key);
                        if objects.is_empty() {
                            inner.current.remove(&owner);
                        }
                    }
                    vec![owner]
                }
                None => Vec::new(),
            },
        }
    }

    /// Ready once the first list is complete. What an index lacks before that says nothing.
    pub async fn listed(&self) {
        // The sender lives as long as the index: there is no error.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// The objects of an owner.
    pub fn of(&self, owner: &Owner) -> BTreeMap<K, V> {
        self.lock().current.get(owner).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> Owner {
        Owner {
            uid: uid.into(),
            name: format!("job-{uid}"),
            namespace: "default".into(),
        }
    }

    fn entry(object: &(&str, u32)) -> Option<(Owner, u32, u32)> {
        Some((owner(object.0), object.1, object.1 * 10))
    }

    #[test]
    fn a_watch_that_begins_anew_replaces_all_at_once_and_names_who_lost_something() {
        let (a, b) = (owner("a"), owner("b"));
        let index = Index::<u32, u32>::default();
        assert_eq!(
            index.apply(&Event::Apply(("a", 1)), entry),
            std::slice::from_ref(&a)
        );
        assert_eq!(index.apply(&Event::Init, entry), []);
        assert_eq!(index.apply(&Event::InitApply(("b", 2)), entry), []);
        assert_eq!(index.of(&a), BTreeMap::from([(1, 10)]));
        assert_eq!(index.of(&b), BTreeMap::new());
        assert_eq!(index.apply(&Event::InitDone, entry), [a.clone(), b.clone()]);
        assert_eq!(index.of(&a), BTreeMap::new());
        assert_eq!(index.of(&b), BTreeMap::from([(2, 20)]));
        assert_eq!(
            index.apply(&Event::Delete(("b", 2)), entry),
            std::slice::from_ref(&b)
        );
        assert_eq!(index.of(&b), BTreeMap::new());
    }
}
