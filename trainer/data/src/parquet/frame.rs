//! Whole columns at once.

use std::sync::Arc;

use trainyard_core::schema::Missing;

use super::cells::{Cells, Cursor};
use super::{Table, unequal};
use crate::columns::{ColumnType, Frame, Plan, PlannedColumn, RawValues};
use crate::error::DataError;
use crate::number::{self, Notation};
use crate::options::Limits;
use crate::parallel;

/// Rows that are decoded at once.
const ROWS: usize = 1 << 14;

/// A column that is read.
struct Wanted<'a> {
    column: PlannedColumn,
    /// What is wrong with a missing value, if anything is.
    missing: MissingIs<'a>,
}

enum MissingIs<'a> {
    Allowed,
    Dropped,
    Refused(&'a dyn Fn() -> DataError),
}

/// A column as read, with the bytes of the names of its categories.
struct Read {
    values: RawValues,
    names: u64,
}

impl Frame {
    /// Reads the columns of a plan, each by a thread.
    pub(crate) fn of_parquet(
        table: &Arc<Table>,
        plan: &Plan,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let limits = &limits.beside(table.held);
        let mut frame = Self::empty(plan);
        frame.check_rows(table.rows(), limits)?;
        let missing_value = || plan.missing_value("");
        let missing_label = || plan.missing_label();
        let wanted_input = |column: &PlannedColumn| Wanted {
            missing: match column.missing {
                Missing::Error => MissingIs::Refused(&missing_value),
                Missing::DropRow => MissingIs::Dropped,
                _ => MissingIs::Allowed,
            },
            column: column.clone(),
        };
        let inputs = plan.columns.iter().chain(&plan.split);
        let mut wanted: Vec<Wanted<'_>> = inputs.map(wanted_input).collect();
        let by_task = ColumnType::of_label(plan.task);
        let missing_weight = Plan::missing_weight;
        let others = [
            (
                &plan.weight,
                ColumnType::Number,
                &missing_weight as &dyn Fn() -> DataError,
            ),
            (&plan.label, by_task, &missing_label),
        ];
        for (column, kind, refused) in others {
            let Some((index, name)) = column else {
                continue;
            };
            let drops = plan.reading.missing == Missing::DropRow;
            wanted.push(Wanted {
                column: PlannedColumn {
                    kind,
                    ..PlannedColumn::undeclared(*index, name)
                },
                missing: if drops {
                    MissingIs::Dropped
                } else {
                    MissingIs::Refused(refused)
                },
            });
        }
        let columns: Vec<&PlannedColumn> = wanted.iter().map(|wanted| &wanted.column).collect();
        let read = parallel::map(limits.threads, columns, |column| {
            read(table, column, plan, limits).map_err(|e| e.in_column(&column.name))
        });
        let mut read = read.into_iter().collect::<Result<Vec<Read>, DataError>>()?;
        let rows = read.first().map_or(0, |read| read.values.len());
        if let Some(place) = read.iter().position(|read| read.values.len() != rows) {
            return Err(unequal().in_column(&wanted[place].column.name));
        }
        let kept = kept(&wanted, &read, rows)?;
        if kept.contains(&false) {
            read.iter_mut().for_each(|read| read.values.keep(&kept));
        }
        let place = |is_kept: bool| {
            let rows = (0_u64..).zip(&kept);
            rows.filter(move |(_, kept)| **kept == is_kept)
                .map(|(row, _)| row)
        };
        let (lines, dropped) = (place(true).collect(), place(false).collect());
        let names = read.iter().map(|read| read.names).sum();
        let mut values = read.into_iter().map(|read| read.values);
        frame.fill(plan, &mut values, (lines, dropped), names)?;
        Ok(frame)
    }
}

