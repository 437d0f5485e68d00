//! What the log says: one JSON object a line, with `time`, `event` and the event's fields.

use std::fmt;
use std::process::ExitStatus;
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use trainyard_core::control::{Progress, Role};
use trainyard_core::metrics::Metrics;

use super::format;

/// What a job is, said once when it starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// Name of the job.
    pub job: String,
    /// The task, in words: `binary classification`.
    pub task: String,
    /// The model, in a few words: `mlp 128-64-32, relu`.
    pub model: String,
    /// Training and validation rows, if known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
    /// Server processes.
    pub servers: u32,
    /// Worker processes.
    pub workers: u32,
    /// Leaves of the reduction tree.
    pub leaves: u32,
    /// Folder of the results.
    pub out: String,
    /// Where progress can be read over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_url: Option<String>,
    /// The step of the checkpoint that the job goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_from: Option<u64>,
}

/// Rows of a dataset.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Rows used for training.
    pub train: u64,
    /// Rows used for validation; 0 without a validation set.
    pub validation: u64,
}

/// Something that happened on the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Note {
    /// A process ended unasked and is started again.
    Restarting {
        /// Which one.
        role: Role,
        /// How it ended.
        cause: Cause,
    },
    /// The job rolls back under a new generation, because a server was lost.
    Generation {
        /// The generation now in force.
        generation: u32,
        /// The checkpoint it goes on from; none if there is none yet.
        checkpoint: Option<u64>,
    },
    /// A checkpoint was committed.
    Checkpoint {
        /// Its step.
        step: u64,
    },
    /// The job was asked to stop.
    Stopping,
    /// Anything else a user should know.
    Warning {
        /// One sentence.
        message: String,
    },
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// With an exit code.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// In another way, in words.
    Other(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Exit(code) => write!(f, "exit code {code}"),
            Cause::Signal(signal) => write!(f, "signal {signal}"),
            Cause::Other(words) => f.write_str(words),
        }
    }
}

impl From<ExitStatus> for Cause {
    fn from(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Cause::Exit(code),
            (None, Some(signal)) => Cause::Signal(signal),
            (None, None) => Cause::Other(status.to_string()),
        }
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The role of a process in words: `worker 1`.
pub fn process(role: Role) -> String {
    match role {
        Role::Server(index) => format!("server {index}"),
        Role::Worker(index) => format!("worker {index}"),
        Role::Observer => "observer".into(),
    }
}

/// What only the log says, in the order in which a job goes through it.
#[derive(Debug, Serialize)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(super) enum Event<'a> {
    Started(&'a Started),
    Progress {
        #[serde(flatten)]
        progress: &'a Progress,
        #[serde(skip_serializing_if = "Option::is_none")]
        samples_per_second: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        eta_seconds: Option<u64>,
    },
    /// An epoch was validated. Counted from 0, as in `progress`.
    Epoch {
        epoch: u64,
        step: u64,
        validation: &'a Metrics,
    },
    Finished(&'a super::Summary),
    Stopped {
        step: u64,
        total_steps: u64,
        saved: bool,
        checkpoint: Option<u64>,
        resume: &'a str,
    },
    Error {
        message: &'a str,
        step: u64,
        total_steps: u64,
        checkpoint: Option<u64>,
    },
}

/// The line of an event, without its line break.
pub(super) fn line(time: SystemTime, event: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Timed<'a, E> {
        time: String,
        #[serde(flatten)]
        event: &'a E,
    }
    let time = format::rfc3339(time);
    // Only maps with keys that are not text cannot be written, and there are none.
    serde_json::to_string(&Timed { time, event }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;

    fn parsed(event: &impl Serialize) -> Value {
        let line = line(UNIX_EPOCH, event);
        assert!(!line.contains('\n'));
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn t23_an_event_is_one_flat_object() {
        let role = Role::Worker(1);
        assert_eq!(
            parsed(&Note::Restarting {
                role,
                cause: Cause::Signal(9)
            }),
            json!({
                "time": "1970-01-01T00:00:00.000Z", "event": "restarting",
                "role": {"kind": "worker", "index": 1}, "cause": "signal 9",
            })
        );
        let progress = Progress {
            step: 120,
            total_steps: 300,
            loss: Some(0.1 + 0.2),
            ..Progress::default()
        };
        let event = Event::Progress {
            progress: &progress,
            samples_per_second: None,
            eta_seconds: Some(65),
        };
        let value = parsed(&event);
        assert_eq!(value["event"], "progress");
        assert_eq!(value["totalSteps"], 300);
        assert_eq!(value["loss"].as_f64(), Some(0.1 + 0.2)); // to the last bit
        assert_eq!(value["etaSeconds"], 65);
        assert_eq!(value.get("samplesPerSecond"), None);
    }

    #[test]
    fn t23_line_breaks_and_quotes_in_a_message_stay_inside_the_line() {
        let message = "first \"line\"\nsecond\u{1b}[31m";
        assert_eq!(
            parsed(&Event::Error {
                message,
                step: 1,
                total_steps: 2,
                checkpoint: None
            })["message"],
            message
        );
    }

    #[test]
    fn every_note_says_its_event() {
        let notes = [
            (
                Note::Generation {
                    generation: 2,
                    checkpoint: None,
                },
                "generation",
            ),
            (Note::Checkpoint { step: 5 }, "checkpoint"),
            (Note::Stopping, "stopping"),
            (
                Note::Warning {
                    message: "w".into(),
                },
                "warning",
            ),
        ];
        for (note, name) in notes {
            assert_eq!(parsed(&note)["event"], name);
        }
    }

    #[test]
    fn an_exit_status_becomes_a_cause() {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(Cause::from(ExitStatus::from_raw(9)), Cause::Signal(9));
        assert_eq!(
            Cause::from(ExitStatus::from_raw(75 << 8)).to_string(),
            "exit code 75"
        );
    }
}
