//! The whole face, on captured streams and a small emulated terminal.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressDrawTarget, TermLike};
use parking_lot::Mutex;
use serde_json::Value;
use trainyard_core::control::Progress;
use trainyard_core::manifest::FinalMetrics;
use trainyard_core::metrics::Metrics;

use super::terminal::Stream;
use super::{Epoch, Mode, Note, Started, Summary, Ui};

/// What a terminal shows after everything that was written to it, and all of that raw. Text wraps
/// as on a real one: a full row continues below only when another character comes.
#[derive(Debug, Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    raw: String,
}

impl Screen {
    fn put(&mut self, text: &str, columns: usize) {
        self.raw.push_str(text);
        let mut escaped = false;
        for c in text.chars() {
            match c {
                '\x1b' => escaped = true,
                _ if escaped => escaped = c != 'm',
                '\r' => self.column = 0,
                '\n' => (self.row, self.column) = (self.row + 1, 0),
                _ => {
                    if self.column == columns {
                        (self.row, self.column) = (self.row + 1, 0);
                    }
                    self.set(c);
                    self.column += 1;
                }
            }
        }
    }

    fn set(&mut self, c: char) {
        self.rows
            .resize(self.rows.len().max(self.row + 1), Vec::new());
        let row = &mut self.rows[self.row];
        row.resize(row.len().max(self.column + 1), ' ');
        row[self.column] = c;
    }
}

#[derive(Clone, Debug, Default)]
struct Capture {
    screen: Arc<Mutex<Screen>>,
    columns: u16,
}

impl Capture {
    fn with<T>(&self, f: impl FnOnce(&mut Screen) -> T) -> T {
        f(&mut self.screen.lock())
    }

    fn raw(&self) -> String {
        self.with(|screen| screen.raw.clone())
    }

    /// The rows as seen, without blank ones at the end.
    fn seen(&self) -> Vec<String> {
        let mut rows: Vec<String> =
            self.with(|screen| screen.rows.iter().map(String::from_iter).collect());
        rows.iter_mut()
            .for_each(|row| row.truncate(row.trim_end().len()));
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }

