//! The command lines of a job's members: built by the operator and `trainyard run`, parsed by the trainer.

use std::fmt::Display;

use crate::{Member, Role};

/// Connections of a worker to each server, in each direction, unless it is told another number.
pub const DEFAULT_CONNECTIONS: u32 = 2;

/// Most leaves that a worker may be told to compute side by side.
pub const MAX_THREADS: u16 = 1024;

/// The command line of a process of a job.
///
/// Everything in it is text: a path that is not UTF-8 cannot be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::Subcommand))]
pub enum MemberCommand {
    /// Be one server of a job (started by `run` or the operator).
    #[cfg_attr(feature = "cli", command(hide = true))]
    Server(ServerArgs),
    /// Be one worker of a job (started by `run` or the operator).
    #[cfg_attr(feature = "cli", command(hide = true))]
    Worker(WorkerArgs),
    /// Export the artifact of a finished job (started by `run` or the operator).
    #[cfg_attr(feature = "cli", command(hide = true))]
    Finisher(FinisherArgs),
}

/// What binds a process to the one that started it, in a local run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Supervision {
    /// End when the process that started this one ends; its id, to notice an end before the start [without an id: 0, which
    /// stands for any].
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "PID", num_args = 0..=1, require_equals = true, default_missing_value = "0"
    ))]
    pub supervised: Option<u32>,
    /// An inherited pipe into which this process writes all the time, as long as it runs.
    #[cfg_attr(feature = "cli", arg(long, hide = true))]
    pub alive_fd: Option<i32>,
}

impl Supervision {
    fn write(&self, args: &mut Arguments) {
        let Supervision {
            supervised,
            alive_fd,
        } = self;
        args.add_if("supervised", supervised.as_ref());
        args.add_if("alive-fd", alive_fd.as_ref());
    }
}

/// What every server and worker is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct MemberArgs {
    /// The job file.
    #[cfg_attr(feature = "cli", arg(long))]
    pub job: String,
    /// Index within the role.
    #[cfg_attr(feature = "cli", arg(long))]
    pub index: u32,
    /// Folder with the initial model, if the job has one.
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub initial_model: Option<String>,
    /// Address of server 0; a name is looked up again for each connection.
    #[cfg_attr(feature = "cli", arg(long))]
    pub coordinator: String,
    /// Address for /healthz and /metrics; a server has /status too.
    #[cfg_attr(feature = "cli", arg(long))]
    pub http: Option<String>,
    /// File with the key of this process's role, or - for standard input. Without one, whoever reaches the ports of the job can take part.
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE", env = crate::env::KEY_FILE))]
    pub key_file: Option<String>,
    /// File that the last words of this process are written to, for Kubernetes to keep.
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub termination_message: Option<String>,
    /// What binds this process to the one that started it.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub supervision: Supervision,
}

/// What a server is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct ServerArgs {
    /// What every server and worker is told.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub member: MemberArgs,
    /// Number of servers.
    #[cfg_attr(feature = "cli", arg(long))]
    pub servers: u32,
    /// Generation given by the supervisor.
    #[cfg_attr(feature = "cli", arg(long))]
    pub generation: u32,
    /// Folder of checkpoints, or URI of a prefix in an S3-compatible store.
    #[cfg_attr(feature = "cli", arg(long))]
    pub storage: String,
    /// Address to listen on [default: a free port of 127.0.0.1].
    #[cfg_attr(feature = "cli", arg(long))]
    pub listen: Option<String>,
    /// Address under which workers reach this server [default: the one it listens on].
    #[cfg_attr(feature = "cli", arg(long))]
    pub advertise: Option<String>,
    /// Seconds that a stop may take before it goes without a checkpoint of its own.
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", env = crate::env::GRACE_SECONDS))]
    pub grace: Option<u64>,
    /// An inherited listener, instead of --listen.
    #[cfg_attr(feature = "cli", arg(long, hide = true))]
    pub listen_fd: Option<i32>,
    /// An inherited listener, instead of --http.
    #[cfg_attr(feature = "cli", arg(long, hide = true))]
    pub http_fd: Option<i32>,
}

/// What a worker is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct WorkerArgs {
    /// What every server and worker is told.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub member: MemberArgs,
    /// Folder that relative data URIs resolve in.
    #[cfg_attr(feature = "cli", arg(long))]
    pub data: String,
    /// Leaves computed side by side [default: the processors that this process may use].
    #[cfg_attr(feature = "cli", arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_THREADS))))]
    pub threads: Option<u16>,
    /// Connections to each server, in each direction [default: 2].
    #[cfg_attr(feature = "cli", arg(long))]
    pub connections: Option<u32>,
    /// Servers of the job that share the memory of this machine, in a local run.
    #[cfg_attr(feature = "cli", arg(long, hide = true))]
    pub local_servers: Option<u32>,
    /// Workers of the job that share the memory of this machine, this one among them, in a local run.
    #[cfg_attr(feature = "cli", arg(long, hide = true))]
    pub local_workers: Option<u32>,
}

