//! Tensors become the columns of a model.

use std::collections::HashMap;

use trainyard_core::schema::ColumnKind;
use trainyard_data::{DataError, RawArray, Values};

use super::{ARRAY, raw_array};
use crate::protocol::{Data, Datatype, ProtocolError, Tensor, quoted};

/// Integers up to which every one has its own number of double precision.
pub(crate) const EXACT: u64 = 1 << 53;

/// The type in which a column is described. Any other is read too, if its values can be.
pub(super) fn datatype(kind: &ColumnKind) -> Datatype {
    match kind {
        ColumnKind::Numeric { .. } => Datatype::Fp32,
        ColumnKind::Categorical {
            numeric: true,
            categories,
            ..
        } if categories.iter().all(|name| name.parse::<i64>().is_ok()) => Datatype::Int64,
        ColumnKind::Categorical { .. }
        | ColumnKind::Boolean { .. }
        | ColumnKind::Ordinal { .. }
        | ColumnKind::Date { .. } => Datatype::Bytes,
    }
}

/// The tensors of the columns `names`, in their order.
pub(super) fn arrange<'a>(
    names: &[&str],
    tensors: &'a [Tensor],
    most: usize,
) -> Result<Vec<Values<'a>>, ProtocolError> {
    let mut by_name: HashMap<&str, &Tensor> = tensors.iter().map(|t| (&*t.name, t)).collect();
    let mut arranged = Vec::with_capacity(names.len());
    let mut rows = None;
    for name in names {
        let Some(tensor) = by_name.remove(name) else {
            return Err(ProtocolError::invalid(format!(
                "input {name:?} is missing; the model reads {}",
                few(names)
            )));
        };
        let found = row_count(tensor, most)?;
        let expected = *rows.get_or_insert(found);
        if found != expected {
            return Err(ProtocolError::invalid(format!(
                "input {name:?} has {found} rows, others have {expected}; give one value for each row"
            )));
        }
        arranged.push(values(&tensor.data));
    }
    // Of several, the first of the request.
    match tensors
        .iter()
        .find(|tensor| by_name.contains_key(&*tensor.name))
    {
        None => Ok(arranged),
        Some(other) => Err(ProtocolError::invalid(format!(
            "input {} is none of the model's, which are {}; leave it out",
            quoted(&other.name),
            few(names)
        ))),
    }
}

/// The only tensor of a model that reads an array.
pub(super) fn array(tensors: &[Tensor], most: usize) -> Result<RawArray, ProtocolError> {
    let (first, others) = match tensors {
        [] => {
            return Err(ProtocolError::invalid(format!(
                "input {ARRAY:?} is missing; it is what the model reads"
            )));
        }
        [first, others @ ..] => (first, others),
    };
    let unknown = std::iter::once(first)
        .chain(others)
        .find(|t| t.name != ARRAY);
    if let Some(other) = unknown {
        return Err(ProtocolError::invalid(format!(
            "input {} is none of the model's, which is {ARRAY:?}",
            quoted(&other.name)
        )));
    }
    let rows = first.shape.first().copied().unwrap_or(0);
    check_rows(rows, most)?;
    raw_array(first).map_err(|error| error.at(format_args!("input {ARRAY:?}")))
}

/// The rows of a column `[rows]`, or `[rows, 1]`.
fn row_count(tensor: &Tensor, most: usize) -> Result<usize, ProtocolError> {
    let rows = match tensor.shape[..] {
        [rows] | [rows, 1] => rows,
        _ => {
            return Err(ProtocolError::invalid(format!(
                "input {:?} has the shape {:?}, expected [rows] or [rows, 1]",
                tensor.name, tensor.shape
            )));
        }
    };
    check_rows(rows, most).map_err(|error| error.at(format_args!("input {:?}", tensor.name)))
}

pub(crate) fn check_rows(rows: u64, most: usize) -> Result<usize, ProtocolError> {
    match usize::try_from(rows) {
        Ok(0) => Err(ProtocolError::invalid("there is no row; give at least one")),
        Ok(rows) if rows <= most => Ok(rows),
        _ => Err(ProtocolError::invalid(format!(
            "{rows} rows are more than the {most} that a request may have; send them in several"
        ))),
    }
}

fn values(data: &Data) -> Values<'_> {
    match data {
        Data::Bool(values) => numbers(values, |value| f64::from(u8::from(value))),
        Data::Uint8(values) => numbers(values, f64::from),
        Data::Uint16(values) => numbers(values, f64::from),
        Data::Uint32(values) => numbers(values, f64::from),
        Data::Int8(values) => numbers(values, f64::from),
        Data::Int16(values) => numbers(values, f64::from),
        Data::Int32(values) => numbers(values, f64::from),
        Data::Int64(values) => integers(values, |v| v.unsigned_abs() <= EXACT, |v| v as f64),
        Data::Uint64(values) => integers(values, |v| v <= EXACT, |v| v as f64),
        Data::Fp32(values) => numbers(values, decimal),
        Data::Fp64(values) => Values::Numbers(values.into()),
        Data::Bytes(values) => Values::Texts(values.iter().map(Into::into).collect()),
    }
}

fn numbers<T: Copy>(values: &[T], number: impl Fn(T) -> f64) -> Values<'static> {
    Values::Numbers(values.iter().map(|value| number(*value)).collect())
}

/// Integers are numbers, or texts where a number of double precision would not tell two of them apart.
fn integers<T: Copy + ToString>(
    values: &[T],
    is_exact: impl Fn(T) -> bool,
    number: impl Fn(T) -> f64,
) -> Values<'static> {
    match values.iter().all(|value| is_exact(*value)) {
        true => numbers(values, number),
        false => Values::Texts(
            values
                .iter()
                .map(|value| value.to_string().into_bytes().into())
                .collect(),
        ),
    }
}

/// The shortest decimal that stands for a number of single precision, such as 17.99: it is what the client meant, and what
/// a file would say.
fn decimal(value: f32) -> f64 {
    match value.fract() == 0.0 || !value.is_finite() {
        true => value.into(),
        false => value.to_string().parse().unwrap_or(value.into()),
    }
}

/// An error of the data, for a client.
pub fn refused(error: DataError) -> ProtocolError {
    let mut message = String::new();
    if let Some(column) = &error.column {
        message += &format!("input {column:?}: ");
    }
    if let Some(row) = error.line {
        message += &format!("row {row} (from 0): ");
    }
    message += &error.problem;
    if !error.remedy.is_empty() {
        message += &format!("; {}", error.remedy);
    }
    ProtocolError::invalid(message)
}

/// The first few of several names.
fn few(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect();
    if names.len() > SHOWN {
        shown.push(format!("and {} more", names.len() - SHOWN));
    }
    shown.join(", ")
}
