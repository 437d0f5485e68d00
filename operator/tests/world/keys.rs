//! The keys of jobs: what the kubelets make of them, what must hold of them, and the stories of those that are missing.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use tracing_subscriber::filter::LevelFilter;
use trainyard_contract::{Key, Role};

use crate::cluster::Cluster;
use crate::kubelet::{PodSim, PodState, text};
use crate::scenarios::{suspend, training};
use crate::store::{self, Change, JOBS, Kind, PODS, Refusal, SECRETS};
use crate::world::{Outcome, World, ensure, job, play};

/// What is remembered of keys for the checks.
#[derive(Default)]
pub struct Keys {
    /// The Secret that the pods of a job mount, if any, by the job's uid.
    mounted: BTreeMap<String, Option<String>>,
    /// All keys that were ever made, in the forms that a Secret and a file have: nobody may tell them.
    pub told: Vec<String>,
}

/// The Secret and its entry that a pod finds its key in.
pub fn mounted(pod: &Value) -> Option<(String, String)> {
    let volumes = pod["spec"]["volumes"].as_array()?;
    let volume = volumes.iter().find(|volume| !volume["secret"].is_null())?;
    let secret = &volume["secret"];
    Some((
        text(&secret["secretName"]),
        text(&secret["items"][0]["key"]),
    ))
}

/// Where its process looks for a key.
fn looked_for(pod: &Value) -> Option<String> {
    let env = pod["spec"]["containers"][0]["env"].as_array()?;
    let path = env
        .iter()
        .find(|variable| variable["name"] == "TRAINYARD_KEY_FILE");
    path.map(|path| text(&path["value"]))
}

/// Where the key that it mounts is.
fn lies_at(pod: &Value) -> Option<String> {
    let volumes = pod["spec"]["volumes"].as_array()?;
    let volume = volumes.iter().find(|volume| !volume["secret"].is_null())?;
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array()?;
    let mount = mounts
        .iter()
        .find(|mount| mount["name"] == volume["name"])?;
    let folder = text(&mount["mountPath"]);
    let file = text(&volume["secret"]["items"][0]["path"]);
    Some(format!("{folder}/{file}"))
}

/// A role's key in a Secret.
fn entry(secret: &Value, role: &str) -> Option<Key> {
    Key::from_text(&texts(secret).remove(role)?).ok()
}

/// What the entries of a Secret say.
fn texts(secret: &Value) -> BTreeMap<String, String> {
    let secret: Secret = serde_json::from_value(secret.clone()).expect("a Secret");
    let entries = secret.data.unwrap_or_default().into_iter();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    entries.map(|(name, data)| (name, text(data.0))).collect()
}

impl Cluster {
    /// The key that a pod would find if it started now. An error if the kubelet cannot start it for lack of it.
    pub fn key_of(&self, pod: &PodSim) -> Result<Option<Key>, ()> {
        let Some((name, role)) = self.store.get(&pod.key).and_then(|pod| mounted(pod)) else {
            return Ok(None);
        };
        let secret = store::Key::new(&SECRETS, &pod.key.namespace, &name);
        let secret = self.store.get(&secret).ok_or(())?;
        entry(secret, &role).map(Some).ok_or(())
    }

    /// A process that has begun to run and those that it would meet must take each other in. Those that are asked to go, or
    /// whose node has fallen silent, it need not meet.
    pub fn check_agreement(&mut self, uid: &str) {
        let of_workers = |pod: &PodSim| match pod.role {
            Role::Server => pod.member_key.as_ref().map(|key| key.of_role(Role::Worker)),
            Role::Worker | Role::Finisher => pod.member_key.clone(),
        };
        let Some(own) = self.pods.get(uid).filter(|p| p.role != Role::Finisher) else {
            return;
        };
        let others = self.working_pods(&own.job_name).into_iter().filter(|pod| {
            pod.job == own.job
                && pod.role != Role::Finisher
                && pod.state == PodState::Running
                && self.nodes[pod.node]
        });
        let apart: Vec<String> = others
            .filter(|other| of_workers(other) != of_workers(own))
            .map(|other| other.key.name)
            .collect();
        let name = own.key.name.clone();
        for other in apart {
            self.violation(format!("{name} and {other} have keys of different jobs"));
        }
    }

