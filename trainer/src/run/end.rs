//! How a process ended, in words, and what can be done about it.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::anyhow;
use trainyard_contract::{ExitCode, Member, ProcessEnd};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::memory::ON_THIS_MACHINE;

/// A signal that ends processes: its number on Linux, its name, what it stands for, what to do.
struct Known(i32, &'static str, &'static str, &'static str);

/// Asked for by somebody; nothing is wrong with the program.
const ASKED: &str = "find out who has sent it";
/// A fault that no run should meet.
const BUG: &str = "report it with the log: this is a bug";

const SIGNALS: [Known; 14] = [
    Known(1, "SIGHUP", "its terminal was closed", ASKED),
    Known(2, "SIGINT", "it was interrupted", ASKED),
    Known(3, "SIGQUIT", "it was asked to quit", ASKED),
    Known(
        4,
        "SIGILL",
        "this processor lacks an instruction",
        "use a build of libtorch for this processor",
    ),
    Known(6, "SIGABRT", "it has given up", BUG),
    Known(
        7,
        "SIGBUS",
        "mapped memory could not be read",
        "look for errors of the disk or the memory in dmesg",
    ),
    Known(8, "SIGFPE", "an arithmetic fault", BUG),
    Known(9, "SIGKILL", "it was killed", KILLED),
    Known(11, "SIGSEGV", "a fault in memory", BUG),
    Known(13, "SIGPIPE", "a reader has gone", BUG),
    Known(15, "SIGTERM", "it was asked to end", ASKED),
    Known(
        24,
        "SIGXCPU",
        "the limit of processor time",
        "raise it: ulimit -t",
    ),
    Known(
        25,
        "SIGXFSZ",
        "the limit of a file's size",
        "raise it: ulimit -f",
    ),
    Known(
        31,
        "SIGSYS",
        "a sandbox forbids a system call",
        "allow it in the profile of the sandbox (seccomp)",
    ),
];

const KILLED: &str =
    "find out who has killed it; dmesg says so if it was the kernel, for lack of memory";

const STUCK: &str = "look for what holds its process up: a disk or a network that does not answer, a debugger, a device driver";

fn known(status: ExitStatus) -> Option<&'static Known> {
    let signal = status.signal()?;
    SIGNALS.iter().find(|known| known.0 == signal)
}

/// A member's process that has ended, for an error to tell.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub member: Member,
    /// How.
    pub status: ExitStatus,
    /// It was for lack of memory.
    pub lacked: bool,
    /// It was ended because it does nothing: what it does not do, as a clause.
    pub stuck: Option<String>,
    /// The last error that it has written.
    pub said: Option<String>,
    /// Its log.
    pub log: PathBuf,
}

impl Ended {
    /// How it ended, in words.
    pub fn how(&self) -> String {
        match (&self.stuck, self.lacked) {
            (Some(stuck), _) => format!("killed because it {stuck}"),
            (None, true) => format!("{}, for lack of memory", describe(self.status)),
            (None, false) => describe(self.status),
        }
    }

    /// The error for an end that every other attempt would repeat: what it has said, if it has said anything.
    pub fn refused(self) -> anyhow::Error {
        let bad_input = self.status.code().and_then(ExitCode::of) == Some(ExitCode::BadInput);
        let message = match &self.said {
            Some(said) => said.clone(),
            None => self.sentence(", and a restart would not help"),
        };
        match bad_input {
            true => BadInput(message).into(),
            false => anyhow!(message),
        }
    }

    /// The error for an end after which it is not started again; `why` is the end of a clause.
    pub fn failed(self, why: &str) -> anyhow::Error {
        anyhow!(self.sentence(why))
    }

    fn sentence(&self, why: &str) -> String {
        let said = match &self.said {
            Some(said) => format!(" (last error: {said})"),
            None => String::new(),
        };
        let remedy = match (&self.stuck, self.lacked) {
            (Some(_), _) => Some(STUCK),
            (None, true) => Some(ON_THIS_MACHINE),
            (None, false) => remedy(self.status),
        };
        let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
        let ended = match self.stuck {
            Some(_) => format!("was {}", self.how()),
            None => format!("ended with {}", self.how()),
        };
        format!(
            "{} {ended}{why}{said}{remedy}; see {}",
            self.member.in_words(),
            self.log.display()
        )
    }
}

/// How a process ended; `out_of_memory` is whether it was for lack of memory.
pub fn judged(status: ExitStatus, out_of_memory: bool) -> ProcessEnd {
    let of_signal = || status.signal().map(ExitCode::of_signal);
    ProcessEnd {
        code: status.code().or_else(of_signal),
        out_of_memory,
        disrupted: false,
    }
}

