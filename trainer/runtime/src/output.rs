//! Words for people, on standard error.
//!
//! `eprintln!` panics when its reader has gone or the disk behind it is full. What a command says
//! beside its result is worth less than the result, so here such a failure is passed over. Clippy
//! warns of `eprintln!` and `println!` in the crates that ship.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to standard error, at once and whole; does nothing where that is impossible.
pub fn say(line: impl Display) {
    say_to(&mut io::stderr().lock(), line);
}

fn say_to(out: &mut impl Write, line: impl Display) {
    let line = line.to_string();
    let _ = out.write_all(format!("{}\n", shown(&line)).as_bytes());
}

/// Bold text begins.
pub const BOLD: &str = "\x1b[1m";
/// It ends.
pub const UNSTYLED: &str = "\x1b[0m";

/// A text as a person may see it: control characters, which could move the cursor or change what stands
/// there already, are told as `\u001b`, as in JSON. Line breaks and tabs stay, and what this program itself
/// writes to make text bold.
pub fn shown(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let style = [BOLD, UNSTYLED].into_iter().find(|s| rest.starts_with(s));
        match style {
            Some(style) => shown.push_str(style),
            None if is_harmless(c) => shown.push(c),
            None => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
        rest = &rest[style.map_or(c.len_utf8(), str::len)..];
    }
    Cow::Owned(shown)
}

/// Writes text as [`shown`]. Each write must be whole characters, as those of `write!` are.
pub struct Shown<W>(pub W);

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(shown(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes `error: ...`, the error with its causes.
pub fn say_error(error: &anyhow::Error) {
    say(format_args!("error: {error:#}"));
}

/// Writes `warning: ...`.
pub fn warn(warning: impl Display) {
    say(format_args!("warning: {warning}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_told_in_letters() {
        for harmless in ["", "a b\tc\nd", "ä€😀", "\x1b[1mbold\x1b[0m"] {
            assert_eq!(shown(harmless), harmless);
        }
        assert_eq!(
            shown("a\x1b[2J\u{9b}31m\x07\r\u{7f}\x1b[1m\x1b[31m"),
            "a\\u001b[2J\\u009b31m\\u0007\\u000d\\u007f\x1b[1m\\u001b[31m"
        );
        let mut out = Vec::new();
        let class = "\x1b]0;title\x07";
        write!(Shown(&mut out), "class {class}: {}", 1 + 1).expect("memory");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "class \\u001b]0;title\\u0007: 2"
        );
        let mut said = Vec::new();
        say_to(&mut said, "no job \x1b[2J");
        assert_eq!(said, b"no job \\u001b[2J\n");
    }

    #[test]
    fn a_line_is_written_at_once_and_a_failure_is_passed_over() {
        struct Broken(Vec<usize>);
        impl Write for Broken {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.len());
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut broken = Broken(Vec::new());
        say_to(&mut broken, "four");
        assert_eq!(broken.0, [5]);
    }
}
