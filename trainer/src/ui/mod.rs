//! The face of `trainyard run`.
//!
//! What is shown is decided by pure functions from data to lines ([`text::Line`]); [`Ui`] only
//! keeps what they need from call to call and writes. There are three faces ([`Mode`]): for a person
//! at a terminal, for a log, and for a program.

use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use trainyard_core::control::Progress;

pub mod classes;
pub mod epochs;
mod event;
pub mod format;
pub mod live;
pub mod pace;
pub mod summary;
pub mod table;
mod terminal;
#[cfg(test)]
mod tests;
pub mod text;
pub mod words;

pub use event::{Epoch, Note, Started};
pub use summary::Summary;
pub use terminal::{Mode, colour_allowed};

use event::Event;
use live::Live;
use pace::{Pace, Throttle};
use terminal::{Stream, Target};
use text::Line;
use words::Halt;

/// Between progress lines of a log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Assumed where a terminal does not tell its width.
const USUAL_WIDTH: usize = 80;

/// Shows a run to whoever started it. Output that cannot be written is dropped: a closed pipe must
/// not end a training run. A `Ui` that is dropped takes its bar along.
pub struct Ui {
    mode: Mode,
    stdout: Stream,
    stderr: Stream,
    target: Target,
    clock: Box<dyn Fn() -> SystemTime + Send>,
    bar: Option<ProgressBar>,
    pace: Pace,
    log: Throttle,
    table: epochs::Table,
    workers: u32,
    checkpoint: Option<u64>,
    last: Progress,
}

impl Ui {
    /// Shows a run on this process's standard streams. `colour` is for a terminal; what is
    /// redirected is never coloured.
    pub fn new(mode: Mode, colour: bool) -> Self {
        let target: Target = Box::new(ProgressDrawTarget::stderr);
        Ui::on(
            mode,
            Stream::stdout(colour),
            Stream::stderr(colour),
            target,
            Box::new(SystemTime::now),
        )
    }

    fn on(
        mode: Mode,
        stdout: Stream,
        stderr: Stream,
        target: Target,
        clock: Box<dyn Fn() -> SystemTime + Send>,
    ) -> Self {
        Ui {
            mode,
            stdout,
            stderr,
            target,
            clock,
            bar: None,
            pace: Pace::default(),
            log: Throttle::new(LOG_INTERVAL),
            table: epochs::Table::default(),
            workers: 0,
            checkpoint: None,
            last: Progress::default(),
        }
    }

    /// Why standard output lacks some of what was to be there, if it does.
    pub fn failure(&self) -> Option<&std::io::Error> {
        self.stdout.failure()
    }

    /// Says what is about to be trained.
    pub fn started(&mut self, started: &Started) {
        self.workers = started.workers;
        self.checkpoint = started.resumed_from;
        self.log(&Event::Started(started));
        if self.mode == Mode::Terminal {
            self.above(&words::started(started, (self.stderr.width)()));
        }
    }

    /// Shows where the job is, `now` being the time since any fixed moment.
    pub fn progress(&mut self, now: Duration, progress: &Progress) {
        self.pace.observe(now, progress.step, progress.samples);
        self.changed(progress);
        let first_at_end = trained(progress) && !trained(&self.last);
        self.last = progress.clone();
        match self.mode {
            Mode::Terminal => self.draw(),
            Mode::Plain | Mode::Json if self.log.pass(now) || first_at_end => {
                self.log(&Event::Progress {
                    progress,
                    samples_per_second: self.pace.samples_per_second(),
                    eta_seconds: self.eta().map(|eta| eta.as_secs()),
                });
            }
            Mode::Plain | Mode::Json => {}
        }
    }

    /// Says that an epoch was finished.
    pub fn epoch(&mut self, epoch: &Epoch) {
        self.log(&Event::Epoch(epoch));
        if self.mode == Mode::Terminal {
            let rows = self.table.row(epoch, (self.stderr.width)());
            self.above(&rows);
        }
    }

    /// Says what is new in `progress` beside the numbers: a generation, a checkpoint.
    fn changed(&mut self, progress: &Progress) {
        let Progress {
            generation,
            step,
            checkpoint,
            ..
        } = *progress;
        if generation > self.last.generation && self.last.generation > 0 {
            self.log(&Event::Generation { generation, step });
            if self.mode == Mode::Terminal {
                self.above(&words::generation(generation, step, (self.stderr.width)()));
            }
        }
        if let Some(step) = checkpoint.filter(|_| checkpoint > self.checkpoint) {
            self.checkpoint = checkpoint;
            self.log(&Event::Checkpoint { step }); // in a terminal it would only be noise
        }
    }

