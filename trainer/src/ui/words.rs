//! What the terminal says in words.

use super::Started;
use super::event::Note;
use super::format::{count, duration, thousands};
use super::text::{Line, Tone, clean, flow, fold, pack};

/// The lines before the bar.
pub fn started(started: &Started, width: Option<usize>) -> Vec<Line> {
    let room = width.map(|width| width.saturating_sub(1));
    let plain = |text: String| Line::default().with(Tone::Plain, text);
    let labelled = |label: &str, text: &str| {
        Line::default()
            .with(Tone::Quiet, label)
            .with(Tone::Plain, clean(text))
    };
    let head = vec![
        Line::default().with(Tone::Strong, clean(&started.job)),
        plain(clean(&started.model)),
    ];
    let shape = vec![
        plain(count(started.servers.into(), "server", "servers")),
        plain(count(started.workers.into(), "worker", "workers")),
        plain(count(started.leaves.into(), "leaf", "leaves")),
    ];
    let places = vec![
        labelled("writes to ", &started.out),
        labelled("status at ", &started.status_url),
    ];
    let mut lines = flow(head, room, 0);
    lines.extend(flow(shape, room, 2));
    lines.extend(flow(places, room, 2));
    let origin = match (started.resumed_from, &started.initial_model) {
        (Some(step), _) => Some(vec![plain(format!(
            "goes on from the checkpoint of step {}",
            thousands(step)
        ))]),
        (None, Some(uri)) => Some(vec![
            labelled("begins with the parameters of ", uri),
            plain("optimizer, schedule and epochs begin anew".into()),
        ]),
        (None, None) => None,
    };
    lines.extend(origin.into_iter().flat_map(|parts| flow(parts, room, 2)));
    lines.push(Line::default());
    lines
}

/// The lines of a note.
pub fn note(note: &Note, width: Option<usize>) -> Vec<Line> {
    let text = match note {
        Note::Restarting { member, how, wait } => {
            let when = match wait.as_millis() {
                0..500 => String::new(),
                _ => format!(" in {}", duration(*wait)),
            };
            format!("{member} was lost ({how}); starting it again{when}")
        }
        Note::Stopping => "stopping with a checkpoint; press Ctrl-C again to stop at once".into(),
        Note::Warning { message } => message.clone(),
    };
    warning(&text, width)
}

/// The lines of a new generation that goes on from `step`.
pub fn generation(generation: u32, step: u64, width: Option<usize>) -> Vec<Line> {
    let text = match step {
        0 => format!("generation {generation} begins anew: there was no checkpoint yet"),
        _ => format!(
            "generation {generation} goes on from the checkpoint of step {}",
            thousands(step)
        ),
    };
    warning(&text, width)
}

fn warning(text: &str, width: Option<usize>) -> Vec<Line> {
    marked(Line::default().with(Tone::Warning, "  ! "), text, width)
}

/// An error and what to do.
pub fn error(message: &str, width: Option<usize>) -> Vec<Line> {
    marked(
        Line::default()
            .with(Tone::Bad, "error:")
            .with(Tone::Plain, " "),
        message,
        width,
    )
}

/// Text after a mark, its further lines indented as far.
fn marked(mark: Line, text: &str, width: Option<usize>) -> Vec<Line> {
    let indent = mark.width();
    let mut mark = Some(mark);
    fold(
        &clean(text),
        width.map(|width| width.saturating_sub(1)),
        indent,
    )
    .into_iter()
    .map(|text| match mark.take() {
        Some(mark) => mark.with(Tone::Plain, text),
        None => Line::default().with(Tone::Plain, " ".repeat(indent) + &text),
    })
    .collect()
}

/// Where a job stopped.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Halt {
    /// Steps applied.
    pub step: u64,
    /// Steps of the whole job; 0 if unknown.
    pub total: u64,
    /// Whether everything up to `step` is in a checkpoint.
    pub saved: bool,
    /// The newest checkpoint.
    pub checkpoint: Option<u64>,
}

impl Halt {
    /// The place in words, without a full stop.
    pub fn place(&self) -> String {
        match (self.total, self.saved, self.checkpoint) {
            (0, ..) => "stopped before the first step".into(),
            (total, true, _) => format!(
                "stopped at step {} of {}",
                thousands(self.step),
                thousands(total)
            ),
            (total, false, checkpoint) => {
                let newest = match checkpoint {
                    Some(step) => format!("the newest checkpoint is of step {}", thousands(step)),
                    None => "there is no checkpoint yet".into(),
                };
                format!(
                    "stopped at step {} of {}; {newest}",
                    thousands(self.step),
                    thousands(total)
                )
            }
        }
    }
}

/// The last words of a job that was stopped. A command too long for a line is broken as a shell
/// reads it, so that it can be copied.
pub fn stopped(halt: &Halt, resume: &str, width: Option<usize>) -> Vec<Line> {
    let place = format!("{}; go on with", halt.place());
    let command = clean(resume).replace('\n', " ");
    let room = width.map(|width| width.saturating_sub(1));
    let plain = |text: String| Line::default().with(Tone::Plain, text);
    let strong = |indent: &str, text: String| plain(indent.into()).with(Tone::Strong, text);
    let beside = place.chars().count() + 1 + command.chars().count();
    if room.is_none_or(|room| beside <= room) {
        return vec![plain(place + " ").with(Tone::Strong, command)];
    }
    let mut lines: Vec<Line> = fold(&place, room, 0).into_iter().map(plain).collect();
    if room.is_some_and(|room| command.chars().count() + 2 <= room) {
        lines.push(strong("  ", command));
        return lines;
    }
    let parts = fold_command(&command, room, "    ".len() + " \\".len());
    for (index, part) in parts.iter().enumerate() {
        let indent = if index == 0 { "  " } else { "    " };
        let end = if index + 1 < parts.len() { " \\" } else { "" };
        lines.push(strong(indent, format!("{part}{end}")));
    }
    lines
}

