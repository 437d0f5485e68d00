//! How much memory the processes of a job take, by a formula, and whether there is as much.
//!
//! A job that cannot fit is refused before the kernel kills it, or whatever else it picks. What is refused
//! is the certain minimum alone: between that and the most that may be held there is a warning.

mod at_hand;
mod limits;

pub use at_hand::{at_hand, limits};
pub use limits::{Bound, kills, of_process, shared};

use trainyard_core::layout::Layout;

use crate::arch::Architecture;
use crate::exit::BadInput;
use crate::job::Job;

/// Bytes of a parameter, of its gradient, and of an element of a slot.
const FLOAT: u64 = 4;

/// What of a job decides how much memory its parameters take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Bytes of the arena.
    pub parameters: u64,
    /// Slots of the optimizer, each as large as the parameters.
    pub slots: u64,
    /// Leaves of a step.
    pub leaves: u64,
    /// Steps, or fewer where they are not known yet.
    pub steps: u64,
}

impl Model {
    /// A job's model, laid out, over this many steps.
    pub fn of(job: &Job, layout: &Layout, steps: u64) -> Self {
        Model {
            parameters: layout.len() as u64 * FLOAT,
            slots: job.optimizer.slots().len() as u64,
            leaves: job.tree.leaves().into(),
            steps,
        }
    }

    /// The least that a job's model can be, whatever the data are; none if it fits no data at all, which
    /// those who load some will say better.
    pub fn smallest(job: &Job) -> Option<Self> {
        let spec = &job.manifest.spec;
        let params = Architecture::smallest(&spec.model).ok()?.params;
        let layout = Layout::new(params).ok()?;
        Some(Self::of(job, &layout, spec.training.epochs.into()))
    }
}

/// A process of a job, as far as its memory depends on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A server.
    Server {
        /// Bytes of its range of the arena.
        range: u64,
        /// Workers that push to it.
        workers: u64,
    },
    /// A worker that has at least one leaf of every step.
    Worker {
        /// Leaves that it computes side by side.
        threads: u64,
        /// Bytes of the data that it holds.
        data: u64,
    },
}

/// Bytes that a process holds, beside those that it would hold with a tiny model. What the allocator keeps of
/// freed memory is in neither number.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Every process holds as much at some time.
    pub least: u64,
    /// None holds more at any time.
    pub most: u64,
}

/// The memory that a process of a job takes. For a model of `P` bytes:
/// - a server of a range of `R` of them, with `S` slots: at least two versions and the slots, `(2 + S) R`. At most one
///   more version that is being sent, the slots once more while a checkpoint is written, one push that arrives,
///   and those that are held;
/// - a worker with `T` threads: at least two arenas, a sum, and libtorch's gradients, `4 P`. At most, for each thread,
///   a sum, libtorch's gradients and a sum of the other half of a subtree, `(2 + 3 T) P`. And the data.
///
/// In a job of a single step, the second version and the second arena come too late to count on.
pub fn footprint(model: &Model, part: Part) -> Footprint {
    let Model { slots, leaves, .. } = *model;
    match part {
        Part::Server { range, workers } => {
            let versions = model.steps.min(2);
            let most = 3 + 2 * slots + 1 + held(leaves, workers);
            Footprint {
                least: range.saturating_mul(versions + slots),
                most: range.saturating_mul(most),
            }
        }
        Part::Worker { threads, data } => {
            let arenas = model.steps.min(2);
            let busy = threads.clamp(1, leaves.max(1));
            let times = |times: u64| model.parameters.saturating_mul(times).saturating_add(data);
            Footprint {
                least: times(arenas + 2),
                most: times(2 + 3 * busy),
            }
        }
    }
}

/// Most pushes of a chunk that wait for others ([`trainyard_core::round::Round`]); a single worker pushes the root.
fn held(leaves: u64, workers: u64) -> u64 {
    let depth = u64::from(leaves.max(1).ilog2());
    match workers {
        0 | 1 => 1,
        _ => (leaves / 2).min(2 * workers * depth).max(1),
    }
}

