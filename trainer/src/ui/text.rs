//! Styled text that fits the terminal.

/// What a piece of text is, and so how it looks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary text.
    Plain,
    /// What the eye should find first.
    Strong,
    /// Labels and anything else that is there if looked for.
    Quiet,
    /// Done, well.
    Good,
    /// The part of the bar that is done.
    Accent,
    /// Unusual, taken care of.
    Warning,
    /// An error.
    Bad,
}

impl Tone {
    /// Select Graphic Rendition parameters (ECMA-48); the sixteen basic colours follow the
    /// terminal's own theme.
    fn parameters(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Strong => Some("1"),
            Tone::Quiet => Some("2"),
            Tone::Good => Some("32"),
            Tone::Accent => Some("36"),
            Tone::Warning => Some("33"),
            Tone::Bad => Some("1;31"),
        }
    }
}

/// Text of one tone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span(pub Tone, pub String);

/// A line of text in several tones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// Adds text, [`clean`]ed: names of classes, paths and messages may be anybody's.
    #[must_use]
    pub fn with(mut self, tone: Tone, text: impl Into<String>) -> Self {
        let text = text.into();
        let text = match text.contains(char::is_control) {
            true => clean(&text),
            false => text,
        };
        self.0.push(Span(tone, text));
        self
    }

    /// Columns, taking each character as one wide: names and numbers are.
    pub fn width(&self) -> usize {
        self.0.iter().map(|span| span.1.chars().count()).sum()
    }

    /// Cut to `width` columns.
    #[must_use]
    pub fn clip(mut self, width: usize) -> Self {
        let mut left = width;
        for span in &mut self.0 {
            span.1 = span.1.chars().take(left).collect();
            left -= span.1.chars().count();
        }
        self
    }

    /// The line with or without escape sequences.
    pub fn paint(&self, colour: bool) -> String {
        let mut text = String::new();
        for Span(tone, part) in self.0.iter().filter(|span| !span.1.is_empty()) {
            match tone.parameters().filter(|_| colour) {
                Some(parameters) => text.push_str(&format!("\x1b[{parameters}m{part}\x1b[0m")),
                None => text.push_str(part),
            }
        }
        text
    }
}

/// Text from outside without control characters, which could move the cursor or change colours.
/// Line breaks stay; tabs become spaces.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => c,
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// Breaks text between words so that it fits after a prefix of `indent` columns. A word wider than
/// that (a path, say) stays whole, so that it can be copied. Without a width only line breaks count.
pub fn fold(text: &str, width: Option<usize>, indent: usize) -> Vec<String> {
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(1));
    let paragraphs = text.lines();
    paragraphs
        .flat_map(|paragraph| pack(paragraph.split(' '), room))
        .collect()
}

/// Words in lines of at most `room` columns, as far as they are not wider themselves.
pub fn pack<'a>(words: impl Iterator<Item = &'a str>, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in words {
        let joined = line
            .chars()
            .count()
            .saturating_add(1 + word.chars().count());
        if !line.is_empty() && joined > room {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Puts pieces side by side with a dot between, on as many lines as it takes, each indented.
pub fn flow(pieces: Vec<Line>, width: Option<usize>, indent: usize) -> Vec<Line> {
    const BETWEEN: &str = " · ";
    let margin = || Line::default().with(Tone::Plain, " ".repeat(indent));
    let room = width.unwrap_or(usize::MAX);
    let mut lines: Vec<Line> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if line.width() + BETWEEN.chars().count() + piece.width() <= room => {
                line.0.push(Span(Tone::Quiet, BETWEEN.into()));
                line.0.extend(piece.0);
            }
            _ => {
                let mut line = margin();
                line.0.extend(piece.0);
                lines.push(line);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_only_painted_when_asked_for() {
        let line = Line::default()
            .with(Tone::Bad, "error:")
            .with(Tone::Plain, " no")
            .with(Tone::Quiet, "");
        assert_eq!(line.paint(false), "error: no");
        assert_eq!(line.paint(true), "\x1b[1;31merror:\x1b[0m no");
        assert_eq!(line.width(), 9);
    }

    #[test]
    fn lines_are_clipped_by_characters() {
        let line = Line::default()
            .with(Tone::Accent, "━━━")
            .with(Tone::Quiet, "──")
            .with(Tone::Plain, "x");
        assert_eq!(line.clone().clip(4).paint(false), "━━━─");
        assert_eq!(line.clone().clip(0).paint(true), "");
        assert_eq!(line.clone().clip(99), line);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            clean("a\x1b[2J\tb\r\nc\u{9b}31m"),
            "a\u{fffd}[2J b\u{fffd}\nc\u{fffd}31m"
        );
    }

    #[test]
    fn text_folds_between_words_and_never_within() {
        let text = "worker 1 was lost (signal 9); starting it again";
        assert_eq!(
            fold(text, Some(26), 4),
            ["worker 1 was lost", "(signal 9); starting", "it again"]
        );
        assert_eq!(fold(text, None, 4), [text]);
        assert_eq!(
            fold("see /a/very/long/path now", Some(8), 2),
            ["see", "/a/very/long/path", "now"]
        );
        assert_eq!(fold("one\ntwo", Some(80), 0), ["one", "two"]);
        assert_eq!(fold("a b", Some(0), 9), ["a", "b"]);
    }

    #[test]
    fn pieces_flow_into_the_width() {
        let pieces = || {
            ["one", "two", "three"]
                .map(|text| Line::default().with(Tone::Plain, text))
                .to_vec()
        };
        let flown = |width| -> Vec<String> {
            flow(pieces(), width, 2)
                .iter()
                .map(|line| line.paint(false))
                .collect()
        };
        assert_eq!(flown(None), ["  one · two · three"]);
        assert_eq!(flown(Some(19)), ["  one · two · three"]);
        assert_eq!(flown(Some(18)), ["  one · two", "  three"]);
        assert_eq!(flown(Some(1)), ["  one", "  two", "  three"]);
    }
}
