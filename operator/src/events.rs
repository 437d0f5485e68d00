//! Events that a change of status is worth, for `kubectl describe`. They are published after the change is written, so
//! that each is told once.

use kube::runtime::events::{Event, EventType};
use trainyard_crds::TrainingJobStatus;

use crate::conditions::{self, types};

/// Longest note of an event, in bytes.
const MAX_NOTE: usize = 1000;

/// The events of a change.
pub fn of(old: &TrainingJobStatus, new: &TrainingJobStatus) -> Vec<Event> {
    let mut events = Vec::new();
    if old.start_time.is_none() && new.start_time.is_some() {
        let (servers, workers) = (new.servers.replicas, new.workers.replicas);
        let note = format!(
            "creating {} and {} with {}",
            several(servers, "server"),
            several(workers, "worker"),
            new.image.as_deref().unwrap_or_default()
        );
        events.push(event(EventType::Normal, "Started", note, "Create"));
    }
    for member in &new.restarts.members {
        let before = old.restarts.members.iter().find(|m| m.name == member.name);
        let counted = counted(new) > counted(old);
        if counted && before.map_or(0, |m| m.attempt) < member.attempt {
            let note = format!(
                "{} {}; attempt {} follows",
                member.name, member.reason, member.attempt
            );
            events.push(event(EventType::Warning, "Replaced", note, "Replace"));
        }
    }
    for text in new
        .warnings
        .iter()
        .filter(|text| !old.warnings.contains(text))
    {
        events.push(event(
            EventType::Warning,
            "TrainingWarning",
            text.clone(),
            "Train",
        ));
    }
    if let Some(event) = export_failed(old, new) {
        events.push(event);
    }
    let flips = [
        (types::INVALID, EventType::Warning),
        (types::RUNNING, EventType::Normal),
        (types::DEGRADED, EventType::Warning),
        (types::SUSPENDED, EventType::Normal),
        (types::SUCCEEDED, EventType::Normal),
        (types::FAILED, EventType::Warning),
    ];
    for (type_, severity) in flips {
        let before = conditions::get(&old.conditions, type_);
        let Some(now) = conditions::get(&new.conditions, type_).filter(|c| c.status == "True")
        else {
            continue;
        };
        let news =
            before.is_none_or(|before| before.status != now.status || before.reason != now.reason);
        if news {
            events.push(event(severity, &now.reason, now.message.clone(), type_));
        }
    }
    events
}

/// Losses and failures of pods, whatever they count against.
fn counted(status: &TrainingJobStatus) -> u32 {
    let restarts = &status.restarts;
    let exports = status.export.as_ref().map_or(0, |export| export.failures);
    restarts.failures + restarts.disruptions + exports
}

/// That a job has ended without its artifact. That it has one needs no event of its own beside the job's success.
fn export_failed(old: &TrainingJobStatus, new: &TrainingJobStatus) -> Option<Event> {
    let ends = old.completion_time.is_none() && new.completion_time.is_some();
    let condition = conditions::get(&new.conditions, types::ARTIFACT_READY)?;
    (ends && condition.status == "False").then(|| {
        let (reason, message) = (&condition.reason, condition.message.clone());
        event(EventType::Warning, reason, message, "Export")
    })
}

fn several(number: u32, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn event(type_: EventType, reason: &str, mut note: String, action: &str) -> Event {
    crate::trouble::truncate(&mut note, MAX_NOTE);
    Event {
        type_,
        reason: reason.into(),
        note: Some(note),
        action: action.into(),
        secondary: None,
    }
}
