//! Records become columns.

use trainyard_core::schema::Missing;

use super::{ColumnType, Frame, Plan, RawValues, Reading};
use crate::classes::RawLabels;
use crate::error::{DataError, quoted};
use crate::files::Files;
use crate::number::Notation;
use crate::options::Limits;
use crate::parallel;
use crate::tables::TableRows;
use crate::text::{Cursor, Fields};

/// The greatest weight of a row: a few orders of magnitude above all that is of use, so that no sum of losses is infinite.
const GREATEST_WEIGHT: f64 = 1e6;

impl Frame {
    /// Reads every record of the files `uris`, one file after the other. The plan is made for the first. As many threads
    /// take part as the limits allow; what is read does not depend on it.
    pub(crate) fn read(
        files: &dyn Files,
        uris: &[String],
        reading: &Reading,
        limits: &Limits,
        plan: impl FnOnce(&[String]) -> Result<Plan, DataError>,
    ) -> Result<Self, DataError> {
        let Some((first, others)) = uris.split_first() else {
            let remedy = "name one under `uri`";
            return Err(DataError::options("no file is named", remedy));
        };
        let records = |uri: &str| TableRows::open(files, uri, reading, limits);
        let head = records(first)?;
        let plan = plan(head.header()).map_err(|e| reading.in_header(e).in_file(first))?;
        let mut table = Self::empty(&plan);
        if !others.is_empty() {
            table.begin_file(first);
        }
        table
            .read_file(head, &plan, limits)
            .map_err(|e| e.in_file(first))?;
        for uri in others {
            let head = records(uri)?;
            let plan = plan.for_file(head.header());
            let plan = plan.map_err(|e| reading.in_header(e).in_file(uri))?;
            let told = plan.warnings.iter().map(|text| format!("{uri}: {text}"));
            table.warnings.extend(told);
            table.begin_file(uri);
            table
                .read_file(head, &plan, limits)
                .map_err(|e| e.in_file(uri))?;
        }
        if table.lines.is_empty() {
            return Err(plan.no_rows(table.dropped.len()).in_file(first));
        }
        Ok(table)
    }

    fn read_file(
        &mut self,
        records: TableRows<'_>,
        plan: &Plan,
        limits: &Limits,
    ) -> Result<(), DataError> {
        let mut records = match records {
            TableRows::Text(records) => *records,
            TableRows::Parquet(rows) => {
                let part = Self::of_parquet(rows.table(), plan, limits);
                return part
                    .and_then(|part| self.append(part, plan, limits))
                    .map_err(DataError::by_row);
            }
        };
        // The first row of a file without a header was read to count the columns.
        let waiting = usize::from(plan.reading.headerless);
        self.append(
            Self::part(&mut records, plan, waiting, limits)?,
            plan,
            limits,
        )?;
        let (rest, mut blocks) = records.into_blocks();
        let format = rest.format();
        let mut rest = Some(rest);
        let next = || match rest.take() {
            Some(rest) => Ok(Some(rest)),
            None => Ok(blocks.next()?.map(|block| Cursor::new(block, format))),
        };
        parallel::pipeline(
            limits.threads,
            next,
            |mut records| Self::part(&mut records, plan, usize::MAX, limits),
            |part| self.append(part, plan, limits),
        )
    }

    /// Reads records until there are `most` rows; fewer, or none, at the end.
    pub(crate) fn part(
        records: &mut (impl Fields + ?Sized),
        plan: &Plan,
        most: usize,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let mut frame = Self::empty(plan);
        while frame.lines.len() < most
            && let Some(line) = records.next()?
        {
            let rows = frame.lines.len();
            let pushed = frame.push(records, plan, limits);
            match pushed.map_err(|e| e.on_line(line))? {
                true => {
                    frame.keep_ids(records, plan).map_err(|e| e.on_line(line))?;
                    frame.lines.push(line);
                }
                false => {
                    frame.truncate(rows);
                    frame.dropped.push(line);
                }
            }
            frame.check(&[line], limits)?;
        }
        Ok(frame)
    }

