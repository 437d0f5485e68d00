//! What the terminal says in words.

use super::Started;
use super::event::{Note, process};
use super::format::{count, thousands};
use super::text::{Line, Tone, clean, flow, fold};

/// The lines before the bar.
pub fn started(started: &Started, width: Option<usize>) -> Vec<Line> {
    let room = width.map(|width| width.saturating_sub(1));
    let plain = |text: String| Line::default().with(Tone::Plain, text);
    let labelled = |label: &str, text: &str| {
        Line::default()
            .with(Tone::Quiet, label)
            .with(Tone::Plain, clean(text))
    };
    let mut head = vec![Line::default().with(Tone::Strong, clean(&started.job))];
    head.extend(
        [&started.task, &started.model]
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(|text| plain(clean(text))),
    );
    let mut lines = flow(head, room, 0);

    let mut shape = Vec::new();
    if let Some(rows) = started.rows {
        shape.push(plain(count(rows.train, "training row", "training rows")));
        if rows.validation > 0 {
            shape.push(plain(count(
                rows.validation,
                "validation row",
                "validation rows",
            )));
        }
    }
    shape.push(plain(count(started.servers.into(), "server", "servers")));
    shape.push(plain(count(started.workers.into(), "worker", "workers")));
    shape.push(plain(count(started.leaves.into(), "leaf", "leaves")));
    lines.extend(flow(shape, room, 2));

    let mut places = vec![labelled("writes to ", &started.out)];
    places.extend(
        started
            .status_url
            .as_ref()
            .map(|url| labelled("status at ", url)),
    );
    lines.extend(flow(places, room, 2));
    if let Some(step) = started.resumed_from {
        lines.push(plain(format!(
            "  goes on from the checkpoint of step {}",
            thousands(step)
        )));
    }
    lines.push(Line::default());
    lines
}

/// The lines of a note; none where the terminal shows it otherwise or not at all.
pub fn note(note: &Note, width: Option<usize>) -> Vec<Line> {
    let (tone, text) = match note {
        Note::Restarting { role, cause } => (
            Tone::Warning,
            format!("{} was lost ({cause}); starting it again", process(*role)),
        ),
        Note::Generation {
            generation,
            checkpoint: Some(step),
        } => (
            Tone::Warning,
            format!(
                "generation {generation} goes on from the checkpoint of step {}",
                thousands(*step)
            ),
        ),
        Note::Generation {
            generation,
            checkpoint: None,
        } => (
            Tone::Warning,
            format!("generation {generation} begins anew: there is no checkpoint yet"),
        ),
        Note::Checkpoint { .. } => return Vec::new(),
        Note::Stopping => (
            Tone::Quiet,
            "stopping with a checkpoint; press Ctrl-C again to stop at once".into(),
        ),
        Note::Warning { message } => (Tone::Warning, message.clone()),
    };
    marked(Line::default().with(tone, "  ! "), &text, width)
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
    let parts = fold(&command, room, "    ".len() + " \\".len());
    for (index, part) in parts.iter().enumerate() {
        let indent = if index == 0 { "  " } else { "    " };
        let end = if index + 1 < parts.len() { " \\" } else { "" };
        lines.push(strong(indent, format!("{part}{end}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use trainyard_core::control::Role;

    use super::*;
    use crate::ui::{Cause, Rows};

    fn text(lines: Vec<Line>) -> Vec<String> {
        lines.iter().map(|line| line.paint(false)).collect()
    }

    fn job() -> Started {
        Started {
            job: "breast-cancer".into(),
            task: "binary classification".into(),
            model: "mlp 128-64-32, relu".into(),
            rows: Some(Rows {
                train: 455,
                validation: 114,
            }),
            servers: 1,
            workers: 2,
            leaves: 4,
            out: "runs/breast-cancer".into(),
            status_url: Some("http://127.0.0.1:40123/status".into()),
            resumed_from: Some(1200),
        }
    }

    #[test]
    fn the_start_says_what_is_trained_and_where() {
        assert_eq!(
            text(started(&job(), Some(80))),
            [
                "breast-cancer · binary classification · mlp 128-64-32, relu",
                "  455 training rows · 114 validation rows · 1 server · 2 workers · 4 leaves",
                "  writes to runs/breast-cancer · status at http://127.0.0.1:40123/status",
                "  goes on from the checkpoint of step 1,200",
                "",
            ]
        );
        let bare = Started {
            rows: None,
            status_url: None,
            resumed_from: None,
            ..job()
        };
        assert_eq!(text(started(&bare, None)).len(), 4);
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
        let say = |note_: Note| text(note(&note_, Some(80)));
        assert_eq!(
            say(Note::Restarting {
                role: Role::Worker(1),
                cause: Cause::Signal(9)
            }),
            ["  ! worker 1 was lost (signal 9); starting it again"]
        );
        assert_eq!(
            say(Note::Generation {
                generation: 2,
                checkpoint: Some(100)
            }),
            ["  ! generation 2 goes on from the checkpoint of step 100"]
        );
        assert!(say(Note::Checkpoint { step: 100 }).is_empty());
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
