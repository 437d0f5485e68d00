//! The HTTP side of the API server: requests in, objects and watches out, and whatever goes wrong in between.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{sleep, sleep_until};

use crate::faults::Verdict;
use crate::store::{
    Change, EVENTS, JOBS, KINDS, Key, Kind, PODS, Part, Refusal, metadata_only, not_found, selected,
};
use crate::world::Shared;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request, understood.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub kind: &'static Kind,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
    query: BTreeMap<String, String>,
    metadata_only: bool,
    /// It is a server-side apply, which creates what is not there.
    pub apply: bool,
    pub body: Value,
}

impl Call {
    fn parse(parts: &http::request::Parts, body: &[u8]) -> Option<Call> {
        let header = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let mut path = parts.uri.path().trim_matches('/').split('/');
        let api_version = match path.next()? {
            "api" => path.next()?.to_owned(),
            "apis" => format!("{}/{}", path.next()?, path.next()?),
            _ => return None,
        };
        let mut rest: Vec<&str> = path.collect();
        let namespace = (rest.first() == Some(&"namespaces") && rest.len() > 2)
            .then(|| rest.drain(..2).nth(1).unwrap_or_default().to_owned());
        let mut rest = rest.into_iter().map(str::to_owned);
        let plural = rest.next()?;
        let is_meant = |kind: &&&Kind| kind.plural == plural && kind.api_version == api_version;
        let query = parts.uri.query().unwrap_or_default();
        Some(Call {
            method: parts.method.clone(),
            kind: KINDS.iter().find(is_meant)?,
            namespace,
            name: rest.next(),
            subresource: rest.next(),
            query: query.split('&').filter_map(parameter).collect(),
            metadata_only: header("accept")
                .is_some_and(|accept| accept.contains("as=PartialObject")),
            apply: header("content-type").is_some_and(|kind| kind.contains("apply-patch")),
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
        })
    }

    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    pub fn is_event(&self) -> bool {
        self.kind == &EVENTS
    }

    pub fn is_watch(&self) -> bool {
        self.query.get("watch").is_some_and(|watch| watch == "true")
    }

    pub fn key(&self) -> Option<Key> {
        let name = self
            .name
            .as_deref()
            .or(self.body["metadata"]["name"].as_str())?;
        Some(Key::new(self.kind, self.namespace.as_deref()?, name))
    }

    fn covers(&self, object: &Value) -> bool {
        let namespace = self.namespace.as_deref();
        namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
            && selected(object, self.query.get("labelSelector").map(String::as_str))
    }

    fn shape(&self, object: &Value) -> Value {
        match self.metadata_only {
            true => metadata_only(object),
            false => object.clone(),
        }
    }

    pub fn describe(&self) -> String {
        let sub = self.subresource.as_deref().unwrap_or_default();
        let name = self.key().map(|key| key.name).unwrap_or_default();
        format!("{} {} {name} {sub}", self.method, self.kind.plural)
    }
}

fn parameter(pair: &str) -> Option<(String, String)> {
    let (name, value) = pair.split_once('=')?;
    let value = value
        .replace("%2F", "/")
        .replace("%3D", "=")
        .replace("%2C", ",");
    Some((name.into(), value))
}

/// A client of this world's API server. `operator` tells whose it is; 0 is the user, to whom nothing goes wrong.
pub fn client(shared: &Arc<Shared>, operator: u32) -> Client {
    let shared = Arc::clone(shared);
    let service = tower::service_fn(move |request: Request<Body>| {
        let shared = Arc::clone(&shared);
        async move { serve(shared, operator, request).await }
    });
    Client::new(service, "default")
}

