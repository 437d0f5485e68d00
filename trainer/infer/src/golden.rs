//! Golden rows in the original columns: made when an artifact is exported, and compared wherever it is used.

use anyhow::{Result, bail, ensure};
use trainyard_data::{
    DataError, InputKind, InputSchema, Limits, Outcome, RawArray, Rows, encode_each, golden_array,
    golden_cells,
};
use trainyard_runtime::artifact::{
    Answer, Expected, Golden, GoldenArray, GoldenInputs, GoldenRow, GoldenRows, RTOL, is_within,
    tolerance,
};
use trainyard_runtime::memory;

use crate::KERNEL_VERSION;
use crate::model::Model;

/// What stands for a file in errors.
const NAME: &str = "golden rows";
/// Rows of an array that are encoded at once.
const PART: usize = 64;

/// How closely golden rows were reproduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the bit: the kernels are of the version that they were made with.
    Exact,
    /// Within the tolerance: they were made by another version.
    Within,
}

/// Makes rows from the schema of a model, and computes what comes of them.
///
/// # Errors
/// If they cannot be encoded.
pub fn make(model: &Model) -> Result<GoldenRows> {
    let schema = &model.file.input_schema;
    let inputs = match &schema.input {
        InputKind::Columns(input) => GoldenInputs::Cells(golden_cells(input)),
        InputKind::Array(input) => GoldenInputs::Array(golden_array(input)),
    };
    let results = compute(model, &inputs)?;
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
        expected: result.expected(model),
    };
    Ok(GoldenRows {
        kernel_version: Some(KERNEL_VERSION),
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
pub fn check(model: &Model, golden: &GoldenRows) -> Result<Verdict> {
    let is_exact = golden.kernel_version == Some(KERNEL_VERSION);
    let inputs = golden.inputs()?;
    let results = compute(model, &inputs)?;
    ensure!(
        results.len() == golden.rows.len(),
        "there are {} rows, expected {}",
        results.len(),
        golden.rows.len()
    );
    let rows = golden.rows.iter().zip(results).enumerate();
    for (place, (row, result)) in rows {
        compare(model, golden, row, result, is_exact)
            .map_err(|error| error.context(format!("golden row {place} (from 0)")))?;
    }
    // In other company.
    for place in [0, golden.rows.len() / 2, golden.rows.len() - 1] {
        let alone = compute(model, &inputs.rows(&[place]))?;
        for result in alone {
            compare(model, golden, &golden.rows[place], result, is_exact)
                .map_err(|error| error.context(format!("golden row {place} (from 0), alone")))?;
        }
    }
    Ok(match is_exact {
        true => Verdict::Exact,
        false => Verdict::Within,
    })
}

/// Compares what the network makes of normalized rows with what training's made of them: all at once, and each alone.
///
/// # Errors
/// If an output is out of the tolerance, or the rows are not of the model's shape.
pub fn check_network(model: &Model, golden: &Golden) -> Result<()> {
    let width = model.network().inputs();
    let outputs = model.kind().outputs();
    ensure!(
        golden.input_shape[1..] == model.file.input_shape,
        "the rows have the shape {:?}, expected {:?}",
        &golden.input_shape[1..],
        model.file.input_shape
    );
    ensure!(
        golden.output_shape[1..] == [outputs as u64],
        "the outputs of a row have the shape {:?}, expected [{outputs}]",
        &golden.output_shape[1..]
    );
    let together = model.outputs(&golden.inputs, 1);
    let alone = golden.inputs.chunks_exact(width.max(1));
    let alone = alone.flat_map(|row| model.outputs(row, 1));
    let found = together.iter().copied().zip(alone);
    for (place, ((together, alone), &expected)) in found.zip(&golden.outputs).enumerate() {
        let (row, place) = (place / outputs, place % outputs);
        ensure!(
            together.to_bits() == alone.to_bits(),
            "output {place} of row {row} (from 0) is {together}, and {alone} where the row is alone"
        );
        ensure!(
            is_within(together, expected, golden.rtol, golden.atol),
            "output {place} of row {row} (from 0) is {together}, expected {expected}"
        );
    }
    Ok(())
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

    fn expected(self, model: &Model) -> Expected {
        match self {
            Self::Outputs(outputs) => Expected::Predicted {
                prediction: model.answer(&outputs),
                outputs,
            },
            Self::Refused(error) => Expected::Refused {
                refused: error.column.unwrap_or_default(),
            },
            Self::LeftOut => Expected::LeftOut { left_out: true },
        }
    }
}

fn compute(model: &Model, inputs: &GoldenInputs) -> Result<Vec<Computed>> {
    let schema = &model.file.input_schema;
    let limits = memory::limits();
    let outcomes = match inputs {
        GoldenInputs::Cells(cells) => encode_each(schema, NAME, cells, &limits)?,
        GoldenInputs::Array(raw) => encode_array(schema, raw, &limits)?,
    };
    let mut features = Vec::new();
    for outcome in &outcomes {
        if let Outcome::Inputs(inputs) = outcome {
            features.extend_from_slice(inputs);
        }
    }
    model.check_memory(outcomes.len(), 1)?;
    let outputs = model.outputs(&features, 1);
    let mut outputs = outputs.chunks_exact(model.kind().outputs().max(1));
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
    while let Some(part) = rows.next(PART)? {
        let inputs = part.table.features.chunks_exact(part.table.width.max(1));
        outcomes.extend(inputs.map(|row| Outcome::Inputs(row.to_vec())));
    }
    Ok(outcomes)
}

/// Whether two predictions of the same outputs are equal. The exponential of another version may differ in its last digits.
fn is_same(found: &Answer, expected: &Answer, is_exact: bool) -> bool {
    match (found, expected) {
        (Answer::Value(found), Answer::Value(expected)) if !is_exact => {
            (found - expected).abs() <= 1e-12 * expected.abs()
        }
        _ => found == expected,
    }
}

/// Compares what came of a row with what must come of it.
fn compare(
    model: &Model,
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
                false => is_within(*found, *expected, golden.rtol, golden.atol),
            };
            ensure!(
                found.len() == outputs.len() && found.iter().zip(outputs).all(is_right),
                "its outputs are {found:?}, expected {outputs:?}"
            );
            // Of the outputs that are expected: where two are close, those that were found may make another class.
            let found = model.answer(outputs);
            ensure!(
                is_same(&found, prediction, is_exact),
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
