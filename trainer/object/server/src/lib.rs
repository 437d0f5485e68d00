//! An S3 server for tests: [s3s-fs](https://docs.rs/s3s-fs) over a folder, in which a bucket is a
//! folder and an object a file. It can be told to fail, to give a certain answer, to keep writes
//! waiting, and to be of the kind that does not know conditional writes.
#![forbid(unsafe_code)]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
pub use http::StatusCode;
use http::header::IF_NONE_MATCH;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::sync::{Mutex, watch};

/// The only credentials that are let in.
pub const ACCESS_KEY: &str = "trainyard";
/// See [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "trainyard-secret";

/// A running server; it ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    behaviour: Arc<Behaviour>,
    _runtime: tokio::runtime::Runtime,
}

struct Behaviour {
    root: PathBuf,
    /// Requests to be answered with 503 from now on.
    failures: AtomicU32,
    /// Answers to requests whose paths contain a text, newest first; the first that fits is given.
    answers: watch::Sender<Vec<FixedAnswer>>,
    /// Requests that were answered.
    requests: AtomicU32,
    ignores_conditions: AtomicBool,
    /// Writes of keys with this in them wait.
    held: watch::Sender<Option<String>>,
    /// Writes that wait.
    waiting: AtomicU32,
    /// s3s-fs looks whether an object is there and then writes it; a store does both at once.
    conditional: Mutex<()>,
}

#[derive(Clone)]
struct FixedAnswer {
    part: String,
    status: StatusCode,
    body: String,
}

impl Server {
    /// Serves the buckets in the folder `root` on a port of the loopback interface.
    ///
    /// # Errors
    /// If the folder is not there or no port is free.
    pub fn start(root: &Path) -> Result<Self> {
        Self::start_on(TcpListener::bind("127.0.0.1:0")?, root)
    }

    /// Serves the buckets in the folder `root` on a bound listener.
    ///
    /// # Errors
    /// If the folder is not there or the listener cannot be used.
    pub fn start_on(listener: TcpListener, root: &Path) -> Result<Self> {
        let files = FileSystem::new(root)
            .map_err(|error| anyhow!("{error:?}"))
            .with_context(|| format!("{} cannot be served", root.display()))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let behaviour = Arc::new(Behaviour {
            root: root.to_owned(),
            failures: AtomicU32::new(0),
            answers: watch::Sender::default(),
            requests: AtomicU32::new(0),
            ignores_conditions: AtomicBool::new(false),
            held: watch::Sender::default(),
            waiting: AtomicU32::new(0),
            conditional: Mutex::new(()),
        });
        let guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        drop(guard);
        runtime.spawn(accept(listener, service, Arc::clone(&behaviour)));
        Ok(Server {
            address,
            behaviour,
            _runtime: runtime,
        })
    }

    /// The endpoint's URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The environment that lets a process in.
    pub fn env(&self) -> Vec<(String, String)> {
        let credentials = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into()),
        ];
        credentials
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    /// Answers the next `count` requests with "503 Slow Down".
    pub fn fail(&self, count: u32) {
        self.behaviour.failures.store(count, Ordering::SeqCst);
    }

    /// Answers requests whose paths contain `part` with this status and body from now on.
    pub fn answer(&self, part: &str, status: StatusCode, body: &str) {
        let answer = FixedAnswer {
            part: part.to_owned(),
            status,
            body: body.to_owned(),
        };
        let answers = &self.behaviour.answers;
        answers.send_modify(|answers| answers.insert(0, answer));
    }

    /// From now on `If-None-Match` is ignored, as by servers that do not know it.
    pub fn ignore_conditions(&self) {
        self.behaviour
            .ignores_conditions
            .store(true, Ordering::SeqCst);
    }

    /// From now on writes of keys that contain `part` wait for [`Server::release`].
    pub fn hold(&self, part: &str) {
        self.behaviour.held.send_replace(Some(part.to_owned()));
    }

    /// Writes that wait.
    pub fn waiting(&self) -> u32 {
        self.behaviour.waiting.load(Ordering::SeqCst)
    }

    /// Lets the waiting writes through.
    pub fn release(&self) {
        self.behaviour.held.send_replace(None);
    }

    /// Requests so far.
    pub fn requests(&self) -> u32 {
        self.behaviour.requests.load(Ordering::SeqCst)
    }
}

async fn accept(listener: tokio::net::TcpListener, service: S3Service, behaviour: Arc<Behaviour>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (service, behaviour) = (service.clone(), Arc::clone(&behaviour));
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, &service, &behaviour));
            // A client that goes away is no matter.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    service: &S3Service,
    behaviour: &Behaviour,
) -> Result<Response<s3s::Body>, s3s::HttpError> {
    behaviour.requests.fetch_add(1, Ordering::SeqCst);
    let failures = &behaviour.failures;
    let fails = failures.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    });
    if fails.is_ok() {
        return Ok(error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"));
    }
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let answers = behaviour.answers.borrow().clone();
    if let Some(fixed) = answers.iter().find(|fixed| path.contains(&fixed.part)) {
        return Ok(respond(fixed.status, fixed.body.clone()));
    }
    let bucket = path.split('/').next().unwrap_or_default();
    if !behaviour.root.join(bucket).is_dir() {
        // s3s-fs would make the folder.
        return Ok(error(StatusCode::NOT_FOUND, "NoSuchBucket"));
    }
    if request.method() == Method::PUT {
        behaviour.waiting.fetch_add(1, Ordering::SeqCst);
        let mut held = behaviour.held.subscribe();
        let passes = |part: &Option<String>| part.as_ref().is_none_or(|part| !path.contains(part));
        // The sender lives as long as this.
        let _ = held.wait_for(passes).await;
        behaviour.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    let one_at_a_time = match request.headers().contains_key(IF_NONE_MATCH) {
        true => Some(behaviour.conditional.lock().await),
        false => None,
    };
    if behaviour.ignores_conditions.load(Ordering::SeqCst) && one_at_a_time.is_some() {
        // The header is signed, so it cannot be taken away; what it is about can.
        let _ = std::fs::remove_file(behaviour.root.join(&path));
    }
    let response = service.call(request.map(s3s::Body::from)).await;
    drop(one_at_a_time);
    response
}

fn error(status: StatusCode, code: &str) -> Response<s3s::Body> {
    respond(status, format!("<Error><Code>{code}</Code></Error>"))
}

fn respond(status: StatusCode, body: String) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::from(body));
    *response.status_mut() = status;
    response
}
