//! `trainyard serve`: answers clients with the models of artifacts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use trainyard_infer::golden::Verdict;
use trainyard_runtime::exit::{BadInput, ExitCode};
use trainyard_runtime::output::say;
use trainyard_runtime::{log, memory, signals};
use trainyard_serve::options::{Connections, Ending, Limits, Options, Source};
use trainyard_serve::server::{self, Event};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where HTTP is served, if nothing else is said.
const HTTP: SocketAddr = SocketAddr::new(LOOPBACK, 8000);
/// Where gRPC is served, if nothing else is said.
const GRPC: SocketAddr = SocketAddr::new(LOOPBACK, 8001);

/// An artifact as it is named on the command line.
#[derive(Clone, Debug)]
struct Named(Source);

/// Arguments of `trainyard serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Folder of an artifact or of a run, such as runs/NAME, or s3://BUCKET/PREFIX/NAME; with NAME= before it, to call it
    /// so, and not as its job. Several of one name are its versions 1, 2, and so on.
    #[arg(required = true, value_name = "[NAME=]ARTIFACT")]
    artifacts: Vec<Named>,
    /// Address for HTTP: the Open Inference Protocol, /predict and /metrics. It has no authentication and no TLS [default:
    /// 127.0.0.1:8000, unless --grpc is given].
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Address for gRPC: the Open Inference Protocol, and health [default: 127.0.0.1:8001, unless --http is given].
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<SocketAddr>,
    /// Threads that compute [default: the cores that this process may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// MiB of the body of a request, after decompression.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    max_body: u16,
    /// Rows of a request.
    #[arg(long, value_name = "ROWS", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    max_rows: u32,
    /// Rows that are computed together, if as many wait.
    #[arg(long, value_name = "ROWS", default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_rows: u32,
    /// Microseconds that a row waits for others, to be computed with them.
    #[arg(long, value_name = "US", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    batch_delay: u32,
    /// Milliseconds that a request may wait to be computed. One that would wait longer is refused with 429.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=600_000))]
    max_wait: u32,
    /// Connections that are open at once; others wait.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// Seconds after which a connection is ended, give or take a tenth, so that clients find new replicas.
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connection_age: u32,
    /// Requests after which a connection is ended, give or take a tenth.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    connection_requests: u32,
    /// Seconds that the server serves on after SIGTERM, not ready, until nobody sends requests to it any more.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    drain_delay: u32,
    /// Seconds after SIGTERM within which it ends, whatever still runs.
    #[arg(long, value_name = "S", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    grace: u32,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !name.is_empty() && name.len() <= 128 && name.chars().all(allowed)
        };
        let (name, place) = match text.split_once('=') {
            Some((name, place)) if is_name(name) => (Some(name.to_owned()), place),
            Some((name, _)) if !name.contains(['/', ':']) => {
                return Err(format!(
                    "{name:?} cannot be a name; use letters, digits, `-`, `_` and `.`"
                ));
            }
            _ => (None, text),
        };
        let place = place.parse()?;
        Ok(Self(Source { name, place }))
    }
}

/// Runs the command until it is asked to end.
///
/// # Errors
/// [`BadInput`] for an artifact that does not prove itself, or an address that cannot be used.
pub fn run(args: ServeArgs) -> Result<ExitCode> {
    log::begin();
    let termination = signals::termination()?;
    termination.leave_at_once(ExitCode::Interrupted); // until there is something to be finished
    if args.drain_delay >= args.grace && args.drain_delay > 0 {
        bail!(BadInput(format!(
            "--drain-delay is {} and --grace {}: leave some seconds between them to finish requests",
            args.drain_delay, args.grace
        )));
    }
    let (http, grpc) = match (args.http, args.grpc) {
        (None, None) => (Some(HTTP), Some(GRPC)),
        given => given,
    };
    let threads = args.threads.map(usize::from);
    let cores = || available_parallelism().map_or(1, usize::from);
    let body = usize::from(args.max_body) << 20;
    let options = Options {
        sources: args.artifacts.into_iter().map(|named| named.0).collect(),
        http,
        grpc,
        threads: threads.unwrap_or_else(cores),
        limits: Limits {
            body_bytes: body,
            bodies_bytes: Limits::default().bodies_bytes.max(4 * body),
            rows: args.max_rows as usize,
            batch_rows: args.batch_rows as usize,
            batch_delay: Duration::from_micros(args.batch_delay.into()),
            queue_wait: Duration::from_millis(args.max_wait.into()),
            ..Limits::default()
        },
        connections: Connections {
            most: args.max_connections as usize,
            age: Duration::from_secs(args.connection_age.into()),
            requests: args.connection_requests,
            ..Connections::default()
        },
        ending: Ending {
            drain: Duration::from_secs(args.drain_delay.into()),
            grace: Duration::from_secs(args.grace.into()),
        },
    };
    server::run(&options, &memory::limits(), &termination, &tell)
}

fn tell(event: Event) {
    match event {
        Event::Proved {
            name,
            version,
            model_sha256,
            verdict,
            took,
        } => {
            let how = match verdict {
                Verdict::Exact => "to the bit",
                Verdict::Within => "within the tolerance",
            };
            say(format_args!(
                "{name} version {version} ({}...) gives the golden answers {how}; {} ms",
                model_sha256.get(..12).unwrap_or_default(),
                took.as_millis()
            ));
        }
        Event::Listening { http, grpc } => {
            let http = http.map(|address| format!("http://{address}"));
            let grpc = grpc.map(|address| format!("grpc://{address}"));
            let all: Vec<String> = http.into_iter().chain(grpc).collect();
            say(format_args!("serving on {}", all.join(" and ")));
        }
        Event::Draining { delay } if delay.is_zero() => say("ending: requests are finished"),
        Event::Draining { delay } => say(format_args!(
            "ending: serving on for {} s, not ready",
            delay.as_secs()
        )),
        Event::Ended => say("ended"),
        Event::Cut => say("ended: the grace was over before all requests were answered"),
    }
}
