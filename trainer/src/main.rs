//! `trainyard`: train, and use what was trained.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use trainyard::exit::{BadInput, Exit, on_panic};
use trainyard::job::Job;
use trainyard::net::{Address, AddressError, Listener, Timing};
use trainyard::storage::Location;
use trainyard::termination::{self, Ended};
use trainyard::ui::{Mode, Ui, colour_allowed};
use trainyard::{capability, commands, run, server, worker};

/// Deterministic elastic training: the model does not depend on who computed it.
#[derive(Parser)]
#[command(name = "trainyard", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a job on this machine, with real server and worker processes.
    Run(RunArgs),
    /// Predict with an artifact.
    Predict(commands::PredictArgs),
    /// Show what is in a run's folder or an artifact.
    Inspect(commands::InspectArgs),
    /// Write an artifact from a checkpoint.
    Export(commands::ExportArgs),
    /// Be one server of a job (started by `run` or the operator).
    #[command(hide = true)]
    Server(ServerArgs),
    /// Be one worker of a job (started by `run` or the operator).
    #[command(hide = true)]
    Worker(WorkerArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Manifest of a TrainingJob.
    file: PathBuf,
    /// Number of workers, instead of the manifest's.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Number of servers, instead of the manifest's.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    servers: Option<u32>,
    /// Folder for checkpoints, logs and the artifact [default: runs/NAME].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint in the folder.
    #[arg(long)]
    resume: bool,
    /// Change a field of the manifest, such as spec.training.epochs=3. May be repeated.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Print JSON lines on standard output, the result last.
    #[arg(long)]
    json: bool,
    /// Leaves that each worker computes side by side [default: cores / workers].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Connections from each worker to each server, in each direction.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// What carries data and control between the processes of the run.
    #[arg(long, hide = true, value_enum, default_value_t)]
    transport: run::Transport,
}

#[derive(Args)]
struct RoleArgs {
    /// The resolved job, as JSON.
    #[arg(long)]
    job: PathBuf,
    /// Index within the role.
    #[arg(long)]
    index: u32,
    /// Address of server 0, HOST:PORT or unix:/PATH; a name is looked up again for each connection.
    #[arg(long)]
    coordinator: String,
    /// Address for /healthz and /metrics; a server has /status too.
    #[arg(long)]
    http: Option<String>,
    /// File that the last words of this process are written to, for Kubernetes to keep.
    #[arg(long, value_name = "FILE")]
    termination_message: Option<PathBuf>,
    /// End when the process that started this one ends; its id, to notice an end before the start.
    #[arg(long, value_name = "PID", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    supervised: Option<i32>,
}

#[derive(Args)]
struct ServerArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// Number of servers.
    #[arg(long)]
    servers: u32,
    /// Generation given by the supervisor.
    #[arg(long)]
    generation: u32,
    /// Folder of checkpoints.
    #[arg(long)]
    storage: Location,
    /// Address to listen on, HOST:PORT or unix:/PATH.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Address under which workers reach this server [default: the one it listens on].
    #[arg(long)]
    advertise: Option<String>,
    /// Seconds that a stop may take before it goes without a checkpoint of its own.
    #[arg(long, value_name = "SECONDS", env = "TRAINYARD_GRACE_SECONDS", default_value_t = Timing::default().grace.as_secs())]
    grace: u64,
    /// An inherited listener, instead of --listen.
    #[arg(long, hide = true)]
    listen_fd: Option<RawFd>,
    /// An inherited listener, instead of --http.
    #[arg(long, hide = true)]
    http_fd: Option<RawFd>,
}

#[derive(Args)]
struct WorkerArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// Folder that relative data URIs resolve in.
    #[arg(long)]
    data: PathBuf,
    /// Leaves computed side by side [default: the processors that this process may use].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Connections to each server, in each direction.
    #[arg(long, default_value_t = 2)]
    connections: u32,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => return run_job(args),
        Command::Predict(args) => commands::predict(args),
        Command::Inspect(args) => commands::inspect(args),
        Command::Export(args) => commands::export(args),
        Command::Server(args) => {
            let file = args.role.termination_message.clone();
            last_words(file, be_server(args))
        }
        Command::Worker(args) => {
            let file = args.role.termination_message.clone();
            last_words(file, be_worker(args))
        }
    };
    let exit = result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Exit::of_error(&error)
    });
    ExitCode::from(exit.code())
}

