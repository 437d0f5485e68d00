//! What the end of a pod means, and how long to wait before the next.

use std::time::Duration;

use crate::backoff::exponential;
use crate::observe::End;

/// `EX_TEMPFAIL`: the trainer asks to be started again.
const TRY_AGAIN: i32 = 75;
/// How Rust programs end after a panic.
const PANIC: i32 = 101;
/// The wait before the second replacement in a row; it doubles with each. The first is immediate.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest wait before a replacement.
const BACKOFF_CAP: Duration = Duration::from_secs(300);
/// A pod that ran this long starts the backoff anew.
const HEALTHY: Duration = Duration::from_secs(300);

/// What follows from the end of a pod.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended well: a worker that was released, or a server that was stopped.
    Left,
    /// The cluster or the trainer wants it started again; charged to nobody's account.
    Disrupted,
    /// It failed in a way that another attempt may mend; counts against `backoffLimit`.
    Failed,
    /// It failed in a way that no other attempt mends.
    Permanent,
}

/// Judges the end of a pod. `asked` is whether somebody had deleted it.
pub fn judge(end: &End, asked: bool) -> Verdict {
    match end.code {
        _ if end.disrupted => Verdict::Disrupted,
        // The kernel's choice of a victim is the container's fault, whoever asked.
        _ if end.reason == "OOMKilled" => Verdict::Failed,
        Some(0) => Verdict::Left,
        _ if asked => Verdict::Disrupted,
        Some(TRY_AGAIN) => Verdict::Disrupted,
        Some(PANIC) => Verdict::Failed,
        Some(1..=127) => Verdict::Permanent,
        // Signals, and ends that nobody can tell the code of.
        _ => Verdict::Failed,
    }
}

/// One word for a condition.
pub fn reason(end: &End) -> &'static str {
    match (end.reason.as_str(), end.code) {
        ("OOMKilled", _) => "OOMKilled",
        ("Evicted", _) => "Evicted",
        (_, Some(2)) => "BadInput",
        (_, Some(PANIC)) => "Panic",
        (_, Some(code)) if code > 128 => "Signal",
        _ if end.disrupted => "Disrupted",
        _ => "Error",
    }
}

/// The end in a sentence, for people.
pub fn describe(end: &End) -> String {
    let how = match end.code {
        _ if end.reason == "OOMKilled" => {
            "was killed because it used more memory than its limit (OOMKilled): raise resources.limits.memory".into()
        }
        _ if end.disrupted => format!("was ended by the cluster ({})", end.reason),
        Some(code) if code > 128 => format!("was ended by signal {}", code - 128),
        Some(code) => format!("ended with exit code {code}"),
        None => format!("ended ({})", end.reason),
    };
    let said = end.message.trim();
    match end.report().is_some() || said.is_empty() {
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
        n => exponential(BACKOFF_BASE, n - 2, BACKOFF_CAP),
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