    /// Refuses more rows than may be held. The last of them, which were not checked yet, start on `lines`.
    fn check(&self, lines: &[u64], limits: &Limits) -> Result<(), DataError> {
        let rows = self.lines.len() as u64;
        let all = rows + self.dropped.len() as u64;
        let bytes_of = |rows: u64| {
            let bytes = self.row_bytes().saturating_mul(rows);
            bytes.saturating_add(self.names)
        };
        let before = all - lines.len() as u64;
        if limits.check_memory(bytes_of(all)).is_err() {
            // The first that is too much.
            let mut rows = (before + 1..).zip(lines);
            return rows.try_for_each(|(row, line)| {
                let fits = limits.check_memory(bytes_of(row));
                fits.map_err(|e| e.on_line(*line))
            });
        }
        let counted = self.check_count(rows, limits);
        counted.map_err(|e| match lines.last() {
            Some(line) => e.on_line(*line),
            None => e,
        })
    }

    /// Refuses more rows than may be held, before any is.
    pub(crate) fn check_rows(&self, rows: u64, limits: &Limits) -> Result<(), DataError> {
        limits.check_memory(self.row_bytes().saturating_mul(rows))?;
        self.check_count(rows, limits)
    }

    fn check_count(&self, rows: u64, limits: &Limits) -> Result<(), DataError> {
        let columns = self.columns.len() as u64;
        let most = (limits.values / columns.max(1)).min(u32::MAX.into());
        if rows <= most {
            return Ok(());
        }
        let problem = format!("more than {most} rows of {columns} columns");
        Err(DataError::limit(problem, "split the file"))
    }

    /// Fills in whole columns, in the order of the plan: inputs, what splits go by, weights and labels.
    pub(crate) fn fill(
        &mut self,
        plan: &Plan,
        values: &mut dyn Iterator<Item = RawValues>,
        (lines, dropped): (Vec<u64>, Vec<u64>),
        names: u64,
    ) -> Result<(), DataError> {
        for (column, values) in self
            .columns
            .iter_mut()
            .chain(&mut self.split)
            .zip(&mut *values)
        {
            column.values = values;
        }
        if let (Some((_, name)), Some(RawValues::Numbers(read))) = (
            &plan.weight,
            plan.weight.as_ref().and_then(|_| values.next()),
        ) {
            for (weight, line) in read.iter().zip(&lines) {
                let checked = checked_weight(*weight, &weight.to_string());
                checked.map_err(|e| e.in_column(name).on_line(*line))?;
            }
            self.weights = Some(read);
        }
        if plan.label.is_some() {
            self.labels = values.next().map(RawLabels);
        }
        (self.lines, self.dropped, self.names) = (lines, dropped, names);
        Ok(())
    }

    /// Adds the rows that come next.
    fn append(&mut self, part: Self, plan: &Plan, limits: &Limits) -> Result<(), DataError> {
        let mut all_lines = [&part.lines[..], &part.dropped[..]].concat();
        all_lines.sort_unstable();
        let lines = &part.lines;
        let columns = self.columns.iter_mut().chain(&mut self.split);
        let parts = part.columns.into_iter().chain(part.split);
        for (column, part) in columns.zip(parts) {
            column
                .values
                .append(part.values, lines, limits, &mut self.names)
                .map_err(|e| e.in_column(&part.planned.name))?;
        }
        if let (Some(labels), Some(part), Some((_, name))) =
            (&mut self.labels, part.labels, &plan.label)
        {
            labels
                .0
                .append(part.0, lines, limits, &mut self.names)
                .map_err(|e| e.in_column(name))?;
        }
        if let (Some(weights), Some(part)) = (&mut self.weights, part.weights) {
            weights.extend(part);
        }
        for text in part.ids {
            self.names += id_bytes(&text);
            self.ids.push(text);
        }
        self.lines.extend(part.lines);
        self.dropped.extend(part.dropped);
        self.check(&all_lines, limits)
    }

    fn keep_ids(&mut self, records: &(impl Fields + ?Sized), plan: &Plan) -> Result<(), DataError> {
        for index in &plan.ids {
            let text = records.field(*index)?;
            self.names += id_bytes(text);
            self.ids.push(text.to_owned());
        }
        Ok(())
    }

