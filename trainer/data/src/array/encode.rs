//! Fitting arrays on training rows, and encoding any rows with the fit.

use trainyard_core::schema::ArrayInput;

use super::{Array, Dtype};
use crate::error::DataError;
use crate::options::{Limits, Normalization};
use crate::scale::{FirstPass, Scale, SecondPass};
use crate::table::allocate;
use crate::warnings;

impl Array {
    /// Shape of one row as the model sees it: `[features]`, or `[channels, height, width]` (with
    /// one channel where the file has no such axis).
    pub(crate) fn row_shape(&self) -> Result<Vec<u64>, DataError> {
        match self.shape[..] {
            [_, features] => Ok(vec![features as u64]),
            [_, height, width] => Ok(vec![1, height as u64, width as u64]),
            [_, channels, height, width] => {
                Ok([channels, height, width].map(|d| d as u64).to_vec())
            }
            _ => Err(DataError::data(
                format!("expected 2 to 4 axes, found the shape {:?}", self.shape),
                "reshape it to [rows, features], [rows, height, width] or [rows, channels, \
                 height, width]",
            )),
        }
    }

    /// Fits each feature or channel on `rows`, which are the training rows.
    pub(crate) fn fit(
        &self,
        rows: &[u32],
        normalization: Normalization,
        limits: &Limits,
    ) -> Result<ArrayInput, DataError> {
        let shape = self.row_shape()?;
        let groups = shape[0] as usize;
        if groups > limits.columns {
            let problem = format!("{groups} features or channels are over {}", limits.columns);
            return Err(DataError::limit(problem, "use fewer"));
        }
        let scales = match normalization {
            Normalization::Standardize => self.scales(rows, groups),
            Normalization::None => vec![Scale::IDENTITY; groups],
        };
        Ok(ArrayInput {
            shape,
            dtype: self.dtype.name().to_owned(),
            mean: scales.iter().map(|s| s.mean).collect(),
            std: scales.iter().map(|s| s.std).collect(),
            resize: false,
        })
    }

    /// Numbers that enter the model as they are, and do not fit.
    pub(crate) fn rounded(&self, input: &ArrayInput) -> Option<String> {
        let scaled =
            input.std.iter().any(|std| *std != 1.0) || input.mean.iter().any(|mean| *mean != 0.0);
        let exact = self.dtype.size() < 4 || self.dtype == Dtype::F32;
        if scaled || exact {
            return None;
        }
        let mut values = Vec::new();
        let rows = 0..self.rows();
        let rounded = rows.flat_map(|row| {
            self.row(row, &mut values);
            let rounded = values
                .iter()
                .copied()
                .filter(|value| warnings::is_rounded(*value));
            rounded.collect::<Vec<f64>>()
        });
        warnings::rounded("the array", rounded)
    }

    fn scales(&self, rows: &[u32], groups: usize) -> Vec<Scale> {
        let mut first = vec![FirstPass::default(); groups];
        self.visit(rows, groups, |group, value| first[group].add(value));
        let mut second: Vec<SecondPass> = first.into_iter().filter_map(FirstPass::finish).collect();
        self.visit(rows, groups, |group, value| second[group].add(value));
        second.into_iter().map(SecondPass::finish).collect()
    }

    /// Visits the elements of `rows` in order, each with the feature or channel it belongs to.
    fn visit(&self, rows: &[u32], groups: usize, mut each: impl FnMut(usize, f64)) {
        let size = self.width() / groups;
        let mut values = Vec::new();
        for &row in rows {
            self.row(row as usize, &mut values);
            for (group, values) in values.chunks_exact(size).enumerate() {
                values.iter().for_each(|&value| each(group, value));
            }
        }
    }

    /// Encodes `rows`, one after the other.
    pub(crate) fn encode(
        &self,
        input: &ArrayInput,
        rows: &[u32],
        limits: &Limits,
    ) -> Result<Vec<f32>, DataError> {
        let shape = self.row_shape()?;
        if shape != input.shape {
            return Err(DataError::data(
                format!(
                    "expected rows of the model's shape {:?}, found {shape:?}",
                    input.shape
                ),
                "reshape the array, or name another file",
            ));
        }
        let scales: Vec<Scale> = input
            .mean
            .iter()
            .zip(&input.std)
            .map(|(&mean, &std)| Scale { mean, std })
            .collect();
        let width = self.width();
        let mut out = allocate(rows.len(), width, limits)?;
        let mut cells = out.iter_mut();
        self.visit(rows, scales.len(), |group, value| {
            if let Some(cell) = cells.next() {
                *cell = scales[group].apply(value);
            }
        });
        if let Some(index) = out.iter().position(|value| !value.is_finite()) {
            let row = rows[index / width];
            let problem = format!(
                "a value in row {row} (from 0) is so far from the training rows' that its scaled \
                 form is infinite"
            );
            return Err(DataError::data(problem, "mend or remove the row"));
        }
        Ok(out)
    }
}
