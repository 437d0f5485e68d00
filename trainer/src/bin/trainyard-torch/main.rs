//! `trainyard-torch`: what of Trainyard needs libtorch. `trainyard` starts it, with the arguments that
//! it was given itself.

#![warn(clippy::print_stderr, clippy::print_stdout)]

mod export;
mod finisher;

use std::path::Path;

use anyhow::Result;
use clap::{Parser, Subcommand};
use trainyard::commands::ExportArgs;
use trainyard_contract::{DEFAULT_CONNECTIONS, FinisherArgs, Role, WorkerArgs};
use trainyard_runtime::exit;
use trainyard_runtime::net::Timing;
use trainyard_runtime::output;
use trainyard_runtime::role;
use trainyard_runtime::termination::{self, Ended};
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
    /// Write an artifact from a checkpoint.
    Export(ExportArgs),
    /// Be one worker of a job (started by `run` or the operator).
    Worker(WorkerArgs),
    /// Export the artifact of a finished job (started by `run` or the operator).
    Finisher(FinisherArgs),
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Command::Export(args) => export::run(args),
        Command::Worker(args) => {
            let file = args.member.termination_message.clone();
            termination::leave(file.as_deref().map(Path::new), be_worker(args))
        }
        Command::Finisher(args) => {
            let file = args.termination_message.clone();
            termination::leave(file.as_deref().map(Path::new), finisher::run(args))
        }
    };
    let exit = result.unwrap_or_else(|error| {
        output::say_error(&error);
        exit::of_error(&error)
    });
    exit.into()
}

fn be_worker(args: WorkerArgs) -> Result<Ended> {
    let job = role::begin(&args.member.job, &args.member.supervision)?;
    let training = &job.manifest.spec.training;
    capability::pin(training.cpu_capability, training.threads_per_leaf)?;
    role::show_life(&args.member.supervision)?;
    let exit = worker::run(worker::Options {
        job,
        index: args.member.index,
        coordinator: role::address(&args.member.coordinator)?,
        initial_model: args.member.initial_model.map(Into::into),
        data: args.data.into(),
        threads: args.threads.map(usize::from),
        connections: args.connections.unwrap_or(DEFAULT_CONNECTIONS),
        company: args.local_servers.zip(args.local_workers),
        http: role::http_listener(None, args.member.http.as_deref())?,
        key: role::key(args.member.key_file.as_deref(), Role::Worker)?, // this process stays
        timing: Timing::default(),
    })?;
    Ok(Ended::Left(exit))
}