fn run_job(args: RunArgs) -> ExitCode {
    let mut ui = Ui::new(Mode::detect(args.json), colour_allowed());
    let options = run::Options {
        file: args.file,
        set: args.set,
        workers: args.workers,
        servers: args.servers,
        out: args.out,
        resume: args.resume,
        threads: args.threads.map(usize::from),
        connections: args.connections,
        transport: args.transport,
    };
    let exit = run::run(options, &mut ui).unwrap_or_else(|error| {
        ui.failed(&format!("{error:#}"));
        Exit::of_error(&error)
    });
    ExitCode::from(exit.code())
}

/// Leaves a role's termination message, if one is asked for.
fn last_words(file: Option<PathBuf>, ended: Result<Ended>) -> Result<Exit> {
    if let Some(file) = file {
        termination::write(&file, &ended);
    }
    ended.map(|ended| ended.exit())
}

fn role(args: &RoleArgs) -> Result<Job> {
    on_panic();
    if let Some(supervisor) = args.supervised {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        if supervisor != 0 && supervisor != parent {
            bail!("the supervisor {supervisor} has ended");
        }
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("TRAINYARD_LOG")
        .unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let text = std::fs::read_to_string(&args.job)
        .with_context(|| format!("the job {} cannot be read", args.job.display()))?;
    Job::from_json(&text)
}

/// A listener that the supervisor opened, so that its address outlives this process.
fn inherited(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: the number comes from the supervisor, which opened the listener for this process
    // alone; nothing else here owns it. A wrong number is an error of the next call, not worse.
    let listener = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC)
        .context("the inherited listener is not open")?;
    Ok(listener)
}

fn address(text: &str) -> Result<Address> {
    let refused = |error: AddressError| BadInput(error.to_string()).into();
    text.parse().map_err(refused)
}

fn in_use(address: &str, error: &std::io::Error) -> anyhow::Error {
    let remedy = "choose another address or end what uses it";
    BadInput(format!("cannot listen on {address}: {error}; {remedy}")).into()
}

fn listener(fd: Option<RawFd>, listen: &str) -> Result<Listener> {
    match fd {
        Some(fd) => Ok(Listener::inherited(inherited(fd)?)?),
        None => Listener::bind(&address(listen)?).map_err(|error| in_use(listen, &error)),
    }
}

fn http_listener(fd: Option<RawFd>, address: Option<&str>) -> Result<Option<TcpListener>> {
    match (fd, address) {
        (None, None) => Ok(None),
        (Some(fd), _) => Ok(Some(inherited(fd)?.into())),
        (None, Some(address)) => match TcpListener::bind(address) {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => Err(in_use(address, &error)),
        },
    }
}

fn be_server(args: ServerArgs) -> Result<Ended> {
    let job = role(&args.role)?;
    server::run(server::Options {
        job,
        index: args.role.index,
        servers: args.servers,
        generation: args.generation,
        coordinator: address(&args.role.coordinator)?,
        advertise: args.advertise.as_deref().map(address).transpose()?,
        listener: Arc::new(listener(args.listen_fd, &args.listen)?),
        http: http_listener(args.http_fd, args.role.http.as_deref())?,
        storage: args.storage,
        // A local run writes it itself, into a folder that appears whole.
        artifact: args.role.supervised.is_none(),
        timing: Timing {
            grace: Duration::from_secs(args.grace),
            ..Timing::default()
        },
    })
}

fn be_worker(args: WorkerArgs) -> Result<Ended> {
    let job = role(&args.role)?;
    capability::pin(job.manifest.spec.training.cpu_capability)?;
    let exit = worker::run(worker::Options {
        job,
        index: args.role.index,
        coordinator: address(&args.role.coordinator)?,
        data: args.data,
        threads: args.threads.map(usize::from),
        connections: args.connections,
        http: http_listener(None, args.role.http.as_deref())?,
        timing: Timing::default(),
    })?;
    Ok(Ended::Left(exit))
}
