//! What the end of a process means: one rule for the operator and for `trainyard run`.

use std::time::Duration;

use crate::ExitCode;

/// How often the finisher of a job may fail before the job ends without an artifact. The operator does not count ends that are
/// [`Verdict::Disrupted`]; `trainyard run`, whose user waits, counts all.
pub const EXPORT_ATTEMPTS: u32 = 3;

/// How a process ended.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    /// The exit code, if it is known; `128 + n` after signal `n`.
    pub code: Option<i32>,
    /// The kernel ended it because its container used more memory than its limit.
    pub out_of_memory: bool,
    /// The cluster ended it rather than the program: an eviction, a preemption, a lost node.
    pub disrupted: bool,
}

/// What follows from the end of a process.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended well: a worker that was released, or a server that was stopped.
    Left,
    /// The cluster or the trainer wants it started again; this does not count against `backoffLimit`.
    Disrupted,
    /// It failed in a way that another attempt may not repeat; this counts against `backoffLimit`.
    Failed,
    /// It failed in a way that every other attempt would repeat.
    Permanent,
}

/// Judges the end of a process. `asked` is whether it was told to end before it did.
pub fn judge(end: ProcessEnd, asked: bool) -> Verdict {
    if end.disrupted {
        return Verdict::Disrupted;
    }
    if end.out_of_memory {
        return Verdict::Failed; // even if it was told to end
    }
    match end.code.and_then(ExitCode::of) {
        Some(ExitCode::Done) => Verdict::Left,
        _ if asked => Verdict::Disrupted,
        Some(ExitCode::TryAgain) => Verdict::Disrupted,
        Some(ExitCode::Panic) => Verdict::Failed,
        Some(ExitCode::Error | ExitCode::BadInput) => Verdict::Permanent,
        Some(ExitCode::Interrupted) | None => match end.code {
            // 126 and 127 come from a container runtime that has no program to start.
            Some(1..=127) => Verdict::Permanent,
            // Signals, and ends that nobody knows the code of.
            _ => Verdict::Failed,
        },
    }
}

/// `shortest`, doubled so many times, but at most `longest`: the wait before a process that keeps ending is started again.
pub fn doubled(shortest: Duration, times: u32, longest: Duration) -> Duration {
    let factor = 2u32.saturating_pow(times);
    shortest.saturating_mul(factor).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in `docs/operations.md`.
    #[test]
    fn o07_exit_codes_mean_what_is_documented() {
        use Verdict::{Disrupted, Failed, Left, Permanent};
        // Exit code, and the verdict if nobody asked for the end and if somebody did.
        let cases = [
            (Some(0), Left, Left),
            (Some(1), Permanent, Disrupted),
            (Some(2), Permanent, Disrupted),
            (Some(3), Permanent, Disrupted),
            (Some(75), Disrupted, Disrupted),
            (Some(101), Failed, Disrupted),
            (Some(126), Permanent, Disrupted),
            (Some(127), Permanent, Disrupted),
            (Some(128), Failed, Disrupted),
            (Some(130), Failed, Disrupted),
            (Some(134), Failed, Disrupted),
            (Some(137), Failed, Disrupted),
            (Some(143), Failed, Disrupted),
            (Some(255), Failed, Disrupted),
            (Some(-1), Failed, Disrupted),
            (None, Failed, Disrupted),
        ];
        for (code, unasked, asked) in cases {
            let end = ProcessEnd {
                code,
                ..ProcessEnd::default()
            };
            assert_eq!(judge(end, false), unasked, "{code:?}");
            assert_eq!(judge(end, true), asked, "{code:?}, asked");
            let disrupted = ProcessEnd {
                disrupted: true,
                ..end
            };
            assert_eq!(judge(disrupted, false), Disrupted, "{code:?}, disrupted");
            let out_of_memory = ProcessEnd {
                out_of_memory: true,
                ..end
            };
            assert_eq!(judge(out_of_memory, true), Failed, "{code:?}, no memory");
        }
    }

    #[test]
    fn waits_double_up_to_a_bound_and_do_not_overflow() {
        let seconds = |times| {
            let longest = Duration::from_secs(300);
            doubled(Duration::from_secs(1), times, longest).as_secs()
        };
        assert_eq!([0, 1, 2, 8, 9].map(seconds), [1, 2, 4, 256, 300]);
        assert_eq!(seconds(u32::MAX), 300);
    }
}
