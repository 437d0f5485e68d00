//! Golden rows in the original columns: made when an artifact is exported, and compared wherever it is used.

use anyhow::{Result, bail, ensure};
use trainyard_core::prediction::Prediction;
use trainyard_data::{
    DataError, InputKind, InputSchema, Limits, Outcome, RawArray, Rows, Table, encode_each,
    golden_array, golden_cells,
};
use trainyard_runtime::artifact::{
    Answer, Expected, GoldenArray, GoldenInputs, GoldenRow, GoldenRows, RTOL, tolerance,
};
use trainyard_runtime::memory;

use super::model::{Artifact, BLOCK_ROWS};

/// What stands for a file in errors.
const NAME: &str = "golden rows";

/// How closely golden rows were reproduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the bit: the capability is the one that they were made with.
    Exact,
    /// Within the tolerance: the capability is another one.
    Within,
}

/// Makes rows from the schema of a model, and computes what comes of them. `capability` is that of this process.
///
/// # Errors
/// Of libtorch.
pub fn make(artifact: &Artifact, capability: &str) -> Result<GoldenRows> {
    let schema = &artifact.model.input_schema;
    let inputs = match &schema.input {
        InputKind::Columns(input) => GoldenInputs::Cells(golden_cells(input)),
        InputKind::Array(input) => GoldenInputs::Array(golden_array(input)),
    };
    let results = compute(artifact, &inputs)?;
    let outputs: Vec<f32> = results
        .iter()
        .flat_map(Computed::outputs)
        .copied()
        .collect();
    let (columns, array, cells) = match inputs {
        GoldenInputs::Cells(cells) => (cells.columns, None, cells.rows),
        GoldenInputs::Array(raw) => (Vec::new(), Some(GoldenArray::of(&raw)), Vec::new()),
    };
    let mut cells = cells.into_iter();
    let row = |result: Computed| GoldenRow {
        cells: cells.next().unwrap_or_default(),
        expected: result.expected(artifact),
    };
    Ok(GoldenRows {
        capability: capability.to_owned(),
        block_rows: BLOCK_ROWS as u64,
        rtol: RTOL,
        atol: tolerance(&outputs),
        columns,
        array,
        rows: results.into_iter().map(row).collect(),
    })
}

/// Compares what this process makes of golden rows with what must come of them: all at once, and some of them alone.
///
/// # Errors
/// If a row has another result, which is named.
pub fn check(artifact: &Artifact, golden: &GoldenRows, capability: &str) -> Result<Verdict> {
    let is_exact = golden.capability == capability && golden.block_rows == BLOCK_ROWS as u64;
    let inputs = golden.inputs()?;
    let results = compute(artifact, &inputs)?;
    ensure!(
        results.len() == golden.rows.len(),
        "there are {} rows, expected {}",
        results.len(),
        golden.rows.len()
    );
    let rows = golden.rows.iter().zip(results).enumerate();
    for (place, (row, result)) in rows {
        compare(artifact, golden, row, result, is_exact)
            .map_err(|error| error.context(format!("golden row {place} (from 0)")))?;
    }
    // In other company, and at another place in a block.
    for place in [0, golden.rows.len() / 2, golden.rows.len() - 1] {
        let alone = compute(artifact, &one(&inputs, place))?;
        for result in alone {
            compare(artifact, golden, &golden.rows[place], result, false)
                .map_err(|error| error.context(format!("golden row {place} (from 0), alone")))?;
        }
    }
    Ok(match is_exact {
        true => Verdict::Exact,
        false => Verdict::Within,
    })
}

/// What came of a row.
enum Computed {
    Outputs(Vec<f32>),
    Refused(DataError),
    LeftOut,
}

impl Computed {
    fn outputs(&self) -> &[f32] {
        match self {
            Self::Outputs(outputs) => outputs,
            Self::Refused(_) | Self::LeftOut => &[],
        }
    }

    fn expected(self, artifact: &Artifact) -> Expected {
        match self {
            Self::Outputs(outputs) => Expected::Predicted {
                prediction: answer(artifact, &outputs),
                outputs,
            },
            Self::Refused(error) => Expected::Refused {
                refused: error.column.unwrap_or_default(),
            },
            Self::LeftOut => Expected::LeftOut { left_out: true },
        }
    }
}

fn answer(artifact: &Artifact, outputs: &[f32]) -> Answer {
    let label = &artifact.model.input_schema.label;
    match Prediction::of(artifact.kind(), label, outputs) {
        Prediction::Value(value) => Answer::Value(value),
        Prediction::Class { class, .. } => {
            Answer::Class(label.classes.get(class).cloned().unwrap_or_default())
        }
    }
}