/// How a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => match ExitCode::of(code) {
            Some(ExitCode::Panic) => format!("exit code {code}, a panic"),
            Some(ExitCode::TryAgain) => format!("exit code {code}, to be tried again"),
            _ => format!("exit code {code}"),
        },
        (None, Some(signal)) => match known(status) {
            Some(Known(_, name, meaning, _)) => format!("signal {signal} ({name}: {meaning})"),
            None => format!("signal {signal}"),
        },
        (None, None) => "an unknown end".into(),
    }
}

/// What a user can do about such an end; what the process has said itself comes before it.
pub fn remedy(status: ExitStatus) -> Option<&'static str> {
    let of_code = || match status.code().and_then(ExitCode::of) {
        Some(ExitCode::Panic) => Some(BUG),
        _ => None,
    };
    let of_signal = known(status).map(|known| known.3);
    of_signal.or_else(of_code)
}

#[cfg(test)]
mod tests {
    use trainyard_contract::{Verdict, judge};

    use super::*;

    fn of_code(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn of_signal(signal: i32) -> ExitStatus {
        ExitStatus::from_raw(signal)
    }

    #[test]
    fn the_end_of_a_process_is_judged_as_that_of_a_pod() {
        for (status, code, verdict) in [
            (of_code(0), 0, Verdict::Left),
            (of_code(75), 75, Verdict::Disrupted),
            (of_code(101), 101, Verdict::Failed),
            (of_code(2), 2, Verdict::Permanent),
            (of_code(137), 137, Verdict::Failed),
            (of_signal(9), 137, Verdict::Failed),
            (of_signal(6), 134, Verdict::Failed),
        ] {
            let end = judged(status, false);
            assert_eq!(end.code, Some(code), "{status}");
            assert_eq!(judge(end, false), verdict, "{status}");
        }
        let end = judged(of_code(101), true);
        assert_eq!(judge(end, true), Verdict::Failed, "for lack of memory");
    }

    #[test]
    fn t15_the_end_of_a_process_is_told_with_a_name_and_a_remedy() {
        assert_eq!(describe(of_code(0)), "exit code 0");
        assert_eq!(remedy(of_code(0)), None);
        assert_eq!(describe(of_code(101)), "exit code 101, a panic");
        for (signal, how, what) in [
            (
                25,
                "signal 25 (SIGXFSZ: the limit of a file's size)",
                "ulimit -f",
            ),
            (24, "signal 24 (SIGXCPU", "ulimit -t"),
            (9, "signal 9 (SIGKILL: it was killed)", "lack of memory"),
            (4, "signal 4 (SIGILL", "this processor"),
        ] {
            let status = of_signal(signal);
            assert!(describe(status).starts_with(how), "{}", describe(status));
            let remedy = remedy(status).expect("a remedy");
            assert!(remedy.contains(what), "{remedy}");
        }
        assert_eq!(describe(of_signal(40)), "signal 40");
    }

    #[test]
    fn t15_an_error_about_a_process_says_how_it_ended_what_it_said_and_what_to_do() {
        let ended = |status, lacked, said: Option<&str>| Ended {
            member: Member::worker(1),
            status,
            lacked,
            stuck: None,
            said: said.map(str::to_owned),
            log: "logs/worker-1.log".into(),
        };
        let files = ended(of_signal(25), false, None).failed(" and backoffLimit allows no restart");
        assert_eq!(
            files.to_string(),
            "worker 1 ended with signal 25 (SIGXFSZ: the limit of a file's size) and backoffLimit allows no restart; \
             raise it: ulimit -f; see logs/worker-1.log"
        );
        let lacked = ended(of_signal(6), true, Some("no room")).failed(", as before");
        for part in [
            "signal 6 (SIGABRT: it has given up), for lack of memory, as before (last error: no room); use fewer",
            "see logs/worker-1.log",
        ] {
            assert!(lacked.to_string().contains(part), "{lacked}");
        }
        let refused = ended(of_code(2), false, Some("data.csv:3: two values")).refused();
        assert_eq!(refused.to_string(), "data.csv:3: two values");
        assert!(refused.is::<BadInput>());
        let silent = ended(of_code(1), false, None).refused();
        assert!(!silent.is::<BadInput>());
        assert!(
            silent
                .to_string()
                .contains("exit code 1, and a restart would not help"),
            "{silent}"
        );
    }

    /// The numbers are those of x86-64 and aarch64, which the program is built for.
    #[test]
    fn t15_the_numbers_of_signals_are_this_systems() {
        use rustix::process::Signal;
        for (signal, name) in [
            (Signal::HUP, "SIGHUP"),
            (Signal::BUS, "SIGBUS"),
            (Signal::XCPU, "SIGXCPU"),
            (Signal::XFSZ, "SIGXFSZ"),
            (Signal::SYS, "SIGSYS"),
        ] {
            let known = known(of_signal(signal.as_raw())).expect("it is known");
            assert_eq!(known.1, name);
        }
    }
}
