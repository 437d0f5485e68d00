//! Whether a worker has room for what it is about to hold, now that it knows the data and so the model.

use trainyard_data::{Dataset, Table};
use trainyard_runtime::exit::BadInput;
use trainyard_runtime::memory::{self, Bound, Company, Footprint, Model, ON_THIS_MACHINE, Part};

use super::Options;

/// What to do where a worker has its memory for itself.
const IN_A_POD: &str =
    "raise the memory limit in spec.workers.resources, or use fewer or smaller layers";
/// What to do about a limit of each process.
const ALONE: &str = "use fewer or smaller layers, or raise the limit";

/// Of the bytes at hand, those that this worker's data may take: workers that share a machine load them at the same
/// time, and each sees as much at hand as the first.
pub(super) fn share(at_hand: u64, company: Option<(u32, u32)>) -> u64 {
    share_of(at_hand, company, memory::shared().as_ref())
}

fn share_of(at_hand: u64, company: Option<(u32, u32)>, shared: Option<&Bound>) -> u64 {
    let workers = company.map_or(1, |(_, workers)| workers.max(1));
    // Not of what is at hand: that is less by what the others hold, when one is started again.
    shared.map_or(at_hand, |shared| {
        at_hand.min(shared.bytes / u64::from(workers))
    })
}

/// Checks that this worker, and whoever shares the memory with it, can hold a model. Returns a warning
/// if that is not certain; one worker tells it for all.
///
/// # Errors
/// [`BadInput`] if it is certain that they cannot.
pub(super) fn check(
    options: &Options,
    model: &Model,
    threads: usize,
    data: &Dataset,
) -> Result<Option<String>, BadInput> {
    let bytes = |table: &Table| 4 * (table.features.len() + table.labels.len()) as u64;
    let others = data.validation.iter().chain(&data.test);
    let data = bytes(&data.train) + others.map(bytes).sum::<u64>();
    let workers = match options.company {
        Some((_, workers)) => workers,
        None => options.job.manifest.spec.workers.replicas,
    };
    let needs = needs(
        options.company,
        model,
        (threads as u64, workers.into()),
        data,
    );
    let (shared, alone) = (memory::shared(), memory::of_process());
    let warning = compare(&needs, shared.as_ref(), alone.as_ref())?;
    Ok(warning.filter(|_| options.index == 0))
}

/// What is compared with what there is.
#[derive(Debug, PartialEq, Eq)]
struct Needs {
    /// Of all that share the memory.
    together: Footprint,
    /// Of this process.
    alone: Footprint,
    who: String,
    remedy: &'static str,
}

fn needs(
    company: Option<(u32, u32)>,
    model: &Model,
    (threads, workers): (u64, u64),
    data: u64,
) -> Needs {
    let mut alone = memory::footprint(model, Part::Worker { threads, data });
    if workers > model.leaves {
        alone.least = data; // it may be in reserve
    }
    let parameters = model.parameters / 4;
    match company {
        Some((servers, _)) => Needs {
            together: Company {
                servers: servers.into(),
                workers,
                threads,
                data,
            }
            .footprint(model),
            alone,
            who: format!(
                "this job of {parameters} parameters on {servers} server(s) and {workers} worker(s)"
            ),
            remedy: ON_THIS_MACHINE,
        },
        None => Needs {
            together: alone,
            alone,
            who: format!("a worker of this job of {parameters} parameters"),
            remedy: IN_A_POD,
        },
    }
}

fn compare(
    needs: &Needs,
    shared: Option<&Bound>,
    alone: Option<&Bound>,
) -> Result<Option<String>, BadInput> {
    let together = memory::fit(&needs.who, needs.together, shared, needs.remedy);
    let together = together.warning()?;
    let alone = memory::fit("a worker of this job", needs.alone, alone, ALONE);
    Ok(together.or(alone.warning()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;
    const MODEL: Model = Model {
        parameters: GB,
        slots: 0,
        leaves: 4,
        steps: 9,
    };

    fn bound(bytes: u64) -> Bound {
        let by = "the memory of this machine".into();
        Bound { bytes, by }
    }

    #[test]
    fn t20_a_worker_of_a_local_run_counts_everyone_and_the_data_of_each() {
        // Two versions in the server, 3 GB and the data in each worker, gradients in one.
        let needs = needs(Some((1, 2)), &MODEL, (1, 2), GB);
        let check = |bytes| compare(&needs, Some(&bound(bytes)), None);
        let error = check(11 * GB - 1).expect_err("it cannot fit");
        for part in [
            "250000000 parameters",
            "1 server(s) and 2 worker(s)",
            "at least 11 GB",
            "--workers",
        ] {
            assert!(error.0.contains(part), "{part}: {}", error.0);
        }
        let warning = check(11 * GB).expect("it may fit");
        assert!(warning.is_some_and(|warning| warning.contains("between 11 GB and")));
        assert_eq!(check(100 * GB).expect("it fits"), None);
    }

    #[test]
    fn t15_workers_of_one_machine_share_it_when_they_load() {
        let shared = bound(12 * GB);
        let share = |at_hand, company| share_of(at_hand, company, Some(&shared));
        assert_eq!(share(10 * GB, None), 10 * GB);
        assert_eq!(share(10 * GB, Some((1, 4))), 3 * GB);
        // The three others hold their data already.
        assert_eq!(share(2 * GB, Some((1, 4))), 2 * GB);
        assert_eq!(share_of(10 * GB, Some((1, 4)), None), 10 * GB);
    }

    #[test]
    fn t20_a_worker_of_a_pod_counts_itself_unless_it_may_be_in_reserve() {
        let check = |workers, bytes| {
            let needs = needs(None, &MODEL, (1, workers), 0);
            compare(&needs, Some(&bound(bytes)), None)
        };
        let error = check(4, 4 * GB - 1).expect_err("it cannot fit");
        assert!(error.0.contains("spec.workers.resources"), "{}", error.0);
        assert!(check(4, 4 * GB).is_ok());
        assert!(check(5, GB).is_ok(), "one of five has no leaf");
    }
}