/// The processes of a job that share the memory of a machine.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Company {
    /// Servers.
    pub servers: u64,
    /// Workers.
    pub workers: u64,
    /// Leaves that each worker computes side by side.
    pub threads: u64,
    /// Bytes of the data that each worker holds.
    pub data: u64,
}

impl Company {
    /// What all of them take together. At least: workers without a leaf need hold nothing but the data, and of the
    /// others only one need hold libtorch's gradients at a time.
    pub fn footprint(&self, model: &Model) -> Footprint {
        let server = footprint(
            model,
            Part::Server {
                range: model.parameters, // of all servers together
                workers: self.workers,
            },
        );
        let worker = footprint(
            model,
            Part::Worker {
                threads: self.threads,
                data: 0,
            },
        );
        let data = self.data.saturating_mul(self.workers);
        let sum = |server: u64, workers: u64| server.saturating_add(workers).saturating_add(data);
        let busy = self.workers.min(model.leaves);
        let lasting = (worker.least - model.parameters).saturating_mul(busy);
        let gradients = model.parameters * u64::from(busy > 0);
        Footprint {
            least: sum(server.least, lasting.saturating_add(gradients)),
            most: sum(server.most, worker.most.saturating_mul(self.workers)),
        }
    }
}

/// Whether something fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Fits,
    /// It may not; a warning.
    Tight(String),
    /// It cannot; a sentence with what is needed, what there is, and what to do.
    Lacks(String),
}

impl Fit {
    /// The warning, if there is one.
    ///
    /// # Errors
    /// [`BadInput`] if it cannot fit: no attempt would.
    pub fn warning(self) -> Result<Option<String>, BadInput> {
        match self {
            Fit::Fits => Ok(None),
            Fit::Tight(warning) => Ok(Some(warning)),
            Fit::Lacks(message) => Err(BadInput(message)),
        }
    }
}

/// Compares what `who` takes with what there is; `remedy` says what to do if that is too little.
pub fn fit(who: &str, needed: Footprint, there: Option<&Bound>, remedy: &str) -> Fit {
    let Some(Bound { bytes, by }) = there else {
        return Fit::Fits;
    };
    let (least, most) = (gigabytes(needed.least), gigabytes(needed.most));
    let there = gigabytes(*bytes);
    if needed.least > *bytes {
        Fit::Lacks(format!(
            "{who} cannot fit in memory: it takes at least {least}, and there are {there} ({by}); {remedy}"
        ))
    } else if needed.most > *bytes {
        Fit::Tight(format!(
            "{who} may not fit in memory: it takes between {least} and {most}, and there are {there} ({by}); if it does not, {remedy}"
        ))
    } else {
        Fit::Fits
    }
}

/// What to do on one machine about processes that do not fit.
pub const ON_THIS_MACHINE: &str = "use fewer or smaller layers, fewer workers or servers on this machine (--workers, --servers), or a machine with more memory";

/// Bytes in gigabytes, with two digits that count.
fn gigabytes(bytes: u64) -> String {
    let gigabytes = bytes as f64 / 1e9;
    match gigabytes {
        ..0.1 => format!("{gigabytes:.3} GB"),
        ..10.0 => format!("{gigabytes:.1} GB"),
        _ => format!("{gigabytes:.0} GB"),
    }
}

/// Whether what a process wrote last says that it got no memory: Rust's allocator, libtorch's, C++'s, the system.
pub fn was_refused(said: &str) -> bool {
    let torch = |line: &str| line.contains("DefaultCPUAllocator") && line.contains("memory");
    let rust =
        |line: &str| line.contains("memory allocation of ") && line.contains(" bytes failed");
    let others = ["std::bad_alloc", "Cannot allocate memory"];
    let other = |line: &str| others.iter().any(|other| line.contains(other));
    said.lines()
        .any(|line| torch(line) || rust(line) || other(line))
}

#[cfg(test)]
mod tests;