/// What the finisher is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct FinisherArgs {
    /// The job file.
    #[cfg_attr(feature = "cli", arg(long))]
    pub job: String,
    /// Folder of checkpoints, or URI of a prefix in an S3-compatible store.
    #[cfg_attr(feature = "cli", arg(long))]
    pub storage: String,
    /// File that the last words of this process are written to, for Kubernetes to keep.
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub termination_message: Option<String>,
    /// What binds this process to the one that started it.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub supervision: Supervision,
}

impl MemberCommand {
    /// Whose command line it is.
    pub fn member(&self) -> Member {
        match self {
            MemberCommand::Server(args) => Member::server(args.member.index),
            MemberCommand::Worker(args) => Member::worker(args.member.index),
            MemberCommand::Finisher(_) => Member::FINISHER,
        }
    }

    /// The arguments of the program.
    pub fn to_args(&self) -> Vec<String> {
        match self {
            MemberCommand::Server(args) => args.to_args(),
            MemberCommand::Worker(args) => args.to_args(),
            MemberCommand::Finisher(args) => args.to_args(),
        }
    }

    /// Parses the arguments of the program, without the program's name.
    ///
    /// # Errors
    /// As the trainer would refuse them.
    #[cfg(feature = "cli")]
    pub fn from_args<Args>(args: Args) -> Result<Self, clap::Error>
    where
        Args: IntoIterator<Item: Into<std::ffi::OsString> + Clone>,
    {
        use clap::{FromArgMatches, Subcommand};
        let parser = clap::Command::new("trainyard")
            .no_binary_name(true)
            .subcommand_required(true);
        let parser = MemberCommand::augment_subcommands(parser);
        MemberCommand::from_arg_matches(&parser.try_get_matches_from(args)?)
    }
}

impl MemberArgs {
    fn write(&self, role: Role) -> Arguments {
        let MemberArgs {
            job,
            index,
            initial_model,
            coordinator,
            http,
            key_file,
            termination_message,
            supervision,
        } = self;
        let mut args = Arguments::of(role);
        args.add("job", job);
        args.add("index", index);
        args.add_if("initial-model", initial_model.as_ref());
        args.add("coordinator", coordinator);
        args.add_if("http", http.as_ref());
        args.add_if("key-file", key_file.as_ref());
        args.add_if("termination-message", termination_message.as_ref());
        supervision.write(&mut args);
        args
    }
}

impl ServerArgs {
    /// The arguments of the program.
    pub fn to_args(&self) -> Vec<String> {
        let ServerArgs {
            member,
            servers,
            generation,
            storage,
            listen,
            advertise,
            grace,
            listen_fd,
            http_fd,
        } = self;
        let mut args = member.write(Role::Server);
        args.add("servers", servers);
        args.add("generation", generation);
        args.add_if("listen", listen.as_ref());
        args.add_if("advertise", advertise.as_ref());
        args.add("storage", storage);
        args.add_if("grace", grace.as_ref());
        args.add_if("listen-fd", listen_fd.as_ref());
        args.add_if("http-fd", http_fd.as_ref());
        args.0
    }
}

impl WorkerArgs {
    /// The arguments of the program.
    pub fn to_args(&self) -> Vec<String> {
        let WorkerArgs {
            member,
            data,
            threads,
            connections,
            local_servers,
            local_workers,
        } = self;
        let mut args = member.write(Role::Worker);
        args.add("data", data);
        args.add_if("threads", threads.as_ref());
        args.add_if("connections", connections.as_ref());
        args.add_if("local-servers", local_servers.as_ref());
        args.add_if("local-workers", local_workers.as_ref());
        args.0
    }
}

impl FinisherArgs {
    /// The arguments of the program.
    pub fn to_args(&self) -> Vec<String> {
        let FinisherArgs {
            job,
            storage,
            termination_message,
            supervision,
        } = self;
        let mut args = Arguments::of(Role::Finisher);
        args.add("job", job);
        args.add("storage", storage);
        args.add_if("termination-message", termination_message.as_ref());
        supervision.write(&mut args);
        args.0
    }
}

/// Arguments of the form `--name=value`: a value may begin with a dash.
struct Arguments(Vec<String>);

impl Arguments {
    fn of(role: Role) -> Self {
        Arguments(vec![role.name().into()])
    }

    fn add(&mut self, name: &str, value: impl Display) {
        self.0.push(format!("--{name}={value}"));
    }

    fn add_if(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
