//! What waits to be computed, and what is taken next: without threads and clocks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bounds of what may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rows that are computed together, if there are as many.
    pub batch_rows: usize,
    /// How long the first row of a batch waits for others.
    pub batch_delay: Duration,
    /// Rows that may wait.
    pub rows: usize,
    /// Bytes of inputs that may wait.
    pub bytes: usize,
    /// How long a request may wait.
    pub wait: Duration,
}

/// A request that waits.
#[derive(Debug)]
pub struct Waiting<T> {
    /// Which model it is for.
    pub model: usize,
    /// Its rows.
    pub rows: usize,
    /// Bytes of its inputs.
    pub bytes: usize,
    /// When it came.
    pub arrived: Instant,
    /// When its client no longer waits.
    pub expires: Instant,
    /// The request itself.
    pub job: T,
}

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are too many rows.
    Rows,
    /// There are too many bytes.
    Bytes,
    /// It would wait too long.
    Time,
}

/// Requests that wait, by model.
#[derive(Debug)]
pub struct Queue<T> {
    bounds: Bounds,
    models: Vec<VecDeque<Waiting<T>>>,
    rows: usize,
    bytes: usize,
    /// How long the rows that wait will take, in seconds of one executor.
    work: f64,
    /// Seconds that a row of each model takes.
    pace: Vec<f64>,
    executors: usize,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next<T> {
    /// Nothing waits.
    Nothing,
    /// A batch fills up: look again then.
    Later(Instant),
    /// These, all of one model; and those that have waited too long.
    Batch {
        /// To be computed together.
        jobs: Vec<Waiting<T>>,
        /// To be refused.
        late: Vec<Waiting<T>>,
    },
}

impl<T> Queue<T> {
    /// For models whose rows take `pace` seconds each.
    pub fn new(bounds: Bounds, pace: Vec<f64>, executors: usize) -> Self {
        Self {
            bounds,
            models: pace.iter().map(|_| VecDeque::new()).collect(),
            rows: 0,
            bytes: 0,
            work: 0.0,
            pace,
            executors: executors.max(1),
        }
    }

    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a request, unless it may not wait. One alone may always: its size was checked before.
    pub fn push(&mut self, waiting: Waiting<T>) -> Result<(), (Full, T)> {
        let bounds = &self.bounds;
        let expected = self.work / self.executors as f64;
        let full = if self.rows == 0 {
            None
        } else if self.rows + waiting.rows > bounds.rows {
            Some(Full::Rows)
        } else if self.bytes + waiting.bytes > bounds.bytes {
            Some(Full::Bytes)
        } else if expected > bounds.wait.as_secs_f64() {
            Some(Full::Time)
        } else {
            None
        };
        if let Some(full) = full {
            return Err((full, waiting.job));
        }
        self.rows += waiting.rows;
        self.bytes += waiting.bytes;
        self.work += self.pace[waiting.model] * waiting.rows as f64;
        self.models[waiting.model].push_back(waiting);
        Ok(())
    }

    /// Takes what is to be done next: of the model whose request came first, as many as make a batch. What `is_gone` is dropped.
    pub fn take(&mut self, now: Instant, is_gone: impl Fn(&T) -> bool) -> Next<T> {
        let fronts = self.models.iter().enumerate();
        let first = fronts
            .filter_map(|(model, waiting)| Some((waiting.front()?.arrived, model)))
            .min();
        let Some((arrived, model)) = first else {
            return Next::Nothing;
        };
        let ready = arrived + self.bounds.batch_delay;
        let rows: usize = self.models[model].iter().map(|waiting| waiting.rows).sum();
        if rows < self.bounds.batch_rows && now < ready {
            return Next::Later(ready);
        }
        let (mut jobs, mut late, mut rows) = (Vec::new(), Vec::new(), 0);
        while let Some(front) = self.models[model].front() {
            if !jobs.is_empty() && rows + front.rows > self.bounds.batch_rows {
                break;
            }
            let Some(waiting) = self.models[model].pop_front() else {
                break;
            };
            self.rows -= waiting.rows;
            self.bytes -= waiting.bytes;
            self.work -= self.pace[model] * waiting.rows as f64;
            if is_gone(&waiting.job) {
                continue;
            }
            let is_late = now >= waiting.expires || now >= waiting.arrived + self.bounds.wait;
            match is_late {
                true => late.push(waiting),
                false => {
                    rows += waiting.rows;
                    jobs.push(waiting);
                }
            }
        }
        if self.rows == 0 {
            self.work = 0.0; // no error of rounding stays
        }
        Next::Batch { jobs, late }
    }

