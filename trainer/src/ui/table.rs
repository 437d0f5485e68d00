//! Tables of numbers, in lines.

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};

use super::text::{Line, Tone};

/// A table whose first column names its rows; the other columns are numbers. `fancy` is for a terminal; plain text is ASCII.
pub fn lines(header: Vec<String>, rows: Vec<Vec<String>>, fancy: bool) -> Vec<Line> {
    let rule = LineStyle::none().fill(if fancy { '─' } else { '-' });
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(rule));
    let cells = |texts: Vec<String>| {
        let cells = texts
            .into_iter()
            .enumerate()
            .map(|(column, text)| match column {
                0 => Cell::new(text),
                _ => Cell::new(text).set_alignment(CellAlignment::Right),
            });
        cells.collect::<Vec<Cell>>()
    };
    table.set_header(cells(header));
    for row in rows {
        table.add_row(cells(row));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { 0 } else { 3 }, 0));
    }
    let text = table.trim_fmt();
    let tone = |index| if index < 2 { Tone::Quiet } else { Tone::Plain };
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| Line::default().with(tone(index), format!("  {line}")))
        .collect()
}
