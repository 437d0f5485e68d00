//! Reading a table of which a manifest need not say what its columns hold.
//!
//! The types of such columns are told from all their values. So that a file need not be read twice for it, columns whose
//! first values are no numbers are read as texts, and their types are told from the different texts that they hold. Only
//! where that does not do, as in a table with errors, is every value looked at by itself.

use trainyard_core::metrics::Task;

use super::{ColumnType, Frame, InferredTypes, Plan, RawValues, Reading, SplitColumn};
use crate::error::{DataError, ErrorKind};
use crate::files::Files;
use crate::infer;
use crate::options::{Limits, TableOptions};
use crate::tables::TableRows;

impl Frame {
    /// Reads the files `uris` for training.
    pub(crate) fn training(
        files: &dyn Files,
        (options, uris): (&TableOptions, &[String]),
        splits: &[SplitColumn<'_>],
        task: Task,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        let reading = Reading::from(options);
        let plan = |header: &[String], types: &InferredTypes| {
            Plan::training(header, options, splits, types, task)
        };
        let read = |types: &InferredTypes| {
            Self::read(files, uris, &reading, limits, |header| plan(header, types))
        };
        let texts = match uris.first() {
            // Without this, what is missing depends on the type.
            Some(uri) if options.na_is_missing => {
                let rows = TableRows::open(files, uri, &reading, limits);
                let texts = rows.and_then(|rows| match rows {
                    TableRows::Parquet(rows) => Ok(infer::declared_types(rows.table())),
                    TableRows::Text(records) => {
                        let plan = plan(records.header(), &InferredTypes::new())?;
                        infer::texts(*records, &plan, limits)
                    }
                });
                // What is wrong is told by the reading proper.
                texts.unwrap_or_default()
            }
            _ => InferredTypes::new(),
        };
        let failed = match read(&texts) {
            Ok(table) if texts.is_empty() => return Ok(table),
            Ok(table) => match infer::types_of_texts(&table, &texts) {
                Some(types) => return table.typed(|header| plan(header, &types)),
                None => DataError::data("the types of columns cannot be told", ""),
            },
            // What is wrong with one column may be that it holds no numbers, or none of the few different texts.
            Err(failed) if failed.column.is_some() => match failed.kind {
                ErrorKind::Data => failed,
                ErrorKind::Limit if !texts.is_empty() => failed,
                _ => return Err(failed),
            },
            Err(failed) => return Err(failed),
        };
        let none = |header: &[String]| plan(header, &InferredTypes::new());
        read(&infer::types(files, uris, &reading, none, limits, failed)?)
    }

    /// The same table by a plan with the types of the columns that were read as texts.
    fn typed(
        mut self,
        plan: impl FnOnce(&[String]) -> Result<Plan, DataError>,
    ) -> Result<Self, DataError> {
        let plan = plan(&self.header)?;
        let columns = self.columns.iter_mut().chain(&mut self.split);
        let planned = plan.columns.iter().chain(&plan.split);
        for (column, planned) in columns.zip(planned) {
            column.planned = planned.clone();
            let RawValues::Codes { names, codes } = &column.values else {
                continue;
            };
            if matches!(planned.kind, ColumnType::Category { .. }) {
                continue;
            }
            let number = |name: &String| planned.kind.number(name, plan.reading.notation);
            let numbers: Result<Vec<f64>, String> = names.names().iter().map(number).collect();
            let numbers =
                numbers.map_err(|problem| DataError::data(problem, "").in_column(&planned.name))?;
            let number = |&code: &u32| numbers.get(code as usize).copied().unwrap_or(f64::NAN);
            column.values = RawValues::Numbers(codes.iter().map(number).collect());
        }
        self.warnings.splice(..self.planned_warnings, plan.warnings);
        Ok(self)
    }
}