    /// Learns how long the rows of a batch took.
    pub fn learn(&mut self, model: usize, rows: usize, took: Duration) {
        if rows == 0 {
            return;
        }
        let found = took.as_secs_f64() / rows as f64;
        let waiting: usize = self.models[model].iter().map(|waiting| waiting.rows).sum();
        let before = self.pace[model];
        self.pace[model] = before * 0.9 + found * 0.1;
        self.work = (self.work + (self.pace[model] - before) * waiting as f64).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        batch_rows: 8,
        batch_delay: Duration::ZERO,
        rows: 20,
        bytes: 1000,
        wait: Duration::from_millis(100),
    };

    fn waiting(model: usize, rows: usize, arrived: Instant, job: u32) -> Waiting<u32> {
        Waiting {
            model,
            rows,
            bytes: rows,
            arrived,
            expires: arrived + Duration::from_secs(9),
            job,
        }
    }

    fn jobs(next: Next<u32>) -> (Vec<u32>, Vec<u32>) {
        match next {
            Next::Batch { jobs, late } => (
                jobs.iter().map(|job| job.job).collect(),
                late.iter().map(|job| job.job).collect(),
            ),
            next => panic!("{next:?}"),
        }
    }

    #[test]
    fn s06_a_batch_has_rows_of_one_model_in_the_order_in_which_they_came() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut queue = Queue::new(BOUNDS, vec![1e-6; 2], 2);
        for (job, (model, rows)) in [(1, 3), (0, 4), (1, 4), (0, 1), (1, 4)]
            .into_iter()
            .enumerate()
        {
            let job = job as u32;
            queue
                .push(waiting(model, rows, at(job.into()), job))
                .expect("room");
        }
        let none = |_: &u32| false;
        assert_eq!(
            jobs(queue.take(at(9), none)),
            (vec![0, 2], vec![]),
            "of model 1, 7 rows"
        );
        assert_eq!(
            jobs(queue.take(at(9), |job| *job == 1)),
            (vec![3], vec![]),
            "1 is gone"
        );
        assert_eq!(queue.rows(), 4);
        assert_eq!(
            jobs(queue.take(at(105), none)),
            (vec![], vec![4]),
            "it has waited for too long"
        );
        assert!(matches!(queue.take(at(200), none), Next::Nothing) && queue.is_empty());
    }

    #[test]
    fn s06_a_batch_waits_for_others_as_long_as_it_may() {
        let begin = Instant::now();
        let bounds = Bounds {
            batch_delay: Duration::from_millis(5),
            ..BOUNDS
        };
        let none = |_: &u32| false;
        let mut queue = Queue::new(bounds, vec![1e-6], 1);
        queue.push(waiting(0, 3, begin, 0)).expect("room");
        let ready = begin + bounds.batch_delay;
        assert!(matches!(queue.take(begin, none), Next::Later(at) if at == ready));
        queue.push(waiting(0, 5, begin, 1)).expect("room");
        assert_eq!(jobs(queue.take(begin, none)).0, [0, 1], "it is full");
        queue.push(waiting(0, 1, begin, 2)).expect("room");
        assert_eq!(jobs(queue.take(ready, none)).0, [2]);
    }

    #[test]
    fn s07_what_may_not_wait_is_refused_at_once() {
        let begin = Instant::now();
        let mut queue = Queue::new(BOUNDS, vec![0.01], 1);
        queue
            .push(waiting(0, 11, begin, 0))
            .expect("the first may always");
        let refused = |queue: &mut Queue<u32>, job| queue.push(job).map_err(|(full, _)| full);
        assert_eq!(
            refused(&mut queue, waiting(0, 10, begin, 1)),
            Err(Full::Rows)
        );
        let large = Waiting {
            bytes: 990,
            ..waiting(0, 1, begin, 2)
        };
        assert_eq!(refused(&mut queue, large), Err(Full::Bytes));
        assert_eq!(
            refused(&mut queue, waiting(0, 1, begin, 3)),
            Err(Full::Time),
            "110 ms of work"
        );
        for _ in 0..30 {
            queue.learn(0, 100, Duration::from_millis(1));
        }
        assert_eq!(
            refused(&mut queue, waiting(0, 1, begin, 4)),
            Ok(()),
            "it is faster than thought"
        );
        let late = Waiting {
            expires: begin,
            ..waiting(0, 1, begin, 5)
        };
        assert_eq!(refused(&mut queue, late), Ok(()));
        assert_eq!(jobs(queue.take(begin, |_| false)), (vec![0], vec![]));
        assert_eq!(
            jobs(queue.take(begin, |_| false)),
            (vec![4], vec![5]),
            "its client is gone"
        );
        assert!(queue.is_empty() && queue.bytes == 0 && queue.work == 0.0);
    }
}
