//! Printing for people and for programs.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::Result;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use trainyard_core::metrics::Metrics;
use trainyard_runtime::exit::ExitCode;
use trainyard_runtime::output::{BOLD, Shown, UNSTYLED};

use crate::ui::format::metric;

/// Whether standard output is a terminal.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Text in bold where colour is allowed: on a terminal, unless `NO_COLOR` is set.
pub fn bold(text: &str) -> String {
    let allowed =
        on_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if allowed {
        format!("{BOLD}{text}{UNSTYLED}")
    } else {
        text.to_owned()
    }
}

/// A table with a header; the columns of `numbers` are aligned to the right.
pub fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill(if on_terminal() { '─' } else { '-' });
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header(header.iter().copied());
    for &column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Runs `print` on buffered standard output. A reader that has seen enough (`| head`) is no error. On a
/// terminal, control characters of names are [`Shown`]; for other programs, data stay as they are.
pub fn to_stdout(
    exit: ExitCode,
    print: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = match on_terminal() {
        true => print(&mut Shown(&mut out)),
        false => print(&mut out),
    };
    let result = printed.and_then(|()| Ok(out.flush()?));
    // What is left in the buffer must not be tried again when it is dropped.
    let _ = out.into_parts();
    match result {
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) =>
        {
            Ok(exit)
        }
        result => result.map(|()| exit),
    }
}

/// `loss 0.0731, accuracy 0.9824`; empty without metrics.
pub fn metrics(metrics: &Metrics) -> String {
    let parts: Vec<String> = metrics
        .iter()
        .map(|(kind, value)| format!("{} {}", kind.name(), metric(kind.name(), value)))
        .collect();
    parts.join(", ")
}

/// `1.2 MiB`.
pub fn size(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units.chain(["TiB"]) {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{size:.1} {unit}")
    }
}

/// A field of a CSV line, in quotes where it needs them (RFC 4180).
pub fn csv_field(text: &str) -> String {
    let plain = !text.contains([',', '"', '\n', '\r']) && text.trim() == text;
    if plain {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 40), "5.0 TiB");
    }

    #[test]
    fn fields_are_quoted_where_they_must() {
        assert_eq!(csv_field("malignant"), "malignant");
        assert_eq!(csv_field("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(csv_field(" x"), "\" x\"");
    }
}
