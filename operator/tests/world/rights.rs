//! What the operator may do: what its role gives it, in the namespaces that it is to work in, and nothing else.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::Method;
use kube::api::Api;
use trainyard_crds::TrainingJob;

use crate::calls::{CALLS, Right, rights};
use crate::cluster::Cluster;
use crate::http::{Call, client};
use crate::scenarios::ALL;
use crate::store::{CLAIMS, CONFIG_MAPS, JOBS, Key, PODS, Refusal};
use crate::world::{World, ensure, job, play, simulate};

static GIVEN: LazyLock<BTreeSet<Right>> = LazyLock::new(|| rights(CALLS));

impl Call {
    fn right(&self, verb: &str) -> Right {
        let kind = self.kind;
        let group = kind
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let resource = match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", kind.plural),
            None => kind.plural.into(),
        };
        (group.into(), resource, verb.into())
    }

    fn verb(&self) -> &'static str {
        match (&self.method, &self.name) {
            (&Method::GET, _) if self.is_watch() => "watch",
            (&Method::GET, Some(_)) => "get",
            (&Method::GET, None) => "list",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, Some(_)) => "delete",
            (&Method::DELETE, None) => "deletecollection",
            _ => "none",
        }
    }
}

impl Cluster {
    /// Notes the rights that an operator's request needs, and refuses it without them. That such a request was made at all is
    /// a violation: no test passes with one.
    pub fn authorize(&mut self, call: &Call) -> Result<(), Refusal> {
        let mut needed = vec![call.right(call.verb())];
        let is_there = call.key().is_some_and(|key| self.store.get(&key).is_some());
        if call.apply && !is_there {
            needed.push(call.right("create"));
        }
        let in_scope = self.gate.scope.is_none() || self.gate.scope == call.namespace;
        for right in needed {
            if !in_scope || !GIVEN.contains(&right) {
                let (group, resource, verb) = &right;
                let place = match &call.namespace {
                    Some(namespace) => format!("in the namespace {namespace:?}"),
                    None => "at the cluster scope".into(),
                };
                let message = format!(
                    "{resource} is forbidden: the operator cannot {verb} resource {resource:?} in API group {group:?} {place}"
                );
                self.violation(message.clone());
                return Err(Refusal::new(403, "Forbidden", message));
            }
            self.gate.used.insert(right);
        }
        Ok(())
    }
}

#[test]
fn o23_the_calls_of_all_scenarios_use_every_right_and_need_no_other() {
    let mut used = BTreeSet::new();
    for scenario in ALL {
        let told = simulate(1, async |world: World| {
            world.start_operator();
            (scenario.tell)(world.clone()).await?;
            world.pass(60).await?;
            Ok(world.with(|cluster| cluster.gate.used.clone()))
        });
        match told {
            Ok(more) => used.extend(more),
            Err(what) => panic!("{what}scenario {}", scenario.name),
        }
    }
    let unused: Vec<&Right> = GIVEN.difference(&used).collect();
    assert!(unused.is_empty(), "no call needs {unused:?}");
    // That none was needed besides is an invariant of the world; once more, so that it stays one.
    assert_eq!(used, *GIVEN);
}

#[test]
fn o23_a_call_beyond_the_rights_is_refused_and_noticed() {
    play(async |world| {
        world.create_job(job("a", 1, 1));
        let jobs: Api<TrainingJob> = Api::namespaced(client(&world.shared, 1), "default");
        let refused = jobs.get("a").await.err();
        let code = match &refused {
            Some(kube::Error::Api(status)) => status.code,
            _ => 0,
        };
        ensure(code == 403, &refused)?;
        let noticed = world.with(|cluster| std::mem::take(&mut cluster.violations));
        let told = "the operator cannot get resource \"trainingjobs\"";
        ensure(noticed.len() == 1 && noticed[0].contains(told), &noticed)
    });
}

#[test]
fn o23_an_operator_that_is_limited_to_a_namespace_asks_for_nothing_beyond_it() {
    play(async |world| {
        const ELSEWHERE: &str = "elsewhere";
        world.with(|cluster| cluster.gate.scope = Some("default".into()));
        // There is all that a job needs, but for an operator.
        let mut other = job("b", 1, 1);
        other["metadata"]["namespace"] = ELSEWHERE.into();
        world.create(Key::new(&JOBS, ELSEWHERE, "b"), other);
        for (kind, name) in [(&CONFIG_MAPS, "data"), (&CLAIMS, "runs")] {
            world.create(
                Key::new(kind, ELSEWHERE, name),
                serde_json::json!({"metadata": {}}),
            );
        }
        let elsewhere = || {
            world.with(|cluster| {
                let objects = cluster.store.objects.iter();
                objects
                    .filter(|(key, _)| key.namespace == ELSEWHERE)
                    .map(|(key, object)| (key.clone(), object.clone()))
                    .collect::<Vec<_>>()
            })
        };
        let before = elsewhere();
        world.start_operator();
        world.create_job(job("a", 2, 2));
        world.until_step("a", 100).await?;
        world.end_pod("a-worker-0-0", 137, "Error");
        world.delete(&PODS, "a-server-1-0", None);
        world.until_phase("a", "Succeeded", 300).await?;
        let end = world.end_of("a");
        ensure((end.failures, end.disruptions) == (1, 1), &end)?;
        // A request for anything elsewhere, or for all namespaces at once, would have been a violation.
        world.stays_quiet().await?;
        ensure(elsewhere() == before, elsewhere())
    });
}
