//! What the operator, `trainyard run` and the trainer's processes agree on.
//!
//! Two programs that are built and upgraded at different times meet here: the operator (or `trainyard run`) starts servers,
//! workers and the finisher, and reads how they do and how they end. Nothing in this crate does I/O, and it depends on neither Kubernetes
//! nor libtorch.
//!
//! | What | Where |
//! | --- | --- |
//! | who takes part in a job | [`Role`], [`Member`] |
//! | how a process is started, and what it finds | [`MemberCommand`], [`mod@env`], [`pod`] |
//! | how it proves that it belongs | [`Key`] |
//! | what it is to train | [`JobFile`] |
//! | how far it is | [`Progress`] |
//! | how it ended, and what follows | [`ExitCode`], [`Report`], [`ExportReport`], [`judge`] |
//!
//! A job that runs must survive an upgrade of the operator, whose pods then still come from an older image. So an argument
//! that is new is emitted only where the image is sure to know it; a setting that an older trainer may pass over is an
//! environment variable. What is read may come from another version too: fields of [`Progress`] and [`Report`] that are
//! missing have defaults, and unknown ones are passed over.

#![warn(clippy::print_stderr, clippy::print_stdout)]

/// Version of this contract. A job's status has the version under which its image was chosen; absent, it is 1.
///
/// 1. Server 0 exports the artifact, and its report names it.
/// 2. A finisher does. The operator tells by the report which of them it is.
/// 3. Servers and workers find the key of their role in a file, which the environment names: see [`Key`].
///
/// Arguments of servers and workers are the same in all of them. What a job file may say beyond what all
/// know is told by its `defaults`: see [`DEFAULTS`].
pub const VERSION: u32 = 3;

/// The first version whose servers and workers have keys. Members of an older job are given none, their successors neither: with
/// and without one, they would not take each other in.
pub const KEYS_SINCE: u32 = 3;

mod args;
mod classification;
mod ending;
pub mod env;
mod exit;
mod job_file;
mod key;
mod member;
mod metrics;
pub mod pod;
mod progress;
mod report;

pub use args::{
    DEFAULT_CONNECTIONS, FinisherArgs, MAX_THREADS, MemberArgs, MemberCommand, ServerArgs,
    Supervision, WorkerArgs,
};
pub use classification::{
    Calibration, CalibrationBin, ClassMetrics, ClassificationReport, Reports, SuggestedThreshold,
};
pub use ending::{EXPORT_ATTEMPTS, ProcessEnd, Verdict, doubled, judge};
pub use exit::ExitCode;
pub use job_file::{DEFAULTS, JobFile, OtherKind, PodJobMetadata};
pub use key::{Key, NotAKey};
pub use member::{Member, NotAMember, Role};
pub use metrics::{FinalMetrics, Metric, Metrics};
pub use progress::{
    MAX_WARNING_BYTES, MAX_WARNINGS, MAX_WARNINGS_OF_WORKERS, Progress, Stuck, add_warning,
    cut_warning,
};
pub use report::{ExportReport, Report, TERMINATION_MESSAGE_LIMIT, cut_termination_message};
