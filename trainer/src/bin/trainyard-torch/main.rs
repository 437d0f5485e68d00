//! `trainyard-torch`: what of Trainyard needs libtorch. `trainyard` starts it, with the arguments that
//! it was given itself.

mod export;
mod finisher;
mod predict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use trainyard::commands::{ExportArgs, PredictArgs};
use trainyard_runtime::exit::Exit;
use trainyard_runtime::net::Timing;
use trainyard_runtime::termination::{self, Ended};
use trainyard_runtime::{role, storage::Location};
use trainyard_torch::{capability, worker};

/// What of `trainyard` needs libtorch; `trainyard` starts it.
#[derive(Parser)]
#[command(name = "trainyard", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Predict with an artifact.
    Predict(PredictArgs),
    /// Write an artifact from a checkpoint.
    Export(ExportArgs),
    /// Be one worker of a job (started by `run` or the operator).
    Worker(WorkerArgs),
    /// Export the artifact of a finished job (started by `run` or a server).
    Finisher(FinisherArgs),
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

#[derive(Args)]
struct FinisherArgs {
    /// The resolved job, as JSON.
    #[arg(long)]
    job: PathBuf,
    /// Folder of checkpoints.
    #[arg(long)]
    storage: Location,
    /// End when the process that started this one ends; its id, to notice an end before the start.
    #[arg(long, value_name = "PID", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    supervised: Option<i32>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Predict(args) => predict::run(args),
        Command::Export(args) => export::run(args),
        Command::Worker(args) => {
            let file = args.role.termination_message.clone();
            termination::leave(file.as_deref(), be_worker(args))
        }
        Command::Finisher(args) => finisher::run(args),
    };
    let exit = result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Exit::of_error(&error)
    });
    ExitCode::from(exit.code())
}

fn be_worker(args: WorkerArgs) -> Result<Ended> {
    let job = role::begin(&args.role.job, args.role.supervised)?;
    capability::pin(job.manifest.spec.training.cpu_capability)?;
    let exit = worker::run(worker::Options {
        job,
        index: args.role.index,
        coordinator: args.role.coordinator,
        data: args.data,
        threads: args.threads.map(usize::from),
        connections: args.connections,
        http: role::http_listener(None, args.role.http.as_deref())?,
        timing: Timing::default(),
    })?;
    Ok(Ended::Left(exit))
}
