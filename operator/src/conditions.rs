//! Conditions of a job, after the conventions of the Kubernetes API.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message of a condition, in bytes; the schema of Kubernetes allows 32768.
const MAX_MESSAGE: usize = 4096;

/// Types of conditions.
pub mod types {
    /// The job cannot be run as it is written.
    pub const INVALID: &str = "Invalid";
    /// All servers and at least one worker run.
    pub const RUNNING: &str = "Running";
    /// Something keeps pods from being created, from running or from going on, or the coordinator from answering; the
    /// message names it.
    pub const DEGRADED: &str = "Degraded";
    /// The artifact is there; if it is not, the reason says why.
    pub const ARTIFACT_READY: &str = "ArtifactReady";
    /// The job was stopped by `suspend`.
    pub const SUSPENDED: &str = "Suspended";
    /// The job finished, with a model.
    pub const SUCCEEDED: &str = "Succeeded";
    /// The job ended without a model.
    pub const FAILED: &str = "Failed";
}

/// What a condition says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionState<'a> {
    /// True or false.
    pub status: bool,
    /// One word in CamelCase.
    pub reason: &'a str,
    /// For people.
    pub message: String,
}

/// Sets a condition. Its time moves only when its status flips.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    state: ConditionState<'_>,
    generation: i64,
    now: Timestamp,
) {
    let mut message = state.message;
    crate::trouble::truncate(&mut message, MAX_MESSAGE);
    let status = if state.status { "True" } else { "False" };
    let time = conditions
        .iter()
        .find(|c| c.type_ == type_ && c.status == status)
        .map_or(Time(now), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: type_.into(),
        status: status.into(),
        reason: state.reason.into(),
        message,
        last_transition_time: time,
        observed_generation: Some(generation),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

/// Whether a condition is true.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(|c| c.status == "True")
}

/// A condition.
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: bool, reason: &str) -> ConditionState<'_> {
        ConditionState {
            status,
            reason,
            message: String::new(),
        }
    }

    #[test]
    fn o25_the_time_moves_only_when_the_status_flips() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            types::RUNNING,
            state(false, "Starting"),
            1,
            at(1),
        );
        set(
            &mut conditions,
            types::RUNNING,
            state(false, "Waiting"),
            2,
            at(2),
        );
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time.0, at(1));
        assert_eq!(
            (
                conditions[0].reason.as_str(),
                conditions[0].observed_generation
            ),
            ("Waiting", Some(2))
        );
        set(
            &mut conditions,
            types::RUNNING,
            state(true, "PodsReady"),
            2,
            at(3),
        );
        assert_eq!(conditions[0].last_transition_time.0, at(3));
        set(
            &mut conditions,
            types::DEGRADED,
            state(true, "Unschedulable"),
            2,
            at(4),
        );
        assert_eq!(conditions.len(), 2);
        assert!(is_true(&conditions, types::RUNNING) && !is_true(&conditions, types::FAILED));
    }
}
