//! `trainyard`: train, and use what was trained.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use trainyard::exit::{self, BadInput, Exit, on_panic};
use trainyard::job::Job;
use trainyard::net::Timing;
use trainyard::storage::Location;
use trainyard::termination::{self, Ended};
use trainyard::ui::{Mode, Ui, colour_allowed};
use trainyard::{capability, commands, run, server, worker};
use trainyard_contract::{
    DEFAULT_CONNECTIONS, MAX_THREADS, MemberArgs, MemberCommand, ServerArgs, WorkerArgs, env,
};

/// Where a server listens that is not told: it is found under the address that it then has.
const ANY_PORT: &str = "127.0.0.1:0";

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
    #[command(flatten)]
    Member(MemberCommand),
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
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_THREADS)))]
    threads: Option<u16>,
    /// Connections from each worker to each server, in each direction.
    #[arg(long, default_value_t = DEFAULT_CONNECTIONS, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => return run_job(args),
        Command::Predict(args) => commands::predict(args),
        Command::Inspect(args) => commands::inspect(args),
        Command::Export(args) => commands::export(args),
        Command::Member(command) => {
            let file = command.common().termination_message.clone();
            let ended = match command {
                MemberCommand::Server(args) => be_server(args),
                MemberCommand::Worker(args) => be_worker(args),
            };
            last_words(file.as_deref(), ended)
        }
    };
    let exit = result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        exit::of_error(&error)
    });
    exit.into()
}

fn run_job(args: RunArgs) -> std::process::ExitCode {
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
    };
    let exit = run::run(options, &mut ui).unwrap_or_else(|error| {
        ui.failed(&format!("{error:#}"));
        exit::of_error(&error)
    });
    exit.into()
}

/// Leaves a role's termination message, if one is asked for.
fn last_words(file: Option<&str>, ended: Result<Ended>) -> Result<Exit> {
    if let Some(file) = file {
        termination::write(Path::new(file), &ended);
    }
    ended.map(|ended| ended.exit())
}

/// What every role does first: it binds its life to its supervisor, begins its log, and reads its job.
fn begin(args: &MemberArgs) -> Result<Job> {
    on_panic();
    if let Some(supervisor) = args.supervised {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
        if supervisor != 0 && supervisor != parent {
            bail!("the supervisor {supervisor} has ended");
        }
    }
    let filter =
        tracing_subscriber::EnvFilter::try_from_env(env::LOG).unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let text = std::fs::read_to_string(&args.job)
        .with_context(|| format!("the job {} cannot be read", args.job))?;
    Job::from_json(&text)
}

/// A listener that the supervisor opened, so that its address outlives this process.
fn inherited(fd: RawFd) -> Result<TcpListener> {
    // SAFETY: the number comes from the supervisor, which opened the listener for this process
    // alone; nothing else here owns it. A wrong number is an error of the next call, not worse.
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC)
        .context("the inherited listener is not open")?;
    Ok(listener)
}

fn listener(fd: Option<RawFd>, address: &str) -> Result<TcpListener> {
    match fd {
        Some(fd) => inherited(fd),
        None => TcpListener::bind(address).map_err(|error| {
            BadInput(format!(
                "cannot listen on {address}: {error}; choose another address or end what uses it"
            ))
            .into()
        }),
    }
}

fn http_listener(fd: Option<RawFd>, address: Option<&str>) -> Result<Option<TcpListener>> {
    match (fd, address) {
        (None, None) => Ok(None),
        (fd, address) => listener(fd, address.unwrap_or_default()).map(Some),
    }
}

fn be_server(args: ServerArgs) -> Result<Ended> {
    let job = begin(&args.member)?;
    let storage = args.storage.parse::<Location>();
    let storage =
        storage.map_err(|error| BadInput(format!("--storage {}: {error}", args.storage)))?;
    let timing = Timing::default();
    server::run(server::Options {
        job,
        index: args.member.index,
        servers: args.servers,
        generation: args.generation,
        coordinator: args.member.coordinator,
        advertise: args.advertise,
        listener: listener(args.listen_fd, args.listen.as_deref().unwrap_or(ANY_PORT))?,
        http: http_listener(args.http_fd, args.member.http.as_deref())?,
        storage,
        // A local run writes it itself, into a folder that appears whole.
        artifact: args.member.supervised.is_none(),
        timing: Timing {
            grace: args.grace.map_or(timing.grace, Duration::from_secs),
            ..timing
        },
    })
}

fn be_worker(args: WorkerArgs) -> Result<Ended> {
    let job = begin(&args.member)?;
    capability::pin(job.manifest.spec.training.cpu_capability)?;
    let exit = worker::run(worker::Options {
        job,
        index: args.member.index,
        coordinator: args.member.coordinator,
        data: args.data.into(),
        threads: args.threads.map(usize::from),
        connections: args.connections.unwrap_or(DEFAULT_CONNECTIONS),
        http: http_listener(None, args.member.http.as_deref())?,
        timing: Timing::default(),
    })?;
    Ok(Ended::Left(exit))
}
