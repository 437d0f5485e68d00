//! Where the words go: the two output streams and what they can show.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};

use indicatif::ProgressDrawTarget;

use super::text::Line;

/// How a run shows itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Words and a moving bar on standard error, the summary on standard output.
    Terminal,
    /// JSON log lines on standard error, the summary on standard output as plain text.
    Plain,
    /// JSON lines on standard output and nothing else there; the summary is the last.
    Json,
}

impl Mode {
    /// The mode for this process, `json` being the user's wish for JSON.
    pub fn detect(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match json {
            true => Mode::Json,
            false if std::io::stderr().is_terminal() && !dumb => Mode::Terminal,
            false => Mode::Plain,
        }
    }
}

/// Whether standard error may be coloured: it is a terminal, `NO_COLOR` is unset or empty
/// (<https://no-color.org>), and `TERM` is not `dumb`.
pub fn colour_allowed() -> bool {
    let variable = |name| std::env::var_os(name);
    let (no_color, term) = (variable("NO_COLOR"), variable("TERM"));
    may_colour(
        std::io::stderr().is_terminal(),
        no_color.as_deref(),
        term.as_deref(),
    )
}

fn may_colour(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// Tells the columns of a terminal; none if it is none.
pub(super) type Width = Box<dyn Fn() -> Option<usize> + Send>;

/// An output stream.
pub(super) struct Stream {
    pub writer: Box<dyn Write + Send>,
    pub terminal: bool,
    pub colour: bool,
    pub width: Width,
    /// Why a line could not be written.
    pub failed: Option<io::Error>,
}

impl Stream {
    pub fn stdout(colour: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let width: Width = Box::new(|| columns(std::io::stdout()));
        Stream {
            writer: Box::new(std::io::stdout()),
            terminal,
            colour: colour && terminal,
            width,
            failed: None,
        }
    }

    pub fn stderr(colour: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let width: Width = Box::new(|| columns(std::io::stderr()));
        Stream {
            writer: Box::new(std::io::stderr()),
            terminal,
            colour: colour && terminal,
            width,
            failed: None,
        }
    }

    /// Writes a line. Training goes on if that is impossible; unless the reader has gone, the error is
    /// remembered.
    pub fn text(&mut self, line: &str) {
        let written = writeln!(self.writer, "{line}").and_then(|()| self.writer.flush());
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => self.failed = Some(error),
            _ => {}
        }
    }

    /// Why a line could not be written, if one could not; not that its reader has gone.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failed.as_ref()
    }

    /// Writes styled lines.
    pub fn lines(&mut self, lines: &[Line]) {
        for line in lines {
            self.text(&line.paint(self.colour));
        }
    }
}

/// Columns of the terminal behind a stream; none if there is none, or if it does not know.
fn columns(stream: impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// Makes the target of a new bar.
pub(super) type Target = Box<dyn Fn() -> ProgressDrawTarget + Send>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_needs_a_terminal_that_is_asked_for_none_of_the_exceptions() {
        let with = |terminal, no_color: Option<&str>, term: Option<&str>| {
            may_colour(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(with(true, None, Some("xterm-256color")));
        assert!(with(true, None, None));
        assert!(with(true, Some(""), Some("xterm")));
        assert!(!with(false, None, Some("xterm")));
        assert!(!with(true, Some("1"), Some("xterm")));
        assert!(!with(true, None, Some("dumb")));
    }

    #[test]
    fn what_is_no_terminal_has_no_columns() {
        assert_eq!(columns(std::fs::File::open("/dev/null").unwrap()), None);
    }

    #[test]
    fn t09_output_that_is_lost_is_remembered_unless_its_reader_has_gone() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let failure = |kind: io::ErrorKind| {
            let mut stream = Stream {
                writer: Box::new(Broken(kind)),
                terminal: false,
                colour: false,
                width: Box::new(|| None),
                failed: None,
            };
            stream.text("a line");
            stream.failure().map(io::Error::kind)
        };
        let full = io::ErrorKind::StorageFull;
        assert_eq!(failure(full), Some(full));
        assert_eq!(failure(io::ErrorKind::BrokenPipe), None);
    }
}
