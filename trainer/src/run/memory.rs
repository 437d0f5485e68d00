//! Whether a run fits this machine, before it is started, and which of its processes have ended because it
//! does not.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::Result;
use rustix::process::Signal;
use trainyard_contract::ExitCode;
use trainyard_runtime::job::Job;
use trainyard_runtime::memory::{self, Bound, Company, Model, ON_THIS_MACHINE, Part};

/// Checks that the processes of a job have room. The data are not known yet, so this finds only what is too large
/// on any data; workers look again when they have loaded theirs.
///
/// # Errors
/// [`BadInput`](trainyard_runtime::exit::BadInput) with what is needed, what there is, and what to do.
pub fn check(job: &Job, company: Company) -> Result<()> {
    let Some(model) = Model::smallest(job) else {
        return Ok(());
    };
    let (shared, alone) = (memory::shared(), memory::of_process());
    Ok(refuse(&model, company, shared.as_ref(), alone.as_ref())?)
}

fn refuse(
    model: &Model,
    company: Company,
    shared: Option<&Bound>,
    alone: Option<&Bound>,
) -> Result<(), trainyard_runtime::exit::BadInput> {
    let Company {
        servers,
        workers,
        threads,
        ..
    } = company;
    let range = model.parameters / servers.max(1);
    let server = memory::footprint(model, Part::Server { range, workers });
    let worker = memory::footprint(model, Part::Worker { threads, data: 0 });
    let count = |n: u64, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let together = format!(
        "a model of this size on {} and {}",
        count(servers, "server"),
        count(workers, "worker")
    );
    let alone_remedy = "use fewer or smaller layers, or raise the limit";
    let fits = [
        memory::fit(&together, company.footprint(model), shared, ON_THIS_MACHINE),
        memory::fit("a server of this model", server, alone, alone_remedy),
        memory::fit("a worker of this model", worker, alone, alone_remedy),
    ];
    // A warning is for workers, who know the data.
    fits.into_iter().try_for_each(|fit| fit.warning().map(drop))
}

/// Tells ends for lack of memory from others.
#[derive(Debug)]
pub struct Watch {
    /// Kills for lack of memory so far, as far as they were accounted for.
    kills: Option<u64>,
}

impl Watch {
    /// Watches from now on.
    pub fn new() -> Self {
        Watch {
            kills: memory::kills(),
        }
    }

    /// Whether a process that has ended so, and has said this, lacked memory.
    pub fn lacked(&mut self, status: ExitStatus, said: &str) -> bool {
        self.lacked_at(memory::kills(), status, said)
    }

    fn lacked_at(&mut self, kills: Option<u64>, status: ExitStatus, said: &str) -> bool {
        let killed = self.kills < kills && status.signal() == Some(Signal::KILL.as_raw());
        if killed {
            // This one; the end of another may be on its way to us.
            self.kills = self.kills.map(|kills| kills + 1);
        }
        // Whoever ends with a code of its own has said what it means.
        let crashed =
            status.signal().is_some() || status.code() == Some(ExitCode::Panic.code().into());
        killed || (crashed && memory::was_refused(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn refused(shared: u64, alone: u64) -> Option<String> {
        let model = Model {
            parameters: GB,
            slots: 2,
            leaves: 4,
            steps: 40,
        };
        let company = Company {
            servers: 2,
            workers: 2,
            threads: 1,
            data: 0,
        };
        let bound = |bytes, by: &str| Bound {
            bytes,
            by: by.into(),
        };
        let (shared, alone) = (
            bound(shared, "the memory of this machine"),
            bound(alone, "the limit of ulimit -v"),
        );
        let refused = refuse(&model, company, Some(&shared), Some(&alone));
        refused.err().map(|error| error.0)
    }

    #[test]
    fn t20_a_run_that_cannot_fit_is_refused_with_what_it_needs_and_a_remedy() {
        // 4 GB of the servers; 3 GB of each worker, and the gradients of one.
        assert_eq!(refused(11 * GB, 4 * GB), None);
        let together = refused(11 * GB - 1, 4 * GB).expect("it cannot fit");
        for part in ["2 servers and 2 workers", "at least 11 GB", "--workers"] {
            assert!(together.contains(part), "{part}: {together}");
        }
        let alone = refused(100 * GB, 3 * GB).expect("it cannot fit");
        for part in [
            "a worker of this model",
            "at least 4.0 GB",
            "3.0 GB",
            "ulimit -v",
        ] {
            assert!(alone.contains(part), "{part}: {alone}");
        }
    }

    #[test]
    fn t20_an_end_for_lack_of_memory_is_known_by_its_words_and_by_the_kernels_count() {
        let mut watch = Watch { kills: Some(3) };
        let mut lacked = |kills, signal: Signal, said| {
            let status = ExitStatus::from_raw(signal.as_raw());
            watch.lacked_at(Some(kills), status, said)
        };
        let failed = "memory allocation of 17179869184 bytes failed\n";
        assert!(lacked(3, Signal::ABORT, failed));
        assert!(!lacked(3, Signal::ABORT, "an assertion\n"));
        assert!(!lacked(3, Signal::KILL, ""), "somebody has killed it");
        assert!(!lacked(5, Signal::TERM, ""), "and two others lack memory");
        assert!(lacked(5, Signal::KILL, ""));
        assert!(lacked(5, Signal::KILL, ""));
        assert!(!lacked(5, Signal::KILL, ""), "the third is somebody's");
        let of_code = |code: i32| ExitStatus::from_raw(code << 8);
        let refused = "Cannot allocate memory";
        assert!(watch.lacked_at(Some(5), of_code(101), refused));
        assert!(!watch.lacked_at(Some(5), of_code(2), refused));
        let killed = ExitStatus::from_raw(Signal::KILL.as_raw());
        let mut blind = Watch { kills: None };
        assert!(!blind.lacked_at(None, killed, ""), "where nobody counts");
    }
}
