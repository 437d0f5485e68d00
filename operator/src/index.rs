//! What the watches have brought of the jobs' pods and other objects, by the job that owns them.
//!
//! Whole pods would fill the memory with what nobody reads; a [`PodSeen`] is kept instead.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use crate::observe::PodSeen;
use crate::owner::Owner;
use crate::resources::labels;

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

impl<K: Ord, V> Inner<K, V> {
    /// Says whether it was there.
    fn remove(&mut self, owner: &Owner, key: &K) -> bool {
        let Some(objects) = self.current.get_mut(owner) else {
            return false;
        };
        let there = objects.remove(key).is_some();
        if objects.is_empty() {
            self.current.remove(owner);
        }
        there
    }

    fn remove_from_all(&mut self, namespace: &str, key: &K) -> Vec<Owner> {
        let has = |(owner, objects): &(&Owner, &BTreeMap<K, V>)| {
            owner.namespace == namespace && objects.contains_key(key)
        };
        let found = self.current.iter().filter(has);
        let owners: Vec<Owner> = found.map(|(owner, _)| owner.clone()).collect();
        for owner in &owners {
            self.remove(owner, key);
        }
        owners
    }
}

/// What an object is to an index.
pub struct Entry<K, V> {
    /// The object's namespace.
    pub namespace: String,
    /// What tells it from others in its namespace.
    pub key: K,
    /// Whose it is, and what is kept of it; none if it is nobody's.
    pub owned: Option<(Owner, V)>,
}

/// The pods of all jobs, by their names.
pub type Pods = Index<String, PodSeen>;
/// The other objects of all jobs, by their names. One index holds one kind: each watch begins anew by itself.
pub type ChildObjects = Index<String, Applied>;

/// What is kept of a child object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// `metadata.uid`.
    pub uid: String,
    /// Digest of what the operator last applied.
    pub digest: String,
}

impl Applied {
    /// As an object's metadata have it.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let annotations = metadata.annotations.as_ref();
        let digest = annotations.and_then(|all| all.get(labels::APPLIED));
        Applied {
            uid: metadata.uid.clone().unwrap_or_default(),
            digest: digest.cloned().unwrap_or_default(),
        }
    }
}

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
    /// Takes in an event of a watch. `entry` tells what an object is to the index. Returns the owners that the event
    /// concerns.
    pub fn apply<O>(&self, event: &Event<O>, entry: impl Fn(&O) -> Entry<K, V>) -> Vec<Owner> {
        let mut inner = self.lock();
        match event {
            Event::Init => {
                inner.next = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let entry = entry(object);
                if let (Some((owner, value)), Some(next)) = (entry.owned, &mut inner.next) {
                    next.entry(owner).or_default().insert(entry.key, value);
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
            Event::Apply(object) => {
                let entry = entry(object);
                match entry.owned {
                    Some((owner, value)) => {
                        let objects = inner.current.entry(owner.clone()).or_default();
                        objects.insert(entry.key, value);
                        vec![owner]
                    }
                    // Somebody may have taken its owner away.
                    None => inner.remove_from_all(&entry.namespace, &entry.key),
                }
            }
            Event::Delete(object) => {
                let entry = entry(object);
                match entry.owned {
                    Some((owner, _)) => {
                        inner.remove(&owner, &entry.key);
                        vec![owner]
                    }
                    None => inner.remove_from_all(&entry.namespace, &entry.key),
                }
            }
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

    fn entry(object: &(&str, u32)) -> Entry<u32, u32> {
        let owned = (!object.0.is_empty()).then(|| (owner(object.0), object.1 * 10));
        Entry {
            namespace: "default".into(),
            key: object.1,
            owned,
        }
    }

    #[test]
    fn an_object_that_loses_its_owner_is_gone() {
        let a = owner("a");
        let index = Index::<u32, u32>::default();
        index.apply(&Event::Apply(("a", 1)), entry);
        index.apply(&Event::Apply(("a", 2)), entry);
        assert_eq!(
            index.apply(&Event::Apply(("", 1)), entry),
            std::slice::from_ref(&a)
        );
        assert_eq!(index.of(&a), BTreeMap::from([(2, 20)]));
        assert_eq!(index.apply(&Event::Delete(("", 1)), entry), []);
        assert_eq!(
            index.apply(&Event::Delete(("", 2)), entry),
            std::slice::from_ref(&a)
        );
        assert_eq!(index.of(&a), BTreeMap::new());
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
