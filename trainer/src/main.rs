//! `trainyard`: train, and use what was trained.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use trainyard::finisher::Finisher;
use trainyard::ui::{Mode, Ui, colour_allowed};
use trainyard::{commands, run, server, torch_program};
use trainyard_runtime::exit::Exit;
use trainyard_runtime::net::Timing;
use trainyard_runtime::role;
use trainyard_runtime::storage::Location;
use trainyard_runtime::termination::{self, Ended};

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
    /// Be one worker of a job (started by the operator).
    #[command(hide = true)]
    Worker(Passed),
    /// Export the artifact of a finished job (started by a server).
    #[command(hide = true)]
    Finisher(Passed),
}

/// Arguments that the second program parses.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _all: Vec<OsString>,
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
}

#[derive(Args)]
struct RoleArgs {
    /// The resolved job, as JSON.
    #[arg(long)]
    job: PathBuf,
    /// Index within the role.
    #[arg(long)]
    index: u32,
    /// Address of server 0; a name is looked up again for each connection.
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
    /// Address to listen on.
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => return run_job(args),
        Command::Inspect(args) => commands::inspect(args),
        Command::Predict(_) | Command::Export(_) | Command::Worker(_) | Command::Finisher(_) => {
            torch_program::become_it().map(|never| match never {})
        }
        Command::Server(args) => {
            let file = args.role.termination_message.clone();
            termination::leave(file.as_deref(), be_server(args))
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
    };
    let exit = run::run(options, &mut ui).unwrap_or_else(|error| {
        ui.failed(&format!("{error:#}"));
        Exit::of_error(&error)
    });
    ExitCode::from(exit.code())
}

fn be_server(args: ServerArgs) -> Result<Ended> {
    let job = role::begin(&args.role.job, args.role.supervised)?;
    server::run(server::Options {
        job,
        index: args.role.index,
        servers: args.servers,
        generation: args.generation,
        coordinator: args.role.coordinator,
        advertise: args.advertise,
        listener: role::listener(args.listen_fd, &args.listen)?,
        http: role::http_listener(args.http_fd, args.role.http.as_deref())?,
        storage: args.storage,
        // The supervisor of a local run does it by itself.
        finisher: match args.role.supervised {
            None => Some(Finisher::new(args.role.job)?),
            Some(_) => None,
        },
        timing: Timing {
            grace: Duration::from_secs(args.grace),
            ..Timing::default()
        },
    })
}