    /// Adds the current record; false if it is to be left out.
    fn push(
        &mut self,
        records: &(impl Fields + ?Sized),
        plan: &Plan,
        limits: &Limits,
    ) -> Result<bool, DataError> {
        let mut whole = true;
        for column in self.columns.iter_mut().chain(&mut self.split) {
            let planned = &column.planned;
            let at_column = |error: DataError| error.in_column(&planned.name);
            if let (ColumnType::Number, RawValues::Numbers(values)) =
                (&planned.kind, &mut column.values)
                && plan.reading.is_direct(records.is_number(planned.index))
                && let Some(number) = records.number(planned.index)
            {
                values.push(number);
                continue;
            }
            let bytes = records.bytes(planned.index);
            if column.values.push_recent(bytes) {
                continue;
            }
            let text = records.field(planned.index).map_err(at_column)?;
            if !plan.reading.is_missing_in(&planned.kind, text) {
                let remedy = || plan.remedy(planned);
                column
                    .values
                    .push(
                        text,
                        &planned.kind,
                        plan.reading.notation,
                        remedy,
                        limits,
                        &mut self.names,
                    )
                    .map_err(at_column)?;
                column.values.remember(bytes);
                continue;
            }
            column.values.push_missing();
            match planned.missing {
                Missing::Error => return Err(at_column(plan.missing_value(text))),
                Missing::DropRow => whole = false,
                _ => {}
            }
        }
        if let (Some((index, name)), Some(weights)) = (&plan.weight, &mut self.weights) {
            let text = records.field(*index).map_err(|e| e.in_column(name))?;
            match plan.reading.is_missing(text) {
                false => {
                    let weight = weight(text, plan.reading.notation);
                    weights.push(weight.map_err(|e| e.in_column(name))?);
                }
                true if plan.reading.missing == Missing::DropRow => whole = false,
                true => return Err(Plan::missing_weight().in_column(name)),
            }
        }
        let (true, Some((index, name)), Some(labels)) = (whole, &plan.label, &mut self.labels)
        else {
            return Ok(whole);
        };
        (|| {
            let bytes = records.bytes(*index);
            if labels.0.push_recent(bytes) {
                return Ok(true);
            }
            let text = records.field(*index)?;
            if plan.reading.is_missing(text) {
                if plan.predicts {
                    labels.0.push_missing();
                    return Ok(true);
                }
                return match plan.reading.missing {
                    Missing::DropRow => Ok(false),
                    _ => Err(plan.missing_label()),
                };
            }
            let remedy = || "mend the value; regression needs a number as its label".to_owned();
            let kind = ColumnType::of_label(plan.task);
            let notation = plan.reading.notation;
            labels
                .0
                .push(text, &kind, notation, remedy, limits, &mut self.names)?;
            labels.0.remember(bytes);
            Ok(true)
        })()
        .map_err(|e: DataError| e.in_column(name))
    }

    fn truncate(&mut self, rows: usize) {
        for column in self.columns.iter_mut().chain(&mut self.split) {
            column.values.truncate(rows);
        }
        if let Some(weights) = &mut self.weights {
            weights.truncate(rows);
        }
    }
}

/// Bytes of a text that is kept.
fn id_bytes(text: &str) -> u64 {
    (text.len() + size_of::<String>()) as u64
}

/// What a row counts.
fn weight(text: &str, notation: Notation) -> Result<f64, DataError> {
    let value = notation.parse(text);
    let value = value.map_err(|problem| DataError::data(problem, "correct the value"))?;
    checked_weight(value, text)
}

fn checked_weight(value: f64, text: &str) -> Result<f64, DataError> {
    match (0.0..=GREATEST_WEIGHT).contains(&value) {
        true => Ok(value),
        false => {
            let found = quoted(text);
            let problem = format!("expected a weight from 0 to {GREATEST_WEIGHT}, found {found}");
            Err(DataError::data(problem, "correct the value"))
        }
    }
}