fn compute(artifact: &Artifact, inputs: &GoldenInputs) -> Result<Vec<Computed>> {
    let schema = &artifact.model.input_schema;
    let limits = memory::limits();
    let outcomes = match inputs {
        GoldenInputs::Cells(cells) => encode_each(schema, NAME, cells, &limits)?,
        GoldenInputs::Array(raw) => encode_array(schema, raw, &limits)?,
    };
    let mut table = Table::default();
    for outcome in &outcomes {
        if let Outcome::Inputs(inputs) = outcome {
            table.width = inputs.len();
            table.rows += 1;
            table.features.extend_from_slice(inputs);
        }
    }
    artifact.check_memory(BLOCK_ROWS)?;
    let outputs = artifact.answers(&table)?;
    let width = outputs.len().checked_div(table.rows).unwrap_or(0).max(1);
    let mut outputs = outputs.chunks_exact(width);
    let computed = outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Inputs(_) => Computed::Outputs(outputs.next().unwrap_or_default().to_vec()),
        Outcome::Refused(error) => Computed::Refused(error),
        Outcome::LeftOut => Computed::LeftOut,
    });
    Ok(computed.collect())
}

fn encode_array(schema: &InputSchema, raw: &RawArray, limits: &Limits) -> Result<Vec<Outcome>> {
    let mut rows = Rows::raw_array(schema, NAME, raw.clone(), limits)?;
    let mut outcomes = Vec::new();
    while let Some(part) = rows.next(BLOCK_ROWS)? {
        let inputs = part.table.features.chunks_exact(part.table.width.max(1));
        outcomes.extend(inputs.map(|row| Outcome::Inputs(row.to_vec())));
    }
    Ok(outcomes)
}

/// The inputs of one row.
fn one(inputs: &GoldenInputs, place: usize) -> GoldenInputs {
    let mut inputs = inputs.clone();
    match &mut inputs {
        GoldenInputs::Cells(cells) => cells.rows = cells.rows.drain(place..=place).collect(),
        GoldenInputs::Array(raw) => {
            let rows = raw.shape.first().map_or(1, |&rows| rows.max(1) as usize);
            let bytes = raw.bytes.len() / rows;
            raw.bytes = raw.bytes[place * bytes..(place + 1) * bytes].to_vec();
            raw.shape[0] = 1;
        }
    }
    inputs
}

/// Whether two predictions of the same outputs are equal. Libraries of C differ in the last digits of an exponential.
fn is_same(found: &Answer, expected: &Answer) -> bool {
    match (found, expected) {
        (Answer::Value(found), Answer::Value(expected)) => {
            (found - expected).abs() <= 1e-12 * expected.abs()
        }
        _ => found == expected,
    }
}

/// Compares what came of a row with what must come of it.
fn compare(
    artifact: &Artifact,
    golden: &GoldenRows,
    row: &GoldenRow,
    result: Computed,
    is_exact: bool,
) -> Result<()> {
    match (&row.expected, result) {
        (
            Expected::Predicted {
                outputs,
                prediction,
            },
            Computed::Outputs(found),
        ) => {
            let is_right = |(found, expected): (&f32, &f32)| match is_exact {
                true => found.to_bits() == expected.to_bits(),
                // NaN is not within any tolerance.
                false => (found - expected).abs() <= golden.atol + golden.rtol * expected.abs(),
            };
            ensure!(
                found.len() == outputs.len() && found.iter().zip(outputs).all(is_right),
                "its outputs are {found:?}, expected {outputs:?}"
            );
            // Of the outputs that are expected: where two are close, those that were found may make another class.
            let found = answer(artifact, outputs);
            ensure!(
                is_same(&found, prediction),
                "its prediction is {found:?}, expected {prediction:?}"
            );
            Ok(())
        }
        (Expected::Refused { refused }, Computed::Refused(error)) => {
            let column = error.column.clone().unwrap_or_default();
            ensure!(
                column == *refused,
                "column {refused:?} should be refused: {error}"
            );
            Ok(())
        }
        (Expected::LeftOut { .. }, Computed::LeftOut) => Ok(()),
        (_, Computed::Outputs(found)) => {
            bail!("it should be refused or left out, and gives {found:?}")
        }
        (_, Computed::Refused(error)) => bail!("it is refused: {error}"),
        (_, Computed::LeftOut) => bail!("it is left out"),
    }
}