    /// Of a pod that is created: it mounts the key of its role alone, from the Secret that all of its job mount.
    pub fn check_key_of_pod(
        &mut self,
        pod: &Value,
        job: &str,
        role: &str,
        broken: &mut Vec<String>,
    ) {
        let name = text(&pod["metadata"]["name"]);
        if looked_for(pod) != lies_at(pod) {
            broken.push(format!("{name} looks for its key where there is none"));
        }
        let of_pod = mounted(pod);
        if role == "finisher" {
            if of_pod.is_some() {
                broken.push(format!("{name} is given a key"));
            }
            return;
        }
        if let Some((_, entry)) = of_pod.as_ref().filter(|(_, entry)| entry != role) {
            broken.push(format!("{name} is given the key of a {entry}"));
        }
        let secret = of_pod.map(|(secret, _)| secret);
        if let Some(secret) = &secret {
            let mut log = self.store.log.iter();
            let made = |change: &Change| {
                change.key.kind == &SECRETS
                    && change.key.name == *secret
                    && change.object()["metadata"]["ownerReferences"][0]["uid"] == *job
            };
            if !log.any(made) {
                broken.push(format!("{name} comes before its job's keys"));
            }
        }
        let known = self.watchdog.keys.mounted.entry(job.into());
        let known = known.or_insert_with(|| secret.clone());
        if *known != secret {
            broken.push(format!("{name} mounts {secret:?}, and others {known:?}"));
        }
    }

    /// A Secret is a job's, whole, and never changed.
    pub fn check_secret(&mut self, change: &Change) {
        let (None, Some(secret)) = (&change.old, &change.new) else {
            if change.new.is_some() {
                self.violation(format!("the Secret {} is changed", change.key.name));
            }
            return;
        };
        for (name, plain) in texts(secret) {
            let encoded = text(&secret["data"][name]);
            self.watchdog.keys.told.extend([encoded, plain]);
        }
        let servers = entry(secret, "server");
        let workers = servers.as_ref().map(|key| key.of_role(Role::Worker));
        let whole = workers.is_some() && entry(secret, "worker") == workers;
        let only = secret["data"].as_object().is_some_and(|d| d.len() == 2);
        let owned = !secret["metadata"]["ownerReferences"][0]["uid"].is_null();
        if !(whole && only && owned && secret["immutable"] == true) {
            self.violation(format!("the Secret {} is no job's", change.key.name));
        }
    }

    /// No key is told by anything but its Secret.
    pub fn check_secrecy(&mut self, change: &Change) {
        if change.key.kind == &SECRETS || self.watchdog.keys.told.is_empty() {
            return;
        }
        let said = change.object().to_string();
        let keys = self.watchdog.keys.told.iter();
        if keys.clone().any(|key| said.contains(key.as_str())) {
            self.violation(format!("{} tells a key", change.key.name));
        }
    }
}

/// Names of the Secrets that there are.
pub fn secrets(world: &World) -> Vec<String> {
    world.with(|cluster| {
        let secrets = cluster.store.of_kind(&SECRETS);
        secrets
            .map(|secret| text(&secret["metadata"]["name"]))
            .collect()
    })
}

/// How many objects of a kind were ever created.
fn created(world: &World, kind: &'static Kind) -> usize {
    world.with(|cluster| {
        let log = cluster.store.log.iter();
        log.filter(|change| change.key.kind == kind && change.old.is_none())
            .count()
    })
}

/// Somebody deletes the Secret of job `a`: a pod that comes later waits for it. Once the job was suspended, nobody has its keys,
/// and new ones are made.
pub async fn keys_deleted(world: World) -> Outcome {
    world.with(|cluster| cluster.total_steps = 1000);
    training(&world).await?;
    for secret in secrets(&world) {
        world.delete(&SECRETS, &secret, None);
    }
    world.end_pod("a-worker-0-0", 137, "Error");
    world
        .until("the next worker waits", 60, |cluster| {
            let next = store::Key::new(&PODS, "default", "a-worker-0-1");
            let status = cluster.store.get(&next).map(|pod| &pod["status"]);
            status.is_some_and(|status| !status["containerStatuses"].is_null())
        })
        .await?;
    ensure(secrets(&world).is_empty(), secrets(&world))?;
    suspend(&world, true);
    world
        .until("only the pod that has ended is left", 120, |cluster| {
            let mut left = cluster.pods.values();
            left.all(|pod| pod.key.name == "a-worker-0-0")
        })
        .await?;
    world.until_phase("a", "Suspended", 60).await?;
    world.pass(30).await?;
    suspend(&world, false);
    world.until_phase("a", "Succeeded", 300).await
}