/// Breaks a command between its words: within quotes a line break would be part of the word.
fn fold_command(command: &str, room: Option<usize>, indent: usize) -> Vec<String> {
    let room = room.map_or(usize::MAX, |room| room.saturating_sub(indent));
    let (mut quote, mut escaped) = (None, false);
    let between = |c: char| {
        let was_escaped = std::mem::take(&mut escaped);
        match (quote, c) {
            (None, ' ') => return !was_escaped,
            (None, '\'' | '"') if !was_escaped => quote = Some(c),
            (Some(open), c) if open == c && !was_escaped => quote = None,
            (None | Some('"'), '\\') => escaped = !was_escaped,
            _ => {}
        }
        false
    };
    pack(command.split(between), room)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(lines: Vec<Line>) -> Vec<String> {
        lines.iter().map(|line| line.paint(false)).collect()
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
            resumed_from: Some(1200),
            initial_model: Some("runs/base".into()),
        }
    }

    #[test]
    fn the_start_says_what_is_trained_and_where() {
        let head = [
            "breast-cancer · binary classification, mlp 128-64-32",
            "  1 server · 2 workers · 4 leaves",
            "  writes to runs/breast-cancer · status at http://127.0.0.1:40123/status",
        ];
        let resumed = text(started(&job(), Some(80)));
        assert_eq!(resumed[..3], head);
        assert_eq!(
            resumed[3..],
            ["  goes on from the checkpoint of step 1,200", ""]
        );
        let first = Started {
            resumed_from: None,
            ..job()
        };
        assert_eq!(
            text(started(&first, Some(80)))[3..],
            [
                "  begins with the parameters of runs/base",
                "  optimizer, schedule and epochs begin anew",
                ""
            ]
        );
        let bare = Started {
            initial_model: None,
            ..first
        };
        let bare = text(started(&bare, None));
        assert_eq!(
            (&bare[..3], &bare[3..]),
            (&head.map(String::from)[..], &[String::new()][..])
        );
    }

    #[test]
    fn a_narrow_start_does_not_wrap() {
        let lines = text(started(&job(), Some(50)));
        assert!(
            lines.iter().all(|line| line.chars().count() < 50),
            "{lines:?}"
        );
    }

    #[test]
    fn notes_say_what_happened_and_what_is_done() {
        let lost = |wait| {
            let note_ = Note::Restarting {
                member: "worker 1".into(),
                how: "signal 9".into(),
                wait,
            };
            text(note(&note_, Some(80)))
        };
        assert_eq!(
            lost(Duration::ZERO),
            ["  ! worker 1 was lost (signal 9); starting it again"]
        );
        assert_eq!(
            lost(Duration::from_secs(2)),
            ["  ! worker 1 was lost (signal 9); starting it again in 2s"]
        );
        assert_eq!(
            text(generation(2, 100, Some(80))),
            ["  ! generation 2 goes on from the checkpoint of step 100"]
        );
        assert!(text(generation(2, 0, None))[0].contains("begins anew"));
        let folded = text(note(&Note::Stopping, Some(50)));
        assert_eq!(
            folded,
            [
                "  ! stopping with a checkpoint; press Ctrl-C",
                "    again to stop at once"
            ]
        );
    }

    #[test]
    fn errors_are_marked_and_cannot_move_the_cursor() {
        let lines = error("line 3: \x1b[2Jexpected a number\nuse one", Some(80));
        assert_eq!(
            text(lines.clone()),
            [
                "error: line 3: \u{fffd}[2Jexpected a number",
                "       use one"
            ]
        );
        assert!(lines[0].paint(true).starts_with("\x1b[1;31merror:\x1b[0m "));
    }

    #[test]
    fn a_stop_says_where_and_how_to_go_on() {
        let halt = Halt {
            step: 120,
            total: 300,
            saved: true,
            checkpoint: Some(120),
        };
        let command = "trainyard run job.yaml --resume";
        assert_eq!(
            text(stopped(&halt, command, Some(80))),
            ["stopped at step 120 of 300; go on with trainyard run job.yaml --resume"]
        );
        assert_eq!(
            text(stopped(&halt, command, Some(50))),
            [
                "stopped at step 120 of 300; go on with",
                "  trainyard run job.yaml --resume"
            ]
        );
        assert_eq!(
            text(stopped(&halt, command, Some(32))),
            [
                "stopped at step 120 of 300; go",
                "on with",
                "  trainyard run job.yaml \\",
                "    --resume",
            ]
        );
        let quoted = "trainyard run 'my data/a job.yaml' --out \"it's here\" --resume";
        assert_eq!(
            text(stopped(&halt, quoted, Some(32)))[2..],
            [
                "  trainyard run \\",
                "    'my data/a job.yaml' \\",
                "    --out \"it's here\" \\",
                "    --resume",
            ]
        );
        let unsaved = Halt {
            saved: false,
            checkpoint: Some(100),
            ..halt
        };
        assert_eq!(
            unsaved.place(),
            "stopped at step 120 of 300; the newest checkpoint is of step 100"
        );
        let early = Halt {
            checkpoint: None,
            ..unsaved
        };
        assert_eq!(
            early.place(),
            "stopped at step 120 of 300; there is no checkpoint yet"
        );
        assert_eq!(Halt::default().place(), "stopped before the first step");
    }
}
