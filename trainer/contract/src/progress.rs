//! How far a job is.

use serde::{Deserialize, Serialize};

use crate::{Member, Metrics};

/// The most warnings of a job that are kept.
pub const MAX_WARNINGS: usize = 16;
/// The most of them that workers may bring along; the rest is for what the coordinator finds.
pub const MAX_WARNINGS_OF_WORKERS: usize = MAX_WARNINGS * 3 / 4;
/// The most bytes of a warning.
pub const MAX_WARNING_BYTES: usize = 512;

/// How far a job is, as the coordinator tells it at `/status` and to observers.
///
/// `status.progress` of a `TrainingJob` is made from it: it also has a rate, which takes two answers, and the time at which
/// they were read, and leaves out what is not finite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// What the coordinator is doing: `WaitingForWorkers`, `Training`, ...
    pub phase: String,
    /// Generation in force.
    pub generation: u32,
    /// Steps applied.
    pub step: u64,
    /// Steps in the whole job; 0 while the data is unknown.
    pub total_steps: u64,
    /// Epochs done: the number, from 0, of the epoch in progress, and `epochs` once the last one is done.
    pub epoch: u64,
    /// Epochs in the whole job.
    pub epochs: u64,
    /// Training samples used so far.
    pub samples: u64,
    /// Mean training loss of the epoch in progress, or of the last one as long as no sample of the next was used.
    pub loss: Option<f64>,
    /// Metrics of the latest validation pass.
    pub validation: Option<Metrics>,
    /// Workers that share the leaves.
    pub workers: u32,
    /// Servers that are ready.
    pub servers: u32,
    /// Step of the newest committed checkpoint.
    pub checkpoint: Option<u64>,
    /// What the user should know of the data and the job, a sentence each, in the order in which it was found. At most
    /// [`MAX_WARNINGS`], each of at most [`MAX_WARNING_BYTES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Members that the job has given up waiting for. Whoever has started them replaces them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<Stuck>,
}

/// A member whose process is there and does nothing for the job: it is silent, or what it owes does not come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// Which.
    #[serde(flatten)]
    pub member: Member,
    /// For so many seconds. A process that was started later is not the one that is meant.
    pub seconds: u64,
    /// What it does not do, as a clause: `has been silent for 15 s`.
    pub reason: String,
}

/// Adds a warning to those of a job, cut to its longest, if it is new and there is room.
pub fn add_warning(warnings: &mut Vec<String>, text: String) {
    let text = cut_warning(text);
    if warnings.len() < MAX_WARNINGS && !warnings.contains(&text) {
        warnings.push(text);
    }
}

/// A warning of at most [`MAX_WARNING_BYTES`].
pub fn cut_warning(mut text: String) -> String {
    const CUT: &str = "...";
    if text.len() > MAX_WARNING_BYTES {
        text.truncate(text.floor_char_boundary(MAX_WARNING_BYTES - CUT.len()));
        text += CUT;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `/status` has answered since the first release; operators and images of different versions meet here.
    const ANSWER: &str = concat!(
        r#"{"phase":"Training","generation":2,"step":7,"totalSteps":300,"epoch":1,"epochs":20,"samples":224,"#,
        r#""loss":0.125,"validation":{"loss":0.5,"accuracy":0.75,"f1":0.25},"workers":3,"servers":2,"checkpoint":5}"#
    );
    const FIRST_ANSWER: &str = concat!(
        r#"{"phase":"WaitingForWorkers","generation":1,"step":0,"totalSteps":0,"epoch":0,"epochs":20,"samples":0,"#,
        r#""loss":null,"validation":null,"workers":0,"servers":0,"checkpoint":null}"#
    );

    fn progress() -> Progress {
        Progress {
            phase: "Training".into(),
            generation: 2,
            step: 7,
            total_steps: 300,
            epoch: 1,
            epochs: 20,
            samples: 224,
            loss: Some(0.125),
            validation: Some(Metrics {
                loss: Some(0.5),
                accuracy: Some(0.75),
                f1: Some(0.25),
                ..Metrics::default()
            }),
            workers: 3,
            servers: 2,
            checkpoint: Some(5),
            warnings: Vec::new(),
            stuck: Vec::new(),
        }
    }

    #[test]
    fn warnings_are_few_short_and_different() {
        let mut warnings = Vec::new();
        let long = "ä".repeat(MAX_WARNING_BYTES);
        for text in ["one", "two", "one", &long] {
            add_warning(&mut warnings, text.into());
        }
        let cut = format!("{}...", &long[..MAX_WARNING_BYTES - 4]);
        assert_eq!(warnings, ["one", "two", &cut]);
        for number in 0..100 {
            add_warning(&mut warnings, number.to_string());
        }
        assert_eq!(warnings.len(), MAX_WARNINGS);
    }

    #[test]
    fn the_text_is_fixed() {
        let first = Progress {
            phase: "WaitingForWorkers".into(),
            generation: 1,
            epochs: 20,
            ..Progress::default()
        };
        for (progress, text) in [(progress(), ANSWER), (first, FIRST_ANSWER)] {
            assert_eq!(serde_json::to_string(&progress).expect("JSON"), text);
            assert_eq!(
                serde_json::from_str::<Progress>(text).expect("progress"),
                progress
            );
        }
    }

    #[test]
    fn members_that_are_stuck_are_told_by_role_and_index() {
        let stuck = Stuck {
            member: Member::worker(3),
            seconds: 15,
            reason: "has been silent for 15 s".into(),
        };
        let text =
            r#"{"role":"worker","index":3,"seconds":15,"reason":"has been silent for 15 s"}"#;
        assert_eq!(serde_json::to_string(&stuck).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<Stuck>(text).expect("read"), stuck);
    }

    #[test]
    fn what_another_version_leaves_out_or_adds_is_no_error() {
        let other = r#"{"step":3,"learningRate":0.5,"validation":{"loss":null,"perplexity":2.0}}"#;
        let expected = Progress {
            step: 3,
            validation: Some(Metrics::default()),
            ..Progress::default()
        };
        assert_eq!(
            serde_json::from_str::<Progress>(other).expect("progress"),
            expected
        );
    }
}