#[test]
fn o41_a_job_has_one_secret_that_goes_with_it() {
    play(async |world| {
        world.start_operator();
        world.create_job(job("a", 2, 3));
        world.until_step("a", 50).await?;
        world.end_pod("a-server-1-0", 139, "Error");
        world.end_pod("a-worker-0-0", 137, "Error");
        world.until_phase("a", "Succeeded", 300).await?;
        ensure(created(&world, &SECRETS) == 1, secrets(&world))?;
        let posts = world.with(|cluster| {
            let made = |line: &&String| line.contains("POST secrets");
            cluster.log.iter().filter(made).count()
        });
        ensure(posts == 1, ("requests", posts))?;
        // That of a namesake is another, however long the old one stays.
        let old = secrets(&world);
        world.delete(&JOBS, "a", None);
        world.create_job(job("a", 1, 1));
        world.until_phase("a", "Succeeded", 300).await?;
        let new = secrets(&world);
        ensure(new.len() == 1 && new != old, (old, new))
    });
}

#[test]
fn o41_keys_that_somebody_deletes_are_made_again_when_no_pod_has_them() {
    play(async |world| {
        world.start_operator();
        keys_deleted(world.clone()).await?;
        ensure(created(&world, &SECRETS) == 2, secrets(&world))
    });
}

#[test]
fn o41_a_pod_that_waits_for_deleted_keys_is_named() {
    play(async |world| {
        world.with(|cluster| cluster.total_steps = 10_000);
        world.start_operator();
        training(&world).await?;
        for secret in secrets(&world) {
            world.delete(&SECRETS, &secret, None);
        }
        world.end_pod("a-worker-0-0", 137, "Error");
        world.pass(150).await?;
        let degraded = world.condition("a", "Degraded").unwrap_or_default();
        let named = degraded.1 == "NotStarted" && degraded.2.contains("a-worker-0-1");
        ensure(named, degraded)
    });
}

/// Creating Secrets is refused, the job says so by name, and goes on when it is not refused any more.
fn refused(message: &str, reason: &str, said: &[&str]) {
    play(async |world: World| {
        let refusal = Refusal::new(403, "Forbidden", message);
        world.with(|cluster| cluster.refused.insert(&SECRETS, refusal));
        world.start_operator();
        world.create_job(job("a", 1, 1));
        world.pass(60).await?;
        let degraded = world.condition("a", "Degraded").unwrap_or_default();
        let tells = said.iter().all(|part| degraded.2.contains(part));
        ensure(
            degraded.0 == "True" && degraded.1 == reason && tells,
            degraded,
        )?;
        ensure(world.pods_created() == 0, world.pods())?;
        world.with(|cluster| cluster.refused.clear());
        world.until_phase("a", "Succeeded", 300).await
    });
}

#[test]
fn o21_an_operator_without_the_right_to_make_keys_says_so_with_the_remedy() {
    refused(
        "secrets is forbidden: User \"system:serviceaccount:trainyard:trainyard-operator\" cannot create resource \"secrets\" in API group \"\" in the namespace \"default\"",
        "Forbidden",
        &["cannot create resource \"secrets\"", "helm upgrade"],
    );
}

#[test]
fn o21_a_quota_that_leaves_no_room_for_keys_is_reported() {
    refused(
        "secrets \"a-keys-00000003\" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=1, limited: secrets=1",
        "QuotaExceeded",
        &["a-keys-00000003", "requested: secrets=1"],
    );
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn o41_no_key_is_in_a_log_whatever_its_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let mut keys = Vec::new();
    tracing::subscriber::with_default(subscriber, || {
        play(async |world| {
            world.start_operator();
            world.create_job(job("a", 1, 1));
            world.until_phase("a", "Succeeded", 300).await?;
            keys = world.with(|cluster| cluster.watchdog.keys.told.clone());
            Ok(())
        });
    });
    let bytes = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    let said = String::from_utf8_lossy(&bytes);
    assert!(said.contains("a-server-0-0") && said.contains("TRACE"));
    assert_eq!(keys.len(), 4, "two, each in two forms");
    assert!(!keys.iter().any(|key| said.contains(key.as_str())));
}