async fn serve(
    shared: Arc<Shared>,
    operator: u32,
    request: Request<Body>,
) -> Result<Answer, Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let Some(call) = Call::parse(&parts, &body) else {
        let message = format!("the server could not find {}", parts.uri);
        if operator > 0 {
            shared.with(|cluster| cluster.violation(format!("operator {operator}: {message}")));
        }
        return Ok(refused(&Refusal::new(404, "NotFound", message)));
    };
    sleep(shared.with(|cluster| cluster.latency(operator))).await;
    while shared.with(|cluster| cluster.gate.is_frozen(operator)) {
        sleep(Duration::from_millis(500)).await;
    }
    let (verdict, answer) = shared.with(|cluster| {
        let verdict = cluster.admit(operator, &call);
        let takes_effect = matches!(
            verdict,
            Verdict::Pass | Verdict::PassAndLose | Verdict::PassAndHang
        );
        let answer = (takes_effect && !call.is_watch()).then(|| cluster.perform(operator, &call));
        (verdict, answer)
    });
    match verdict {
        Verdict::Hang | Verdict::PassAndHang => std::future::pending().await,
        Verdict::Lose | Verdict::PassAndLose => {
            return Err(std::io::Error::other("connection reset by peer").into());
        }
        Verdict::Refuse(refusal) => return Ok(refused(&refusal)),
        Verdict::Pass => {}
    }
    sleep(shared.with(|cluster| cluster.latency(operator))).await;
    Ok(match answer {
        None => watch(shared, operator, call),
        Some(Ok(object)) => answered(200, &object),
        Some(Err(refusal)) => refused(&refusal),
    })
}

fn answered(code: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::from(body.to_string()).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}

fn refused(refusal: &Refusal) -> Answer {
    answered(refusal.code, &refusal.body())
}

impl crate::cluster::Cluster {
    /// Carries a request out.
    fn perform(&mut self, operator: u32, call: &Call) -> Result<Value, Refusal> {
        let (at, now) = (self.elapsed(), self.now());
        let Some(key) = call.key() else {
            return match call.method {
                Method::GET => Ok(self.list(call)),
                _ => Err(Refusal::new(400, "BadRequest", "a name is missing")),
            };
        };
        let object = match (&call.method, call.subresource.as_deref()) {
            (&Method::GET, None) => self
                .store
                .get(&key)
                .cloned()
                .ok_or_else(|| not_found(&key))?,
            (&Method::POST, None) => {
                if let Some(refusal) = self.refused.get(key.kind) {
                    return Err(refusal.clone());
                }
                self.quota(&key)?;
                self.store.create(key.clone(), call.body.clone(), at, now)?
            }
            (&Method::PUT, Some("status")) => {
                self.store
                    .replace(&key, call.body.clone(), Part::Status, at)?
            }
            (&Method::PUT, None) => self
                .store
                .replace(&key, call.body.clone(), Part::Main, at)?,
            (&Method::PATCH, Some("scale")) if key.kind == &JOBS => {
                let replicas = call.body["spec"]["replicas"].clone();
                self.store.edit(&key, at, |job| {
                    job["spec"]["workers"]["replicas"] = replicas.clone();
                    let generation = job["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                    job["metadata"]["generation"] = generation.into();
                });
                let job = self.store.get(&key).ok_or_else(|| not_found(&key))?;
                return Ok(scale(job));
            }
            (&Method::PATCH, None) => match self.store.get(&key).cloned() {
                // A uid in a patch is a precondition.
                old if call.body["metadata"]["uid"].is_string()
                    && old.as_ref().is_none_or(|old| {
                        old["metadata"]["uid"] != call.body["metadata"]["uid"]
                    }) =>
                {
                    let why = "the UID in the precondition does not match";
                    return Err(Refusal::new(409, "Conflict", why));
                }
                Some(old) => {
                    let mut new = (*old).clone();
                    json_patch::merge(&mut new, &call.body);
                    self.store.replace(&key, new, Part::Main, at)?
                }
                None if call.apply => self.store.create(key.clone(), call.body.clone(), at, now)?,
                None => return Err(not_found(&key)),
            },
            (&Method::DELETE, None) => {
                let preconditions = &call.body["preconditions"];
                let old = self
                    .store
                    .get(&key)
                    .cloned()
                    .ok_or_else(|| not_found(&key))?;
                for field in ["uid", "resourceVersion"] {
                    let wanted = preconditions[field].as_str();
                    if wanted.is_some_and(|wanted| old["metadata"][field] != wanted) {
                        let why = format!("the {field} in the precondition does not match");
                        return Err(Refusal::new(409, "Conflict", why));
                    }
                }
                self.delete(&key, call.body["gracePeriodSeconds"].as_i64(), operator > 0);
                old
            }
            _ => return Err(Refusal::new(405, "MethodNotAllowed", call.describe())),
        };
        Ok(call.shape(&object))
    }

    fn list(&self, call: &Call) -> Value {
        let objects = self
            .store
            .of_kind(call.kind)
            .filter(|object| call.covers(object));
        let items: Vec<Value> = objects.map(|object| call.shape(object)).collect();
        let (kind, api_version) = match call.metadata_only {
            true => ("PartialObjectMetadataList".into(), "meta.k8s.io/v1"),
            false => (format!("{}List", call.kind.kind), call.kind.api_version),
        };
        json!({"kind": kind, "apiVersion": api_version, "items": items,
            "metadata": {"resourceVersion": self.store.version.max(1).to_string()}})
    }

    fn quota(&self, key: &Key) -> Result<(), Refusal> {
        let pods = self.store.of_kind(&PODS).count();
        match self.quota {
            Some(limit) if key.kind == &PODS && pods >= limit => {
                let message = format!(
                    "pods {:?} is forbidden: exceeded quota: pods, used: {pods}, limited: {limit}",
                    key.name
                );
                Err(Refusal::new(403, "Forbidden", message))
            }
            _ => Ok(()),
        }
    }
}

fn scale(job: &Value) -> Value {
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": job["metadata"],
        "spec": {"replicas": job["spec"]["workers"]["replicas"]},
        "status": {"replicas": job["status"]["workers"]["replicas"], "selector": job["status"]["workers"]["selector"]}})
}

