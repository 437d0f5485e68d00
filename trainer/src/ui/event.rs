//! What the log says: one JSON object a line, with `time`, `event` and the event's fields.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use trainyard_core::control::Progress;
use trainyard_core::metrics::Metrics;

use super::format;

/// What a job is, said once when it starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// Name of the job.
    pub job: String,
    /// Task and model, in a few words: `binary classification, mlp 128-64-32`.
    pub model: String,
    /// Server processes.
    pub servers: u32,
    /// Worker processes.
    pub workers: u32,
    /// Leaves of the reduction tree.
    pub leaves: u32,
    /// Folder of the results.
    pub out: String,
    /// Where progress can be read over HTTP.
    pub status_url: String,
    /// The step of the checkpoint that the job goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_from: Option<u64>,
    /// URI of the model whose parameters were the first ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_model: Option<String>,
}

/// An epoch that was finished, its validation pass included.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    /// Its number, from 0, as in `progress`.
    pub epoch: u64,
    /// Epochs of the whole job.
    pub epochs: u64,
    /// The step at its end.
    pub step: u64,
    /// Mean loss over its samples, each with the parameters it was used with.
    pub train_loss: f64,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Metrics on the validation rows at its end, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Metrics>,
}

/// Something that happened to the run itself. What happens to the training is in its progress.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Note {
    /// A process ended unasked and is started again.
    Restarting {
        /// Which one: `worker 1`.
        member: String,
        /// How it ended: `signal 9`.
        how: String,
        /// Time until it is started again.
        #[serde(rename = "waitSeconds", serialize_with = "seconds")]
        wait: Duration,
    },
    /// The job was asked to stop.
    Stopping,
    /// Anything else a user should know.
    Warning {
        /// One sentence.
        message: String,
    },
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
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
    Epoch(&'a Epoch),
    /// A checkpoint was committed.
    Checkpoint {
        step: u64,
    },
    /// Training went back to `step` under a new generation, because a server was lost.
    Generation {
        generation: u32,
        step: u64,
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
        let wait = Duration::from_millis(1500);
        assert_eq!(
            parsed(&Note::Restarting {
                member: "worker 1".into(),
                how: "signal 9".into(),
                wait
            }),
            json!({
                "time": "1970-01-01T00:00:00.000Z", "event": "restarting",
                "member": "worker 1", "how": "signal 9", "waitSeconds": 1.5,
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
        assert_eq!(parsed(&Note::Stopping)["event"], "stopping");
        assert_eq!(
            parsed(&Note::Warning {
                message: "w".into()
            })["event"],
            "warning"
        );
    }
}
