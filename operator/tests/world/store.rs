//! The objects of an API server, and the log of their changes from which watches are served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

/// An object as it is sent over the wire; never changed in place.
pub type Object = Arc<Value>;

/// A kind of objects.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub plural: &'static str,
    pub kind: &'static str,
    pub api_version: &'static str,
}

const fn kind(plural: &'static str, kind: &'static str, api_version: &'static str) -> Kind {
    Kind {
        plural,
        kind,
        api_version,
    }
}

pub static JOBS: Kind = kind("trainingjobs", "TrainingJob", "trainyard.dev/v1alpha1");
pub static PODS: Kind = kind("pods", "Pod", "v1");
pub static CONFIG_MAPS: Kind = kind("configmaps", "ConfigMap", "v1");
pub static CLAIMS: Kind = kind("persistentvolumeclaims", "PersistentVolumeClaim", "v1");
pub static EVENTS: Kind = kind("events", "Event", "events.k8s.io/v1");
pub static SERVICES: Kind = kind("services", "Service", "v1");
pub static SECRETS: Kind = kind("secrets", "Secret", "v1");
static POLICIES: Kind = kind("networkpolicies", "NetworkPolicy", "networking.k8s.io/v1");

/// All kinds that this server knows.
pub static KINDS: [&Kind; 8] = [
    &JOBS,
    &PODS,
    &CONFIG_MAPS,
    &CLAIMS,
    &EVENTS,
    &SERVICES,
    &SECRETS,
    &POLICIES,
];

/// What tells an object from all others of its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: &'static Kind,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        Key {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// A `metav1.Status` of a request that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub retry_after: Option<u32>,
}

impl Refusal {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Refusal {
            code,
            reason,
            message: message.into(),
            retry_after: None,
        }
    }

    pub fn body(&self) -> Value {
        let details = self
            .retry_after
            .map(|seconds| json!({"retryAfterSeconds": seconds}));
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": self.code,
            "reason": self.reason, "message": self.message, "details": details})
    }
}

/// One change of one object.
#[derive(Clone)]
pub struct Change {
    pub version: u64,
    pub at: Duration,
    pub key: Key,
    pub old: Option<Object>,
    pub new: Option<Object>,
}

impl Change {
    /// The object, as it is, or as it was at last.
    pub fn object(&self) -> &Object {
        static NULL: std::sync::OnceLock<Object> = std::sync::OnceLock::new();
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .unwrap_or_else(|| NULL.get_or_init(|| Arc::new(Value::Null)))
    }
}

/// Which part of an object a write replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Main,
    Status,
}

/// The objects.
#[derive(Default)]
pub struct Store {
    pub version: u64,
    uids: u64,
    pub objects: BTreeMap<Key, Object>,
    pub log: Vec<Change>,
    /// Watches from before this version are told that it is gone.
    pub compacted: u64,
}

impl Store {
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    pub fn of_kind(&self, kind: &'static Kind) -> impl Iterator<Item = &Object> {
        self.objects
            .iter()
            .filter(move |(key, _)| key.kind == kind)
            .map(|(_, object)| object)
    }

    pub fn create(
        &mut self,
        key: Key,
        mut object: Value,
        at: Duration,
        now: Timestamp,
    ) -> Result<Object, Refusal> {
        if self.objects.contains_key(&key) {
            let message = format!("{} {:?} already exists", key.kind.plural, key.name);
            return Err(Refusal::new(409, "AlreadyExists", message));
        }
        self.uids += 1;
        let metadata = &mut object["metadata"];
        metadata["namespace"] = key.namespace.clone().into();
        metadata["name"] = key.name.clone().into();
        metadata["uid"] = format!("{:08x}-0000-4000-8000-000000000000", self.uids).into();
        metadata["creationTimestamp"] = seconds(now).into();
        metadata["generation"] = 1.into();
        if key.kind == &JOBS {
            remove(&mut object, "status");
        }
        Ok(self.put(key, object, at))
    }

    /// Replaces an object's part; without a change there is no new version. Refuses versions that are not current.
    pub fn replace(
        &mut self,
        key: &Key,
        mut new: Value,
        part: Part,
        at: Duration,
    ) -> Result<Object, Refusal> {
        let Some(old) = self.objects.get(key).cloned() else {
            return Err(not_found(key));
        };
        let asked = new["metadata"]["resourceVersion"].as_str();
        if asked.is_some_and(|version| old["metadata"]["resourceVersion"] != version) {
            let message = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Refusal::new(409, "Conflict", message));
        }
        match part {
            Part::Status => {
                let status = new["status"].take();
                new = (*old).clone();
                new["status"] = status;
            }
            Part::Main => {
                for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
                    new["metadata"][field] = old["metadata"][field].clone();
                }
                if key.kind == &JOBS {
                    match old.get("status") {
                        Some(status) => new["status"] = status.clone(),
                        None => remove(&mut new, "status"),
                    }
                    if new["spec"] != old["spec"] {
                        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                        new["metadata"]["generation"] = generation.into();
                    }
                }
            }
        }
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if new == *old {
            return Ok(old);
        }
        Ok(self.put(key.clone(), new, at))
    }

    /// Changes an object as the system's own components do.
    pub fn edit(&mut self, key: &Key, at: Duration, change: impl FnOnce(&mut Value)) {
        let Some(old) = self.objects.get(key) else {
            return;
        };
        let mut new = (**old).clone();
        change(&mut new);
        if new != **old {
            self.put(key.clone(), new, at);
        }
    }

    pub fn remove(&mut self, key: &Key, at: Duration) -> Option<Object> {
        let mut object = (*self.objects.remove(key)?).clone();
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        self.log.push(Change {
            version: self.version,
            at,
            key: key.clone(),
            old: Some(Arc::clone(&object)),
            new: None,
        });
        Some(object)
    }

    fn put(&mut self, key: Key, mut object: Value, at: Duration) -> Object {
        self.version += 1;
        object["apiVersion"] = key.kind.api_version.into();
        object["kind"] = key.kind.kind.into();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        let old = self.objects.insert(key.clone(), Arc::clone(&object));
        self.log.push(Change {
            version: self.version,
            at,
            key,
            old,
            new: Some(Arc::clone(&object)),
        });
        object
    }
}

pub fn not_found(key: &Key) -> Refusal {
    let message = format!("{} {:?} not found", key.kind.plural, key.name);
    Refusal::new(404, "NotFound", message)
}

fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}

/// A time as Kubernetes writes it: whole seconds.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether an object's labels satisfy a selector of equalities.
pub fn selected(object: &Value, selector: Option<&str>) -> bool {
    selector.unwrap_or_default().split(',').all(|term| {
        term.split_once('=')
            .is_none_or(|(name, value)| object["metadata"]["labels"][name] == value)
    })
}

/// The object with its metadata alone.
pub fn metadata_only(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}