    /// Says that something happened on the way.
    pub fn note(&mut self, note: &Note) {
        self.log(note);
        if self.mode == Mode::Terminal {
            self.above(&words::note(note, (self.stderr.width)()));
        }
    }

    /// Says how the job ended well.
    pub fn finished(&mut self, summary: &Summary) {
        self.clear();
        match self.mode {
            Mode::Json => return self.log(&Event::Finished(summary)),
            Mode::Plain => self.log(&Event::Finished(summary)),
            Mode::Terminal => self.paragraph(&[]),
        }
        let fancy = self.mode == Mode::Terminal && self.stdout.terminal;
        let width = (self.stdout.width)().filter(|_| fancy);
        self.stdout.lines(&summary::lines(summary, width, fancy));
    }

    /// Says that the job was stopped, where, and with which command it goes on. `saved` tells
    /// whether a checkpoint of `step` was committed.
    pub fn stopped(&mut self, step: u64, total: u64, saved: bool, resume_command: &str) {
        self.clear();
        let checkpoint = if saved {
            Some(step)
        } else {
            self.last.checkpoint
        };
        self.log(&Event::Stopped {
            step,
            total_steps: total,
            saved,
            checkpoint,
            resume: resume_command,
        });
        if self.mode == Mode::Terminal {
            let halt = Halt {
                step,
                total,
                saved,
                checkpoint,
            };
            self.paragraph(&words::stopped(
                &halt,
                resume_command,
                (self.stderr.width)(),
            ));
        }
    }

    /// Says why the job failed: one sentence that ends with what to do. With [`Mode::Json`] on both
    /// streams, as standard error is then nobody's log.
    pub fn failed(&mut self, error: &str) {
        self.clear();
        let Progress {
            step, total_steps, ..
        } = self.last;
        let checkpoint = self.checkpoint;
        self.log(&Event::Error {
            message: error,
            step,
            total_steps,
            checkpoint,
        });
        if self.mode == Mode::Plain {
            return;
        }
        let width = (self.stderr.width)();
        self.paragraph(&words::error(error, width));
        if self.mode == Mode::Terminal && total_steps > 0 {
            let halt = Halt {
                step,
                total: total_steps,
                saved: checkpoint == Some(step),
                checkpoint,
            };
            self.above(&[Line::default().with(text::Tone::Quiet, halt.place())]);
        }
    }

    /// Writes a line of the log, if the mode has one.
    fn log(&mut self, event: &impl Serialize) {
        let stream = match self.mode {
            Mode::Terminal => return,
            Mode::Plain => &mut self.stderr,
            Mode::Json => &mut self.stdout,
        };
        stream.text(&event::line((self.clock)(), event));
    }

    /// Writes lines above the bar.
    fn above(&mut self, lines: &[Line]) {
        if lines.is_empty() {
            return;
        }
        let stderr = &mut self.stderr;
        match &self.bar {
            Some(bar) => bar.suspend(|| stderr.lines(lines)),
            None => stderr.lines(lines),
        }
    }

    /// Writes lines set off from what the run has said before.
    fn paragraph(&mut self, lines: &[Line]) {
        if self.mode == Mode::Terminal && self.last.epochs > 0 {
            self.above(&[Line::default()]);
        }
        self.above(lines);
    }

    fn eta(&self) -> Option<Duration> {
        self.pace
            .eta(self.last.total_steps.saturating_sub(self.last.step))
    }

    fn draw(&mut self) {
        let live = Live {
            progress: &self.last,
            workers: self.workers,
            samples_per_second: self.pace.samples_per_second(),
            eta: self.eta(),
        };
        let width = (self.stderr.width)().unwrap_or(USUAL_WIDTH);
        let lines: Vec<String> = live::lines(&live, width)
            .iter()
            .map(|line| line.paint(self.stderr.colour))
            .collect();
        let bar = self.bar.get_or_insert_with(|| {
            // The lines are drawn by `live`; indicatif redraws them in place, at a bounded rate.
            let style = ProgressStyle::with_template("{msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::with_draw_target(None, (self.target)()).with_style(style)
        });
        bar.set_message(lines.join("\n"));
    }

    /// Takes the bar away.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Whether all steps are done, be it by early stopping.
fn trained(progress: &Progress) -> bool {
    let ending = ["RestoringBest", "Evaluating", "Completing", "Finished"];
    let all = progress.total_steps > 0 && progress.step >= progress.total_steps;
    all || ending.contains(&progress.phase.as_str())
}
