//! Words for people, on standard error.
//!
//! `eprintln!` panics when its reader has gone or the disk behind it is full. What a command says
//! beside its result is worth less than the result, so here such a failure is passed over. Clippy
//! warns of `eprintln!` and `println!` in the crates that ship.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to standard error, at once and whole; does nothing where that is impossible.
pub fn say(line: impl Display) {
    say_to(&mut io::stderr().lock(), line);
}

fn say_to(out: &mut impl Write, line: impl Display) {
    let _ = out.write_all(format!("{line}\n").as_bytes());
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
