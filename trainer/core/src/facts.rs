//! What a server must know of the data it never reads.

use serde::{Deserialize, Serialize};

use crate::control::RowSet;
use crate::json;
use crate::schema::{InputSchema, SchemaError};

/// The most rows of a set: they are numbered in 32 bits.
const MAX_ROWS: u64 = u32::MAX as u64;

/// Facts about a job's dataset, computed by every worker from the bytes it loads.
///
/// The first worker that joins hands them to the coordinator; every later worker must agree
/// (`digest` covers the rest), and the checkpoint carries them, so that servers and `export` work
/// without the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataFacts {
    /// Rows used for training.
    pub train_rows: u64,
    /// Rows used for validation; 0 without a validation set.
    pub validation_rows: u64,
    /// Rows of the test set; 0 without one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub test_rows: u64,
    /// Shape of one input row as the model sees it: `[features]`, or `[channels, height, width]`.
    pub input_shape: Vec<u64>,
    /// Width of the model's output: 1 for binary and regression, classes for multiclass.
    pub outputs: u64,
    /// SHA-256 (hex) over the encoded training, validation and test tensors and the schema.
    pub digest: String,
    /// The input schema with the fitted normalization.
    #[serde(serialize_with = "json::sorted")]
    pub schema: InputSchema,
}

fn is_zero(rows: &u64) -> bool {
    *rows == 0
}

/// Why facts are not those of any dataset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// The schema cannot encode rows.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// More rows than can be numbered.
    #[error("the facts of the data give {0} rows; at most {MAX_ROWS} are supported")]
    Rows(u64),
    /// The shapes do not follow from the schema.
    #[error(
        "the facts of the data have the input shape {shape:?} and {outputs} outputs, their input schema \
         {expected_shape:?} and {expected_outputs}; the file or message that holds them was changed or cut"
    )]
    Shapes {
        /// Shape of a row, as the facts say.
        shape: Vec<u64>,
        /// Outputs, as the facts say.
        outputs: u64,
        /// Shape of a row that the schema makes.
        expected_shape: Vec<u64>,
        /// Outputs that the schema asks for.
        expected_outputs: u64,
    },
}

impl DataFacts {
    /// Rows of a set.
    pub fn rows(&self, set: RowSet) -> u64 {
        match set {
            RowSet::Train => self.train_rows,
            RowSet::Validation => self.validation_rows,
            RowSet::Test => self.test_rows,
        }
    }

    /// Checks what no type can say. Whoever takes facts from a message or a file asks first: networks,
    /// plans and arrays are sized by these numbers.
    ///
    /// That there are rows at all is for the [`Plan`](crate::sampling::Plan) to say.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self) -> Result<(), FactsError> {
        self.schema.check()?;
        if let Some(rows) = [self.train_rows, self.validation_rows, self.test_rows]
            .into_iter()
            .find(|rows| *rows > MAX_ROWS)
        {
            return Err(FactsError::Rows(rows));
        }
        // Of few and small dimensions, since those of a schema that was checked are.
        let (expected_shape, expected_outputs) = (self.schema.input_shape(), self.schema.outputs());
        if self.input_shape != expected_shape || self.outputs != expected_outputs {
            return Err(FactsError::Shapes {
                shape: self.input_shape.iter().copied().take(4).collect(),
                outputs: self.outputs,
                expected_shape,
                expected_outputs,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Task;
    use crate::schema::{ArrayInput, InputKind, Label};

    fn facts() -> DataFacts {
        DataFacts {
            train_rows: 455,
            validation_rows: 0,
            test_rows: 0,
            input_shape: vec![1, 28, 28],
            outputs: 2,
            digest: "cd".repeat(32),
            schema: InputSchema {
                task: Task::Multiclass,
                input: InputKind::Array(ArrayInput {
                    shape: vec![1, 28, 28],
                    dtype: "u1".into(),
                    mean: vec![0.5],
                    std: vec![1.0],
                    resize: false,
                }),
                label: Label {
                    name: "label".into(),
                    classes: vec!["0".into(), "1".into()],
                    numeric: true,
                    scale: None,
                    link: None,
                    threshold: None,
                },
            },
        }
    }

    #[test]
    fn facts_agree_with_their_schema() {
        facts().check().expect("they do");
        let shapes = [
            vec![],
            vec![784],
            vec![1 << 40, 1 << 40],
            vec![1, 28, 28, 1],
            vec![u64::MAX; 1000],
        ];
        for shape in shapes {
            let error = DataFacts {
                input_shape: shape,
                ..facts()
            };
            let error = error.check().expect_err("of no such shape").to_string();
            assert!(error.contains("[1, 28, 28]"), "{error}");
            assert!(error.len() < 300, "{error}");
        }
        for outputs in [0, 1, 3, u64::MAX] {
            let other = DataFacts { outputs, ..facts() };
            assert!(matches!(other.check(), Err(FactsError::Shapes { .. })));
        }
    }

    #[test]
    fn rows_are_numbered_in_32_bits() {
        for rows in [1 << 32, u64::MAX] {
            let (mut train, mut validation) = (facts(), facts());
            train.train_rows = rows;
            validation.validation_rows = rows;
            for facts in [train, validation] {
                assert_eq!(facts.check(), Err(FactsError::Rows(rows)));
            }
        }
        let mut most = facts();
        (most.train_rows, most.validation_rows) = (MAX_ROWS, MAX_ROWS);
        most.check().expect("they can be numbered");
    }

    #[test]
    fn a_schema_that_was_not_read_but_made_is_checked_too() {
        let mut facts = facts();
        facts.schema.label.classes.clear();
        facts.outputs = 0;
        assert!(matches!(facts.check(), Err(FactsError::Schema(_))));
    }
}
