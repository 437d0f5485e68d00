//! From artifacts to a server that ends in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use trainyard_data::Limits;
use trainyard_infer::golden::Verdict;
use trainyard_runtime::exit::{BadInput, ExitCode};
use trainyard_runtime::signals::Termination;

use crate::grpc;
use crate::http;
use crate::load::{Loaded, load};
use crate::net::{self, Phase};
use crate::options::Options;
use crate::proof;
use crate::registry::Registry;

/// What there is to say while a server starts and ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A model has proved itself.
    Proved {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// Digest of the parameters.
        model_sha256: String,
        /// How its golden rows were reproduced.
        verdict: Verdict,
        /// How long it took to fetch, read and prove it.
        took: Duration,
    },
    /// The ports are open.
    Listening {
        /// Where HTTP is served.
        http: Option<SocketAddr>,
        /// Where gRPC is served.
        grpc: Option<SocketAddr>,
    },
    /// The server serves on for a while, not ready.
    Draining {
        /// For how long.
        delay: Duration,
    },
    /// All requests were answered.
    Ended,
    /// Requests were still running when the grace was over.
    Cut,
}

/// Serves until termination is asked for.
///
/// # Errors
/// [`BadInput`] for an artifact that cannot be used or that does not prove itself: no port was open then. Others if it cannot be
/// fetched, or the address cannot be used.
pub fn run(
    options: &Options,
    limits: &Limits,
    termination: &Termination,
    tell: &dyn Fn(Event),
) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .enable_all()
        .build()?;
    let ended = runtime.block_on(serve(options, limits, termination, tell));
    runtime.shutdown_background();
    ended
}

async fn serve(
    options: &Options,
    limits: &Limits,
    termination: &Termination,
    tell: &dyn Fn(Event),
) -> Result<ExitCode> {
    let mut loaded: Vec<(Loaded, Duration)> = Vec::new();
    for source in &options.sources {
        let begin = Instant::now();
        let version = |name: &str| {
            let same = loaded.iter().filter(|(other, _)| other.model.name == name);
            (same.count() + 1).to_string()
        };
        let one = tokio::task::block_in_place(|| load(source, &version, limits))?;
        loaded.push((one, begin.elapsed()));
    }
    let models = loaded
        .iter()
        .map(|(one, _)| Arc::clone(&one.model))
        .collect();
    let registry = Arc::new(Registry::new(models, options.limits, options.threads)?);
    let router = http::router(Arc::clone(&registry));
    for (one, took) in &loaded {
        let begin = Instant::now();
        let proved = proof::prove(&one.model, &router, &one.normalized, &one.rows).await;
        let verdict = proved.map_err(|error| {
            BadInput(format!(
                "{}: the model does not give the answers that the trainer computed: {error:#}; export the artifact again",
                one.model.name
            ))
        })?;
        tell(Event::Proved {
            name: one.model.name.clone(),
            version: one.model.version.clone(),
            model_sha256: one.provenance.model_sha256.clone(),
            verdict,
            took: *took + begin.elapsed(),
        });
    }
    drop(loaded);
    registry.forget();
    let (grpc_router, health) = grpc::router(Arc::clone(&registry)).await;
    let http = bind("--http", options.http).await?;
    let grpc = bind("--grpc", options.grpc).await?;
    let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
    let listening = Event::Listening {
        http: address(&http),
        grpc: address(&grpc),
    };
    let (phase, watched) = watch::channel(Phase::Serving);
    let (asked, mut wake) = watch::channel(false);
    termination.listen(move || asked.send_modify(|asked| *asked = true));
    let mut serving = JoinSet::new();
    for (listener, router) in [(http, router), (grpc, grpc_router)] {
        if let Some(listener) = listener {
            let watched = watched.clone();
            serving.spawn(net::serve(listener, router, options.connections, watched));
        }
    }
    set_health(&health, ServingStatus::Serving).await;
    registry.set_ready(true);
    tell(listening);
    let _ = wake.wait_for(|asked| *asked).await; // who asks lives as long as the process
    let end = tokio::time::Instant::now() + options.ending.grace;
    registry.set_ready(false);
    set_health(&health, ServingStatus::NotServing).await;
    let delay = match termination.was_interrupt() {
        true => Duration::ZERO, // a person waits
        false => options.ending.drain.min(options.ending.grace),
    };
    tell(Event::Draining { delay });
    let _ = phase.send(Phase::Draining);
    tokio::time::sleep(delay).await;
    let _ = phase.send(Phase::Leaving);
    let all = async { while serving.join_next().await.is_some() {} };
    match tokio::time::timeout_at(end, all).await {
        Ok(()) => tell(Event::Ended),
        Err(_) => tell(Event::Cut),
    }
    Ok(ExitCode::Done)
}

/// Listens on the address that an option names.
async fn bind(option: &str, address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|error| {
        BadInput(format!(
            "{address} cannot be listened on: {error}; give another address with {option}"
        ))
    })?;
    Ok(Some(listener))
}

/// Says by `grpc.health.v1` whether requests are wanted: of the server as a whole, and of its service.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", grpc::SERVICE] {
        health.set_service_status(service, status).await;
    }
}
