//! Rows as objects of JSON, or as arrays of numbers.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use trainyard_core::schema::InputKind;
use trainyard_data::{RawArray, Values};

use crate::model::{EXACT, Encoded, ServedModel};
use crate::options::Limits;
use crate::protocol::{Data, ProtocolError, decode_numbers, quoted};

/// The rows of a body, and whether it is one row by itself.
pub(super) fn encode(
    model: &ServedModel,
    body: &[u8],
    limits: &Limits,
) -> Result<(Encoded, bool), ProtocolError> {
    match &model.model.file.input_schema.input {
        InputKind::Columns(_) => {
            let (rows, is_one) = read(body, limits.rows)?;
            let columns = arrange(model, &rows)?;
            Ok((model.encode_columns(&columns)?, is_one))
        }
        InputKind::Array(input) => encode_array(model, body, &input.shape, limits),
    }
}

/// An array of the shape of a row, or an array of such arrays.
fn encode_array(
    model: &ServedModel,
    body: &[u8],
    row: &[u64],
    limits: &Limits,
) -> Result<(Encoded, bool), ProtocolError> {
    let (lengths, numbers) = decode_numbers(body, &limits.protocol())?;
    let is_one = lengths.len() == row.len();
    let shape: Vec<u64> = match is_one {
        true => std::iter::once(1).chain(lengths).collect(),
        false => lengths,
    };
    crate::model::check_rows(shape.first().copied().unwrap_or(0), limits.rows)?;
    let mut bytes = Vec::new();
    Data::Fp64(numbers).put_binary(&mut bytes);
    let raw = RawArray {
        dtype: "f8".into(),
        shape,
        bytes,
    };
    Ok((model.encode_array(raw)?, is_one))
}

/// A row: columns and their values, in the order of the text.
struct Row<'a>(Vec<(Cow<'a, str>, Cell<'a>)>);

/// A value.
#[derive(Clone, Debug)]
enum Cell<'a> {
    Missing,
    Number(f64),
    Text(Cow<'a, str>),
}

fn read(body: &[u8], most: usize) -> Result<(Vec<Row<'_>>, bool), ProtocolError> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let is_one = first == Some(&b'{');
    let rows = match is_one {
        true => serde_json::from_slice(body).map(|row| vec![row]),
        false => serde_json::from_slice(body),
    };
    let rows: Vec<Row<'_>> = rows.map_err(|error| {
        ProtocolError::invalid(format!(
            "the rows cannot be read: {error}; send an object with a value for each column, or an array of such objects"
        ))
    })?;
    crate::model::check_rows(rows.len() as u64, most)?;
    Ok((rows, is_one))
}

/// The columns of the model, in the order of its schema.
fn arrange<'a>(model: &ServedModel, rows: &'a [Row<'a>]) -> Result<Vec<Values<'a>>, ProtocolError> {
    let names = model.column_names();
    let label = &model.model.file.input_schema.label.name;
    for (place, row) in rows.iter().enumerate() {
        let is_other = |name: &str| !names.contains(&name) && name != label;
        // Where there are as many as there should be, a missing one tells of another.
        if row.0.len() > names.len()
            && let Some((name, _)) = row.0.iter().find(|(name, _)| is_other(name))
        {
            return Err(ProtocolError::invalid(format!(
                "row {place} (from 0): column {} is none of the model's; leave it out",
                quoted(name)
            )));
        }
    }
    let columns = names.iter().enumerate().map(|(column, name)| {
        let cell = |(place, row): (usize, &'a Row<'a>)| {
            row.find(column, name).ok_or_else(|| {
                let other = row.0.iter().find(|(name, _)| !names.contains(&&**name));
                let other = other.map_or(String::new(), |(other, _)| {
                    format!(", and {} is none of the model's", quoted(other))
                });
                ProtocolError::invalid(format!(
                    "row {place} (from 0): column {name:?} is missing{other}; give it, or null where its value is missing"
                ))
            })
        };
        let cells = rows.iter().enumerate().map(cell);
        let cells: Vec<&Cell<'a>> = cells.collect::<Result<_, _>>()?;
        values(&cells).ok_or_else(|| {
            ProtocolError::invalid(format!(
                "column {name:?} has numbers and texts; give values of one type"
            ))
        })
    });
    columns.collect()
}

/// The values of a column; none if they are of several types.
fn values<'a>(cells: &[&'a Cell<'a>]) -> Option<Values<'a>> {
    let is_text = |cell: &&Cell<'_>| matches!(cell, Cell::Text(_));
    match cells.iter().any(is_text) {
        false => {
            let number = |cell: &&Cell<'_>| match cell {
                Cell::Number(number) => *number,
                Cell::Missing | Cell::Text(_) => f64::NAN,
            };
            Some(Values::Numbers(cells.iter().map(number).collect()))
        }
        true => {
            let text = |cell: &&'a Cell<'a>| match cell {
                Cell::Text(text) => Some(text.as_bytes().into()),
                Cell::Missing => Some(Cow::from(&b""[..])),
                Cell::Number(_) => None,
            };
            let texts = cells.iter().map(text);
            Some(Values::Texts(texts.collect::<Option<_>>()?))
        }
    }
}

impl<'a> Row<'a> {
    /// The value of a column, which mostly stands where the schema has it.
    fn find(&self, place: usize, name: &str) -> Option<&Cell<'a>> {
        let at_place = self.0.get(place).filter(|(found, _)| found == name);
        let found = at_place.or_else(|| self.0.iter().find(|(found, _)| found == name));
        found.map(|(_, cell)| cell)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Row<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Row<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
                let mut columns: Vec<(Cow<'de, str>, Cell<'de>)> = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some((Name(name), cell)) = map.next_entry()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!(
                            "column {} is given twice",
                            quoted(&name)
                        )));
                    }
                    columns.push((name, cell));
                }
                Ok(Row(columns))
            }
        }
        deserializer.deserialize_map(Columns)
    }
}

/// A text that is borrowed where it stands as it is.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cell::deserialize(deserializer)? {
            Cell::Text(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("a column's name is a text")),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Cell<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text, true, false or null")
            }

            fn visit_unit<E: Error>(self) -> Result<Cell<'de>, E> {
                Ok(Cell::Missing)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Cell<'de>, E> {
                Ok(Cell::Number(value.into()))
            }

            // An integer that double precision would round is taken as it is written.
            fn visit_i64<E: Error>(self, value: i64) -> Result<Cell<'de>, E> {
                Ok(match value.unsigned_abs() <= EXACT {
                    true => Cell::Number(value as f64),
                    false => Cell::Text(value.to_string().into()),
                })
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Cell<'de>, E> {
                Ok(match value <= EXACT {
                    true => Cell::Number(value as f64),
                    false => Cell::Text(value.to_string().into()),
                })
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Cell<'de>, E> {
                Ok(Cell::Number(value))
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cell<'de>, E> {
                Ok(Cell::Text(text.into()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Cell<'de>, E> {
                Ok(Cell::Text(text.to_owned().into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
