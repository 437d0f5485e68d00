//! Rows of several requests, computed together. What is computed beside a row makes no difference to it: see [`trainyard_infer`].

mod queue;

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use trainyard_infer::Scratch;

use crate::model::{Encoded, ServedModel};
use crate::protocol::{ErrorKind, ProtocolError};
use crate::stats::Stats;

pub use queue::Bounds;
use queue::{Full, Next, Queue, Waiting};

/// What is computed where it is asked for: to hand it to an executor would take about as long.
const SMALL: Duration = Duration::from_micros(50);

/// Computes rows on a number of threads.
pub struct Batcher {
    shared: Arc<Shared>,
    executors: Vec<JoinHandle<()>>,
}

struct Shared {
    models: Vec<Arc<ServedModel>>,
    stats: Vec<Arc<Stats>>,
    /// How long one row of each model takes by itself.
    single: Vec<Duration>,
    state: Mutex<State>,
    changed: Condvar,
    wait: Duration,
}

struct State {
    queue: Queue<Job>,
    is_over: bool,
}

struct Job {
    inputs: Vec<f32>,
    answer: oneshot::Sender<Result<Vec<f32>, ProtocolError>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn compute(model: &ServedModel, inputs: &[f32]) -> Vec<f32> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut out = Vec::new();
        model.model.outputs_with(inputs, scratch, &mut out);
        out
    })
}

impl Batcher {
    /// Starts `executors` threads. Runs each model first, with one row and with a batch: the first time takes longer.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        models: Vec<Arc<ServedModel>>,
        stats: Vec<Arc<Stats>>,
        bounds: Bounds,
        executors: usize,
    ) -> std::io::Result<Self> {
        let single: Vec<Duration> = models.iter().map(|model| warm_up(model, 1)).collect();
        let batch = models.iter().map(|model| warm_up(model, bounds.batch_rows));
        let pace = batch
            .map(|took| took.as_secs_f64() / bounds.batch_rows as f64)
            .collect();
        let shared = Arc::new(Shared {
            models,
            stats,
            single,
            state: Mutex::new(State {
                queue: Queue::new(bounds, pace, executors),
                is_over: false,
            }),
            changed: Condvar::new(),
            wait: bounds.wait,
        });
        let start = |number| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("executor-{number}"))
                .spawn(move || shared.execute())
        };
        let executors = (0..executors.max(1)).map(start).collect::<Result<_, _>>()?;
        Ok(Self { shared, executors })
    }

    /// Outputs of rows of a model. Whoever stops waiting is not computed for.
    ///
    /// # Errors
    /// If there is too much to do, or the rows have waited longer than `timeout`.
    pub async fn run(
        &self,
        model: usize,
        encoded: Encoded,
        timeout: Option<Duration>,
    ) -> Result<Vec<f32>, ProtocolError> {
        let shared = &self.shared;
        let arrived = Instant::now();
        if shared.single[model].saturating_mul(encoded.rows as u32) <= SMALL {
            let outputs = compute(&shared.models[model], &encoded.inputs);
            shared.stats[model].executed(encoded.rows, arrived.elapsed());
            shared.stats[model].waited(Duration::ZERO);
            return Ok(outputs);
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            model,
            rows: encoded.rows,
            bytes: size_of_val(&encoded.inputs[..]),
            arrived,
            expires: arrived + timeout.unwrap_or(shared.wait),
            job: Job {
                inputs: encoded.inputs,
                answer,
            },
        };
        let pushed = shared.state.lock().queue.push(waiting);
        pushed.map_err(|(full, _)| overloaded(full))?;
        shared.changed.notify_one();
        match answered.await {
            Ok(outputs) => outputs,
            Err(_) => Err(ProtocolError::new(
                ErrorKind::Unavailable,
                "the server ends; try another one",
            )),
        }
    }

    /// Rows that wait.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().queue.rows()
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.shared.state.lock().is_over = true;
        self.shared.changed.notify_all();
        for executor in self.executors.drain(..) {
            let _ = executor.join(); // a panic was told by its hook
        }
    }
}

fn warm_up(model: &ServedModel, rows: usize) -> Duration {
    let inputs = vec![0.0; rows * model.model.network().inputs()];
    let best = (0..3).map(|_| {
        let begin = Instant::now();
        compute(model, &inputs);
        begin.elapsed()
    });
    best.min().unwrap_or_default()
}

fn overloaded(full: Full) -> ProtocolError {
    let what = match full {
        Full::Rows => "too many rows wait",
        Full::Bytes => "too many bytes wait",
        Full::Time => "a request would wait for too long",
    };
    ProtocolError::new(
        ErrorKind::Overloaded,
        format!("the server has too much to do: {what}; try again later"),
    )
}

impl Shared {
    /// Computes batches until all is over.
    fn execute(&self) {
        loop {
            let mut state = self.state.lock();
            let (jobs, late) = loop {
                if state.is_over {
                    return;
                }
                match state
                    .queue
                    .take(Instant::now(), |job| job.answer.is_closed())
                {
                    Next::Batch { jobs, late } => break (jobs, late),
                    Next::Nothing => self.changed.wait(&mut state),
                    Next::Later(ready) => {
                        self.changed.wait_until(&mut state, ready);
                    }
                }
            };
            if !state.queue.is_empty() {
                self.changed.notify_one();
            }
            drop(state);
            for job in late {
                let error = ProtocolError::new(
                    ErrorKind::Overloaded,
                    "the request has waited for too long; try again later",
                );
                let _ = job.job.answer.send(Err(error)); // nobody may be waiting any more
            }
            self.compute(jobs);
        }
    }

    fn compute(&self, jobs: Vec<Waiting<Job>>) {
        let Some(model) = jobs.first().map(|job| job.model) else {
            return;
        };
        let begin = Instant::now();
        let rows = jobs.iter().map(|job| job.rows).sum();
        let inputs = match &jobs[..] {
            [one] => &one.job.inputs,
            all => &all
                .iter()
                .flat_map(|job| &job.job.inputs)
                .copied()
                .collect(),
        };
        let outputs = compute(&self.models[model], inputs);
        let took = begin.elapsed();
        self.stats[model].executed(rows, took);
        self.state.lock().queue.learn(model, rows, took);
        let width = outputs.len().checked_div(rows).unwrap_or(0);
        let mut rest = &outputs[..];
        for job in jobs {
            let (own, others) = rest.split_at(job.rows * width);
            rest = others;
            self.stats[model].waited(begin.saturating_duration_since(job.arrived));
            let _ = job.job.answer.send(Ok(own.to_vec())); // nobody may be waiting any more
        }
    }
}