/// Which rows are not left out.
fn kept(wanted: &[Wanted<'_>], read: &[Read], rows: usize) -> Result<Vec<bool>, DataError> {
    let mut kept = vec![true; rows];
    let mut refused: Option<(usize, DataError)> = None;
    for (wanted, read) in wanted.iter().zip(read) {
        match &wanted.missing {
            MissingIs::Allowed => {}
            MissingIs::Dropped => {
                for (row, kept) in kept.iter_mut().enumerate() {
                    *kept &= !read.values.is_missing(row);
                }
            }
            MissingIs::Refused(error) => {
                let before = refused.as_ref().map_or(rows, |(row, _)| *row);
                if let Some(row) = read.values.first_missing(before) {
                    let error = error().in_column(&wanted.column.name);
                    refused = Some((row, error.on_line(row as u64)));
                }
            }
        }
    }
    match refused {
        // A row that is left out may lack its label, too.
        Some((row, error)) if kept[row] => Err(error),
        Some(_) | None => Ok(kept),
    }
}

fn read(
    table: &Arc<Table>,
    column: &PlannedColumn,
    plan: &Plan,
    limits: &Limits,
) -> Result<Read, DataError> {
    let mut cursor = Cursor::new(Arc::clone(table), column.index);
    let rows = table.rows();
    let mut read = Read {
        values: column.kind.values(),
        names: 0,
    };
    let is_plain = plan.reading.missing_values.is_empty() && column.kind == ColumnType::Number;
    let is_direct = is_plain && cursor.has_floats();
    loop {
        let before = read.values.len();
        let cells = match &mut read.values {
            RawValues::Numbers(values) if is_direct => {
                let Some(added) = cursor.append_floats(ROWS, values)? else {
                    break;
                };
                let wrong = |value: &f64| !value.is_nan() && number::check(*value).is_err();
                match values[before..].iter().any(wrong) {
                    false if (before + added) as u64 <= rows => continue,
                    // What is wrong is told of each by itself.
                    _ => Cells::Numbers(values.split_off(before)),
                }
            }
            _ => match cursor.next(ROWS)? {
                Some(cells) => cells,
                None => break,
            },
        };
        if (before + cells.len()) as u64 > rows {
            return Err(unequal());
        }
        read.add(cells, column, plan, limits)?;
    }
    Ok(read)
}

impl Read {
    fn add(
        &mut self,
        cells: Cells,
        column: &PlannedColumn,
        plan: &Plan,
        limits: &Limits,
    ) -> Result<(), DataError> {
        let before = self.values.len();
        // Texts that stand for a missing value may be numbers.
        let is_plain = plan.reading.missing_values.is_empty();
        let cells = match (cells, &column.kind, &mut self.values) {
            (Cells::Numbers(cells), ColumnType::Number, RawValues::Numbers(values)) if is_plain => {
                let wrong = |value: &f64| !value.is_nan() && number::check(*value).is_err();
                match cells.iter().position(wrong) {
                    None => {
                        values.extend(cells);
                        return Ok(());
                    }
                    Some(_) => Cells::Numbers(cells),
                }
            }
            (Cells::Booleans(cells), ColumnType::Boolean, RawValues::Numbers(values))
            | (Cells::Dates(cells), ColumnType::Date { .. }, RawValues::Numbers(values))
                if is_plain =>
            {
                values.extend(cells);
                return Ok(());
            }
            (cells, ..) => cells,
        };
        for row in 0..cells.len() {
            let at_row = |e: DataError| e.on_line((before + row) as u64);
            let Some(bytes) = cells.text(row) else {
                self.values.push_missing();
                continue;
            };
            if self.values.push_recent(&bytes) {
                continue;
            }
            let text = std::str::from_utf8(&bytes).map(str::trim).map_err(|_| {
                let problem = "the value is not UTF-8";
                at_row(DataError::data(problem, "list the column under `exclude`"))
            })?;
            if plan.reading.is_missing_in(&column.kind, text) {
                self.values.push_missing();
                continue;
            }
            let remedy = || plan.remedy(column);
            let pushed = self.values.push(
                text,
                &column.kind,
                Notation::PLAIN,
                remedy,
                limits,
                &mut self.names,
            );
            pushed.map_err(at_row)?;
            self.values.remember(&bytes);
        }
        Ok(())
    }
}
