//! What the end of a pod means, and how long to wait before the next.

use std::time::Duration;

use trainyard_contract::{ExitCode, ProcessEnd, doubled};

pub use trainyard_contract::Verdict;

use crate::observe::End;

/// Kubernetes' word for a container that used more memory than its limit.
const OUT_OF_MEMORY: &str = "OOMKilled";
/// Kubernetes' word for a pod that took longer than its own `activeDeadlineSeconds`, as a finisher may.
const OVERDUE: &str = "DeadlineExceeded";
/// The wait before the second replacement in a row; it doubles with each. The first is immediate.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest wait before a replacement.
const BACKOFF_CAP: Duration = Duration::from_secs(300);
/// A pod that ran this long starts the backoff anew.
const HEALTHY: Duration = Duration::from_secs(300);

/// Judges the end of a pod. `asked` is whether somebody had deleted it.
pub fn judge(end: &End, asked: bool) -> Verdict {
    if end.reason == OVERDUE {
        return Verdict::Failed; // the kubelet asked it to end
    }
    let end = ProcessEnd {
        code: end.code,
        out_of_memory: end.reason == OUT_OF_MEMORY,
        disrupted: end.disrupted,
    };
    trainyard_contract::judge(end, asked)
}

/// One word for a condition.
pub fn reason(end: &End) -> &'static str {
    match (end.reason.as_str(), end.code.and_then(ExitCode::of)) {
        (OUT_OF_MEMORY, _) => OUT_OF_MEMORY,
        (OVERDUE, _) => OVERDUE,
        ("Evicted", _) => "Evicted",
        (_, Some(ExitCode::BadInput)) => "BadInput",
        (_, Some(ExitCode::Panic)) => "Panic",
        _ if end.code.and_then(ExitCode::signal).is_some() => "Signal",
        _ if end.disrupted => "Disrupted",
        _ => "Error",
    }
}

/// The end in a sentence, for people.
pub fn describe(end: &End) -> String {
    let how = match end.code {
        _ if end.reason == OUT_OF_MEMORY => {
            "was killed because it used more memory than its limit (OOMKilled): raise resources.limits.memory".into()
        }
        _ if end.reason == OVERDUE => "took longer than the activeDeadlineSeconds of its pod".into(),
        _ if end.disrupted => format!("was ended by the cluster ({})", end.reason),
        Some(code) => match ExitCode::signal(code) {
            Some(signal) => format!("was ended by signal {signal}"),
            None => format!("ended with exit code {code}"),
        },
        None => format!("ended ({})", end.reason),
    };
    let said = end.message.trim();
    let reported = end.report().is_some() || end.export_report().is_some();
    match reported || said.is_empty() {
        true => how,
        false => format!("{how}: {said}"),
    }
}

/// The streak after a pod that lived for `lived_seconds`, and the wait before its successor.
pub fn backoff(streak: u32, lived_seconds: i64) -> (u32, Duration) {
    let healthy = u64::try_from(lived_seconds).is_ok_and(|lived| lived >= HEALTHY.as_secs());
    let streak = if healthy { 1 } else { streak.saturating_add(1) };
    let wait = match streak {
        0 | 1 => Duration::ZERO,
        n => doubled(BACKOFF_BASE, n - 2, BACKOFF_CAP),
    };
    (streak, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(code: Option<i32>, reason: &str, disrupted: bool) -> End {
        End {
            code,
            reason: reason.into(),
            message: String::new(),
            disrupted,
            lived_seconds: 1,
            finished: None,
        }
    }

    #[test]
    fn o07_exit_codes_mean_what_is_documented() {
        let cases = [
            (Some(0), "Completed", false, false, Verdict::Left),
            (Some(1), "Error", false, false, Verdict::Permanent),
            (Some(2), "Error", false, false, Verdict::Permanent),
            (Some(75), "Error", false, false, Verdict::Disrupted),
            (Some(101), "Error", false, false, Verdict::Failed),
            (Some(127), "Error", false, false, Verdict::Permanent),
            (Some(134), "Error", false, false, Verdict::Failed),
            (Some(137), "Error", false, false, Verdict::Failed),
            (Some(137), "OOMKilled", false, false, Verdict::Failed),
            (Some(137), "OOMKilled", false, true, Verdict::Failed),
            (Some(143), "Error", false, false, Verdict::Failed),
            (Some(143), "Error", false, true, Verdict::Disrupted),
            (Some(1), "Error", false, true, Verdict::Disrupted),
            (Some(137), "Evicted", true, false, Verdict::Disrupted),
            (None, "NodeLost", true, false, Verdict::Disrupted),
            (None, "Unknown", false, false, Verdict::Failed),
            (Some(75), OVERDUE, false, true, Verdict::Failed),
            (None, OVERDUE, true, false, Verdict::Failed),
        ];
        for (code, reason, disrupted, asked, verdict) in cases {
            let end = end(code, reason, disrupted);
            assert_eq!(judge(&end, asked), verdict, "{end:?}, asked {asked}");
        }
    }

    #[test]
    fn o07_out_of_memory_is_named_with_its_remedy() {
        let end = end(Some(137), "OOMKilled", false);
        assert_eq!(reason(&end), "OOMKilled");
        assert!(describe(&end).contains("resources.limits.memory"));
    }

    #[test]
    fn o09_waits_double_up_to_a_cap_and_begin_anew_after_a_healthy_period() {
        let mut streak = 0;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait;
            (streak, wait) = backoff(streak, 3);
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(streak, 299), (13, BACKOFF_CAP));
        assert_eq!(backoff(streak, 300), (1, Duration::ZERO));
        assert_eq!(backoff(u32::MAX, 0).1, BACKOFF_CAP);
    }
}