    fn json(&self) -> Vec<Value> {
        self.raw()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        self.with(|screen| screen.put(text, self.columns.into()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TermLike for Capture {
    fn width(&self) -> u16 {
        self.columns
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.with(|screen| screen.row -= n);
        Ok(())
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.with(|screen| screen.row += n);
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.with(|screen| screen.put(&format!("{text}\n"), self.columns.into()));
        Ok(())
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.with(|screen| screen.put(text, self.columns.into()));
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        self.with(|screen| {
            let row = screen.row;
            if let Some(row) = screen.rows.get_mut(row) {
                row.clear();
            }
            screen.column = 0;
        });
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn ui(mode: Mode, columns: u16, colour: bool) -> (Ui, Capture, Capture) {
    let terminal = mode == Mode::Terminal;
    let stream = |capture: &Capture| Stream {
        failed: None,
        writer: Box::new(capture.clone()),
        terminal,
        colour,
        width: Box::new(move || terminal.then_some(columns.into())),
    };
    let capture = || Capture {
        columns,
        ..Capture::default()
    };
    let (out, err) = (capture(), capture());
    let drawn = err.clone();
    let target = Box::new(move || ProgressDrawTarget::term_like(Box::new(drawn.clone())));
    let clock = Box::new(|| -> SystemTime { UNIX_EPOCH + Duration::from_secs(1_795_473_562) });
    (
        Ui::on(mode, stream(&out), stream(&err), target, clock),
        out,
        err,
    )
}

fn job() -> Started {
    Started {
        job: "breast-cancer".into(),
        model: "binary classification, mlp 128-64-32".into(),
        servers: 1,
        workers: 2,
        leaves: 4,
        out: "runs/breast-cancer".into(),
        status_url: "http://127.0.0.1:40123/status".into(),
        resumed_from: None,
        initial_model: None,
    }
}

fn metrics(step: u64) -> Metrics {
    Metrics {
        loss: Some(1.0 / (step + 1) as f64),
        accuracy: Some(0.9561),
        ..Metrics::default()
    }
}

fn at(step: u64) -> Progress {
    Progress {
        phase: if step == 300 {
            "Evaluating"
        } else {
            "Training"
        }
        .into(),
        step,
        total_steps: 300,
        epoch: step / 15,
        epochs: 20,
        samples: step * 32,
        loss: Some(0.5),
        validation: (step >= 15).then(|| metrics(step / 15)),
        workers: 2,
        servers: 1,
        checkpoint: (step >= 50).then_some(step / 50 * 50),
        ..Progress::default()
    }
}

fn epoch(epoch: u64) -> Epoch {
    Epoch {
        epoch,
        epochs: 20,
        step: (epoch + 1) * 15,
        train_loss: 0.5,
        learning_rate: 0.01,
        validation: Some(metrics(epoch + 1)),
    }
}

fn summary() -> Summary {
    Summary {
        job: "breast-cancer".into(),
        steps: 300,
        epochs: 20,
        model_epoch: 19,
        positive: Some("M".into()),
        stopped_early: false,
        metrics: FinalMetrics {
            train: metrics(300),
            validation: metrics(200),
            ..FinalMetrics::default()
        },
        model_sha256: "0123456789abcdef".repeat(4),
        artifact: "runs/breast-cancer/artifact".into(),
        checkpoint: "runs/breast-cancer/checkpoints".into(),
        elapsed_seconds: 6.5,
    }
}

/// Steps `0..=last` at 20 a second.
fn train(ui: &mut Ui, last: u64) {
    ui.started(&job());
    for step in 0..=last {
        ui.progress(Duration::from_millis(step * 50), &at(step));
        if step > 0 && step.is_multiple_of(15) {
            ui.epoch(&epoch(step / 15 - 1));
        }
        if step == 100 {
            let (member, how) = ("worker 1".into(), "signal 9".into());
            ui.note(&Note::Restarting {
                member,
                how,
                wait: Duration::ZERO,
            });
        }
    }
}

#[test]
fn t23_with_json_standard_output_holds_nothing_but_json() {
    let (mut ui, out, err) = ui(Mode::Json, 80, true);
    train(&mut ui, 300);
    ui.finished(&summary());
    drop(ui);
    assert_eq!(err.raw(), "");
    let lines = out.json();
    let last = lines.last().expect("lines");
    assert_eq!(
        (&last["event"], &last["steps"]),
        (&"finished".into(), &300.into())
    );
    let events = |name: &str| {
        lines
            .iter()
            .filter(|line| line["event"] == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(events("started")[0]["job"], "breast-cancer");
    assert_eq!(lines[0]["time"], "2026-11-23T22:39:22.000Z");
    assert_eq!(events("restarting")[0]["how"], "signal 9");
    let checkpoints: Vec<_> = events("checkpoint")
        .iter()
        .map(|line| line["step"].as_u64())
        .collect();
    assert_eq!(checkpoints, [50, 100, 150, 200, 250, 300].map(Some));
    // Every epoch once, with its own metrics; 15 s of progress once a second.
    let epochs = events("epoch");
    assert_eq!(
        epochs
            .iter()
            .map(|line| line["epoch"].as_u64())
            .collect::<Vec<_>>(),
        (0..20).map(Some).collect::<Vec<_>>()
    );
    assert_eq!(epochs[4]["step"], 75);
    assert_eq!(epochs[4]["trainLoss"], 0.5);
    assert_eq!(epochs[4]["learningRate"], 0.01);
    assert_eq!(epochs[4]["validation"]["loss"].as_f64(), metrics(5).loss);
    let progress = events("progress");
    assert_eq!(progress.len(), 16);
    assert_eq!(progress[15]["step"], 300);
    assert!((progress[10]["samplesPerSecond"].as_f64().unwrap() - 640.0).abs() < 1e-6);
    assert_eq!(progress[10]["etaSeconds"], 5);
}

#[test]
fn t23_the_last_step_is_logged_however_fast_it_comes() {
    let (mut ui, out, _) = ui(Mode::Json, 80, false);
    ui.progress(Duration::ZERO, &at(299));
    ui.progress(Duration::from_millis(1), &at(300));
    ui.progress(Duration::from_millis(2), &at(300));
    let steps: Vec<Value> = out
        .json()
        .into_iter()
        .filter(|line| line["event"] == "progress")
        .map(|line| line["step"].clone())
        .collect();
    assert_eq!(steps, [299, 300]);
}

#[test]
fn t23_the_last_step_before_an_early_stop_is_logged() {
    let (mut ui, out, _) = ui(Mode::Json, 80, false);
    ui.progress(Duration::ZERO, &at(149));
    ui.progress(
        Duration::from_millis(1),
        &Progress {
            phase: "RestoringBest".into(),
            ..at(150)
        },
    );
    ui.progress(
        Duration::from_millis(2),
        &Progress {
            phase: "Evaluating".into(),
            ..at(150)
        },
    );
    let lines = out.json();
    let progress: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "progress")
        .collect();
    assert_eq!(progress.len(), 2);
    assert_eq!(progress[1]["step"], 150);
}

#[test]
fn a_lost_server_is_told_once_and_its_checkpoints_are_not_told_again() {
    let play = |mode| {
        let (mut ui, out, err) = ui(mode, 80, false);
        ui.started(&Started {
            resumed_from: Some(50),
            initial_model: None,
            ..job()
        });
        let at = |generation, step| Progress {
            generation,
            ..at(step)
        };
        let course = [at(3, 60), at(3, 110), at(4, 100), at(4, 101), at(4, 155)];
        for (second, progress) in (0..).zip(&course) {
            ui.progress(Duration::from_secs(second), progress);
        }
        (ui, out, err)
    };
    let (_, out, _) = play(Mode::Json);
    let lines = out.json();
    let events =
        |name: &str| -> Vec<_> { lines.iter().filter(|line| line["event"] == name).collect() };
    assert_eq!(events("generation").len(), 1);
    assert_eq!(events("generation")[0]["step"], 100);
    let checkpoints: Vec<_> = events("checkpoint")
        .iter()
        .map(|line| line["step"].as_u64())
        .collect();
    assert_eq!(checkpoints, [100, 150].map(Some));

    let (_ui, _, err) = play(Mode::Terminal);
    let told = "  ! generation 4 goes on from the checkpoint of step 100";
    assert_eq!(
        err.seen().iter().filter(|row| *row == told).count(),
        1,
        "{:#?}",
        err.seen()
    );
}

#[test]
fn a_log_is_json_on_standard_error_and_the_summary_plain_text() {
    let (mut ui, out, err) = ui(Mode::Plain, 80, false);
    train(&mut ui, 300);
    ui.finished(&summary());
    let lines = err.json();
    assert_eq!(lines.last().unwrap()["event"], "finished");
    assert_eq!(lines.last().unwrap()["steps"], 300);
    assert!(
        out.raw()
            .starts_with("breast-cancer finished: 300 steps in 20 epochs, 6.5s\n")
    );
    assert!(out.raw().is_ascii() && !out.raw().contains('\x1b'));
}

#[test]
fn a_terminal_is_left_without_a_bar() {
    let (mut ui, out, err) = ui(Mode::Terminal, 80, false);
    train(&mut ui, 300);
    let during = err.seen();
    assert!(
        during.iter().any(|row| row.contains("100%  300/300")),
        "{during:#?}"
    );
    assert!(during.last().unwrap().contains("evaluating · epoch 20/20"));
    ui.finished(&summary());
    drop(ui);
    let seen = err.seen();
    assert!(
        !seen
            .iter()
            .any(|row| row.contains('━') || row.contains("samples/s")),
        "{seen:#?}"
    );
    assert_eq!(
        seen[0],
        "breast-cancer · binary classification, mlp 128-64-32"
    );
    let epochs = seen
        .iter()
        .filter(|row| row.starts_with("  epoch "))
        .count();
    assert_eq!(epochs, 20);
    assert_eq!(
        seen.iter()
            .filter(|row| row.ends_with("(signal 9); starting it again"))
            .count(),
        1
    );
    assert!(out.raw().starts_with("✓ breast-cancer finished"));
    assert!(!err.raw().contains('\x1b') && !out.raw().contains('\x1b')); // colours were not allowed
}

#[test]
fn only_the_bar_of_the_moment_is_on_the_screen() {
    let (mut ui, _, err) = ui(Mode::Terminal, 50, true);
    train(&mut ui, 200);
    let seen = err.seen();
    assert_eq!(
        seen.iter().filter(|row| row.contains("/300")).count(),
        1,
        "{seen:#?}"
    );
    assert!(err.raw().contains("\x1b[36m━"));
}

#[test]
fn a_stopped_run_says_how_to_go_on() {
    let (mut ui, out, err) = ui(Mode::Terminal, 80, false);
    train(&mut ui, 120);
    ui.note(&Note::Stopping);
    ui.stopped(120, 300, true, "trainyard run job.yaml --resume");
    let seen = err.seen();
    assert_eq!(
        seen.last().unwrap(),
        "stopped at step 120 of 300; go on with trainyard run job.yaml --resume"
    );
    assert!(!seen.iter().any(|row| row.contains('━')));
    assert_eq!(out.raw(), "");

    let (mut ui, out, _) = self::ui(Mode::Json, 80, false);
    train(&mut ui, 120);
    ui.stopped(120, 300, false, "trainyard run job.yaml --resume");
    let last = out.json().pop().unwrap();
    assert_eq!(
        (&last["event"], &last["step"], &last["checkpoint"]),
        (&"stopped".into(), &120.into(), &100.into())
    );
}

#[test]
fn a_failed_run_says_why_and_where() {
    let message = "the loss is NaN at step 120, leaf 3: lower the learning rate";
    let (mut ui, out, err) = ui(Mode::Terminal, 80, true);
    train(&mut ui, 120);
    ui.failed(message);
    let seen = err.seen();
    let (error, place) = (&seen[seen.len() - 2], &seen[seen.len() - 1]);
    assert_eq!(error, &format!("error: {message}"));
    assert!(err.raw().contains("\x1b[1;31merror:\x1b[0m the loss"));
    assert!(
        place.contains("stopped at step 120 of 300; the newest checkpoint is of step 100"),
        "{place}"
    );
    assert!(!seen.iter().any(|row| row.contains('━')));
    assert_eq!(out.raw(), "");

    let (mut ui, out, err) = self::ui(Mode::Json, 80, false);
    ui.failed(message);
    assert_eq!(out.json()[0]["event"], "error");
    assert_eq!(out.json()[0]["message"], message);
    assert_eq!(err.raw(), format!("error: {message}\n"));

    let (mut ui, out, err) = self::ui(Mode::Plain, 80, false);
    ui.failed(message);
    assert_eq!(err.json()[0]["message"], message);
    assert_eq!(out.raw(), "");
}

#[test]
fn an_abandoned_run_takes_its_bar_along() {
    let (mut ui, _, err) = ui(Mode::Terminal, 80, false);
    train(&mut ui, 10);
    assert!(err.seen().iter().any(|row| row.contains("10/300")));
    drop(ui);
    assert!(!err.seen().iter().any(|row| row.contains("10/300")));
}

#[test]
fn a_closed_pipe_does_not_end_the_run() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    for mode in [Mode::Plain, Mode::Json] {
        let (mut ui, ..) = ui(mode, 80, false);
        ui.stdout.writer = Box::new(Closed);
        ui.stderr.writer = Box::new(Closed);
        train(&mut ui, 300);
        ui.finished(&summary());
    }
}