/// A watch: a stream of lines, one a change, each as late as the faults want it.
fn watch(shared: Arc<Shared>, operator: u32, call: Call) -> Answer {
    let from: u64 = call
        .query
        .get("resourceVersion")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let limit: u64 = call
        .query
        .get("timeoutSeconds")
        .and_then(|v| v.parse().ok())
        .unwrap_or(290);
    let end =
        tokio::time::Instant::now() + shared.with(|cluster| cluster.watch_ends(operator, limit));
    let state = Watch {
        shared,
        operator,
        call,
        version: from,
        end,
        over: false,
    };
    let lines = stream::unfold(state, |mut watch| async move {
        let line = watch.next().await?;
        Some((
            Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{line}\n")))),
            watch,
        ))
    });
    Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
}

struct Watch {
    shared: Arc<Shared>,
    operator: u32,
    call: Call,
    version: u64,
    end: tokio::time::Instant,
    over: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Value> {
        let mut news = self.shared.version.subscribe();
        loop {
            if self.over || tokio::time::Instant::now() >= self.end {
                return None;
            }
            let (seen, compacted, wait) = self.shared.with(|cluster| {
                let lag = cluster.gate.lag(self.operator, self.call.kind);
                let change = cluster
                    .store
                    .log
                    .partition_point(|change| change.version <= self.version);
                let change = cluster.store.log.get(change).cloned();
                let due = change
                    .as_ref()
                    .map(|change| cluster.clock.instant(change.at + lag));
                (change, cluster.store.compacted, due)
            });
            if self.version < compacted {
                self.over = true;
                let gone = Refusal::new(410, "Expired", "too old resource version");
                return Some(json!({"type": "ERROR", "object": gone.body()}));
            }
            match (seen, wait) {
                (Some(change), Some(due)) if due <= tokio::time::Instant::now() => {
                    self.version = change.version;
                    if let Some(line) = self.line(&change) {
                        return Some(line);
                    }
                }
                (Some(_), Some(due)) => sleep_until(due.min(self.end)).await,
                _ => {
                    let _ = tokio::time::timeout_at(self.end, news.changed()).await;
                }
            }
        }
    }

    fn line(&self, change: &Change) -> Option<Value> {
        if change.key.kind != self.call.kind {
            return None;
        }
        let covered = |object: Option<&crate::store::Object>| {
            object.is_some_and(|object| self.call.covers(object))
        };
        let type_ = match (covered(change.old.as_ref()), covered(change.new.as_ref())) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(json!({"type": type_, "object": self.call.shape(change.object())}))
    }
}
