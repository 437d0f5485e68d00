//! The operator's process: arguments, signals, HTTP, leader election; the work is in the library.

#![warn(clippy::print_stderr, clippy::print_stdout)]
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use futures::FutureExt;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use trainyard_operator::context::{Context, SystemClock};
use trainyard_operator::coordinator::HttpCoordinator;
use trainyard_operator::http::{Shown, serve};
use trainyard_operator::leader::{Lease, lead};
use trainyard_operator::plan::Settings;

/// Keeps TrainingJobs going on a Kubernetes cluster.
#[derive(Parser)]
#[command(name = "trainyard-operator", version)]
struct Args {
    /// Work in this namespace alone [default: all].
    #[arg(long, env = "TRAINYARD_NAMESPACE")]
    namespace: Option<String>,
    /// Image of the trainer for jobs that name none.
    #[arg(long, env = "TRAINYARD_TRAINER_IMAGE")]
    trainer_image: String,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// Name of the Lease by which replicas elect a leader.
    #[arg(long, default_value = "trainyard-operator")]
    lease_name: String,
    /// Namespace of the Lease [default: the pod's own].
    #[arg(long, env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,
    /// What tells this process from its rivals [default: the host's name].
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Format of the log on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    log(args.log_format);
    match operate(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_lease_manager=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false) // they would be printed, and panic where the log cannot be written
        .with_writer(std::io::stderr);
    match format {
        // The spans of kube's own loop repeat what the fields say.
        LogFormat::Json => log
            .json()
            .with_current_span(false)
            .with_span_list(false)
            .init(),
        LogFormat::Text => log.init(),
    }
}

async fn operate(args: Args) -> Result<()> {
    let config = Config::infer()
        .await
        .context("no cluster: neither a kubeconfig nor a service account was found")?;
    let lease = Lease {
        namespace: args
            .lease_namespace
            .unwrap_or_else(|| config.default_namespace.clone()),
        name: args.lease_name,
        identity: args
            .identity
            .or_else(host_name)
            .context("--identity is missing, and the host has no name")?,
    };
    let client = Client::try_from(config)?;
    let shown = Shown::default();
    let listener = tokio::net::TcpListener::bind(args.http)
        .await
        .with_context(|| format!("--http: {} cannot be listened on", args.http))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let http = tokio::spawn(serve(listener, shown.clone()));
    let version = client
        .apiserver_version()
        .await
        .context("the API server cannot be reached")?;
    tracing::info!(
        kubernetes = version.git_version,
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    shown.ready.store(true, Ordering::Relaxed);

    let stop = termination()?.shared();
    let settings = Settings {
        image: args.trainer_image,
    };
    let metrics = Arc::clone(&shown.metrics);
    let identity = lease.identity.clone();
    let work = || {
        // Whoever is elected anew begins with fresh caches.
        let context = Context::new(
            client.clone(),
            args.namespace.clone(),
            settings.clone(),
            Arc::new(SystemClock),
            Arc::new(HttpCoordinator::default()),
            Arc::clone(&metrics),
            Some(identity.clone()),
        );
        let run = trainyard_operator::run(Arc::new(context), stop.clone());
        async { Ok(run.await?) }
    };
    let leading = lead(
        client.clone(),
        lease,
        Arc::clone(&shown.metrics),
        stop.clone(),
        work,
    );
    tokio::select! {
        result = leading => result,
        ended = http => match ended {
            Ok(Err(error)) => Err(error).context("HTTP has ended"),
            _ => Err(anyhow::anyhow!("HTTP has ended")),
        },
    }
}

fn host_name() -> Option<String> {
    std::env::var("HOSTNAME").ok().or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(format!("{}-{}", name.trim(), std::process::id()))
    })
}

/// Ready at the first SIGTERM or SIGINT.
fn termination() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}
