//! `trainyard`: train, and use what was trained. What needs libtorch is in the program beside it.

#![warn(clippy::print_stderr, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use trainyard::ui::{Mode, Ui, colour_allowed};
use trainyard::{commands, run, server, torch_program};
use trainyard_contract::{DEFAULT_CONNECTIONS, MAX_THREADS, MemberCommand, Role, ServerArgs};
use trainyard_runtime::exit::{self, ExitCode};
use trainyard_runtime::limits::Callers;
use trainyard_runtime::net::Timing;
use trainyard_runtime::output;
use trainyard_runtime::role;
use trainyard_runtime::termination::{self, Ended};

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
    /// Write a first manifest for a table or a folder of images.
    Init(commands::InitArgs),
    /// Show what is in a run's folder, an artifact or a CSV file.
    Inspect(commands::InspectArgs),
    /// Answer clients with artifacts, over HTTP.
    Serve(commands::ServeArgs),
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
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    servers: Option<u32>,
    /// Folder for checkpoints, logs and the artifact [default: runs/NAME, or runs/NAME-2 and so on where
    /// another job of that name has checkpoints].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint in the folder.
    #[arg(long)]
    resume: bool,
    /// Begin anew, and delete what an earlier run has left in the folder once there is a checkpoint.
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
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
    /// What carries data and control between the processes of the run.
    #[arg(long, hide = true, value_enum, default_value_t)]
    transport: run::Transport,
    /// File with the key of the job's servers, instead of a random one.
    #[arg(long, hide = true, value_name = "FILE")]
    key_file: Option<String>,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => return run_job(args),
        Command::Init(args) => commands::init(args),
        Command::Inspect(args) => commands::inspect(args),
        Command::Predict(args) => commands::predict(args),
        Command::Serve(args) => commands::serve(args),
        Command::Member(MemberCommand::Server(args)) => {
            let file = args.member.termination_message.clone();
            termination::leave(file.as_deref().map(Path::new), be_server(args))
        }
        Command::Export(_)
        | Command::Member(MemberCommand::Worker(_) | MemberCommand::Finisher(_)) => {
            torch_program::become_it().map(|never| match never {})
        }
    };
    let exit = result.unwrap_or_else(|error| {
        output::say_error(&error);
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
        overwrite: args.overwrite,
        threads: args.threads.map(usize::from),
        connections: args.connections,
        transport: args.transport,
        key_file: args.key_file,
        arguments: std::env::args_os().collect(),
    };
    let exit = run::run(options, &mut ui).unwrap_or_else(|error| {
        ui.failed(&format!("{error:#}"));
        exit::of_error(&error)
    });
    match ui.failure() {
        Some(error) if exit == ExitCode::Done => {
            output::say(format_args!(
                "error: standard output cannot be written: {error}; the job is complete, and its results are in its folder"
            ));
            ExitCode::Error.into()
        }
        _ => exit.into(),
    }
}

fn be_server(args: ServerArgs) -> Result<Ended> {
    let job = role::begin(&args.member.job, &args.member.supervision)?;
    role::show_life(&args.member.supervision)?;
    if args.member.supervision.supervised.is_none() {
        // Who supervises has looked at it, and may have been told of other numbers.
        let callers = Callers {
            workers: job.manifest.spec.workers.replicas,
            servers: args.servers,
            connections: DEFAULT_CONNECTIONS,
        };
        callers.check()?;
    }
    let timing = Timing::default();
    server::run(server::Options {
        job,
        index: args.member.index,
        servers: args.servers,
        generation: args.generation,
        coordinator: role::address(&args.member.coordinator)?,
        advertise: args.advertise.as_deref().map(role::address).transpose()?,
        listener: Arc::new(role::listener(
            args.listen_fd,
            args.listen.as_deref().unwrap_or(ANY_PORT),
        )?),
        http: role::http_listener(args.http_fd, args.member.http.as_deref())?,
        initial_model: args.member.initial_model.map(Into::into),
        storage: role::storage(&args.storage)?,
        key: role::key(args.member.key_file.as_deref(), Role::Server)?,
        timing: Timing {
            grace: args.grace.map_or(timing.grace, Duration::from_secs),
            ..timing
        },
    })
}
