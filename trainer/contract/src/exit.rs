//! Exit codes, the same for every command and role.

/// How a process ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// An error that another attempt would meet again.
    Error = 1,
    /// Bad usage or bad input.
    BadInput = 2,
    /// The process wants to be started again (`EX_TEMPFAIL` of `sysexits.h`).
    TryAgain = 75,
    /// A panic, as Rust programs end after one.
    Panic = 101,
    /// Interrupted, with everything checkpointed (as shells report an end by SIGINT).
    Interrupted = 130,
}

/// A container that was ended by signal `n` has the exit code `128 + n`, as in a shell.
const SIGNAL_BASE: i32 = 128;

impl ExitCode {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code with this number, if it is one of ours.
    pub fn of(code: i32) -> Option<ExitCode> {
        Some(match code {
            0 => ExitCode::Done,
            1 => ExitCode::Error,
            2 => ExitCode::BadInput,
            75 => ExitCode::TryAgain,
            101 => ExitCode::Panic,
            130 => ExitCode::Interrupted,
            _ => return None,
        })
    }

    /// The exit code that stands for the end by a signal.
    pub const fn of_signal(signal: i32) -> i32 {
        SIGNAL_BASE + signal
    }

    /// The signal that an exit code stands for, if it stands for one.
    pub fn signal(code: i32) -> Option<i32> {
        (code > SIGNAL_BASE).then_some(code - SIGNAL_BASE)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts, Kubernetes and older releases know these numbers.
    #[test]
    fn the_numbers_are_those_that_are_documented() {
        let codes = [
            (ExitCode::Done, 0),
            (ExitCode::Error, 1),
            (ExitCode::BadInput, 2),
            (ExitCode::TryAgain, 75),
            (ExitCode::Panic, 101),
            (ExitCode::Interrupted, 130),
        ];
        for (code, number) in codes {
            assert_eq!(i32::from(code.code()), number);
            assert_eq!(ExitCode::of(number), Some(code));
        }
        assert_eq!(ExitCode::of(3), None);
        assert_eq!(ExitCode::of(-1), None);
        assert_eq!((0..=255).filter_map(ExitCode::of).count(), codes.len());
    }

    #[test]
    fn codes_above_128_are_signals() {
        assert_eq!(ExitCode::of_signal(9), 137);
        assert_eq!(ExitCode::signal(137), Some(9));
        assert_eq!(ExitCode::signal(129), Some(1));
        assert_eq!(ExitCode::signal(128), None);
        assert_eq!(ExitCode::signal(75), None);
    }
}
