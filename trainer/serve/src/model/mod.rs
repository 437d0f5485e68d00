//! A model as clients see it: tensors in, tensors out.

mod columns;
mod outputs;

use std::sync::Arc;

use anyhow::Result;
use trainyard_core::metrics::TaskKind;
use trainyard_core::prediction::Prediction;
use trainyard_core::schema::InputKind;
use trainyard_data::{DataError, Limits, RawArray, RowEncoder, Rows, Values};
use trainyard_infer::Model;

use crate::protocol::{
    Datatype, InferRequest, ModelMetadata, OutputTensor, ProtocolError, Tensor, TensorMetadata,
};

pub use columns::refused;
pub(crate) use columns::{EXACT, check_rows};

/// The input of a model that reads arrays or images.
pub const ARRAY: &str = "input";
/// What stands for a request in errors of the data.
const NAME: &str = "request";

/// A version of a model that is served.
pub struct ServedModel {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What predicts.
    pub model: Model,
    reader: Reader,
    limits: Limits,
}

/// How tensors become inputs.
enum Reader {
    /// A tensor for each column.
    Columns(Box<RowEncoder>),
    /// One tensor.
    Array,
}

/// Rows of a request, as the network takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Inputs, row after row.
    pub inputs: Vec<f32>,
    /// How many rows.
    pub rows: usize,
}

impl ServedModel {
    /// Serves a model under a name.
    ///
    /// # Errors
    /// If its columns cannot be read.
    pub fn new(name: &str, version: &str, model: Model, limits: &Limits) -> Result<Arc<Self>> {
        let schema = &model.file.input_schema;
        let reader = match &schema.input {
            InputKind::Columns(_) => Reader::Columns(Box::new(RowEncoder::new(schema, limits)?)),
            InputKind::Array(_) => Reader::Array,
        };
        Ok(Arc::new(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            model,
            reader,
            limits: Limits {
                threads: 1,
                ..limits.clone()
            },
        }))
    }

    /// What the model says of itself.
    pub fn describe(&self, versions: Vec<String>) -> ModelMetadata {
        ModelMetadata {
            name: self.name.clone(),
            versions,
            platform: "trainyard".into(),
            inputs: self.inputs(),
            outputs: outputs::describe(&self.model),
        }
    }

    /// Names of the classes; none for a regression.
    pub fn classes(&self) -> &[String] {
        &self.model.file.output.classes
    }

    fn inputs(&self) -> Vec<TensorMetadata> {
        match &self.model.file.input_schema.input {
            InputKind::Columns(input) => {
                let columns = input.columns.iter();
                let describe = |column: &trainyard_core::schema::Column| TensorMetadata {
                    name: column.name.clone(),
                    datatype: columns::datatype(&column.kind),
                    shape: vec![-1],
                };
                columns.map(describe).collect()
            }
            InputKind::Array(input) => {
                let row = input.shape.iter().map(|d| *d as i64);
                vec![TensorMetadata {
                    name: ARRAY.into(),
                    datatype: self.array_datatype(),
                    shape: std::iter::once(-1).chain(row).collect(),
                }]
            }
        }
    }

    fn array_datatype(&self) -> Datatype {
        match &self.model.file.input_schema.input {
            InputKind::Array(input) if input.dtype == "u1" => Datatype::Uint8,
            _ => Datatype::Fp32,
        }
    }

    /// Name, type and shape of a row of the only input, if there is only one.
    pub fn only_input(&self) -> Option<(&str, Datatype, Vec<u64>)> {
        match &self.model.file.input_schema.input {
            InputKind::Array(input) => Some((ARRAY, self.array_datatype(), input.shape.clone())),
            InputKind::Columns(input) => match &input.columns[..] {
                [column] => Some((&column.name, columns::datatype(&column.kind), Vec::new())),
                _ => None,
            },
        }
    }

    /// The columns that a row of a table has; none for an array.
    pub fn column_names(&self) -> Vec<&str> {
        match &self.model.file.input_schema.input {
            InputKind::Columns(input) => input.columns.iter().map(|c| &*c.name).collect(),
            InputKind::Array(_) => Vec::new(),
        }
    }

    /// The rows of a request, of at most `most`.
    ///
    /// # Errors
    /// If an input is missing, unknown, or of a wrong type or shape: with its name.
    pub fn encode(&self, tensors: &[Tensor], most: usize) -> Result<Encoded, ProtocolError> {
        match &self.reader {
            Reader::Columns(_) => {
                let given = columns::arrange(&self.column_names(), tensors, most)?;
                self.encode_columns(&given)
            }
            Reader::Array => self.encode_array(columns::array(tensors, most)?),
        }
    }

    /// Rows of columns in the order of the schema.
    ///
    /// # Errors
    /// With the column and the row of a value that cannot be encoded.
    pub fn encode_columns(&self, columns: &[Values<'_>]) -> Result<Encoded, ProtocolError> {
        let Reader::Columns(encoder) = &self.reader else {
            return Err(ProtocolError::invalid(format!(
                "the model reads an array, not columns; give its numbers as the input {ARRAY:?}"
            )));
        };
        let inputs = encoder.encode(columns).map_err(refused)?;
        Ok(Encoded {
            inputs,
            rows: columns.first().map_or(0, Values::len),
        })
    }

    /// The rows of a table in CSV, of at most `most`, with a header. Columns that the model does not read are ignored, as
    /// `trainyard predict` does.
    ///
    /// # Errors
    /// With the column and the line of a value that cannot be encoded. Also if a row would be left out, since each wants an answer.
    pub fn encode_csv(&self, csv: &[u8], most: usize) -> Result<Encoded, ProtocolError> {
        let schema = &self.model.file.input_schema;
        let read = || -> Result<_, DataError> {
            let mut rows = Rows::csv(schema, NAME, csv, &[], &self.limits)?;
            rows.next(most + 1)
        };
        let encoded = read().map_err(|error| ProtocolError::invalid(error.to_string()))?;
        let encoded = encoded.unwrap_or_default();
        if let Some(line) = encoded.dropped.first() {
            return Err(ProtocolError::invalid(format!(
                "line {line}: a value is missing, and rows with missing values were left out of training; give it, or leave out the row"
            )));
        }
        columns::check_rows(encoded.table.rows as u64, most)?;
        Ok(Encoded {
            inputs: encoded.table.features,
            rows: encoded.table.rows,
        })
    }

    /// Rows of an array.
    ///
    /// # Errors
    /// If it is not of the model's shape, or a number is not finite.
    pub fn encode_array(&self, raw: RawArray) -> Result<Encoded, ProtocolError> {
        let schema = &self.model.file.input_schema;
        let rows = raw.shape.first().map_or(0, |rows| *rows as usize);
        let mut read = Rows::raw_array(schema, NAME, raw, &self.limits).map_err(refused)?;
        let encoded = read.next(rows.max(1)).map_err(refused)?;
        let table = encoded.map(|encoded| encoded.table).unwrap_or_default();
        Ok(Encoded {
            inputs: table.features,
            rows: table.rows,
        })
    }

    /// What the outputs of rows mean.
    ///
    /// # Errors
    /// If one is no finite number.
    pub fn predictions(&self, outputs: &[f32]) -> Result<Vec<Prediction>, ProtocolError> {
        let rows = outputs.chunks_exact(self.kind().outputs().max(1));
        let predictions: Vec<Prediction> = rows.map(|row| self.model.predict(row)).collect();
        match predictions.iter().position(|p| !p.is_finite()) {
            None => Ok(predictions),
            Some(row) => Err(ProtocolError::invalid(format!(
                "what the model predicts for row {row} (from 0) is no finite number; are its inputs far from those of the \
                 training rows?"
            ))),
        }
    }

    /// The outputs that a request asks for.
    ///
    /// # Errors
    /// If it asks for one that the model does not have.
    pub fn answer(
        &self,
        request: &InferRequest,
        predictions: &[Prediction],
    ) -> Result<Vec<OutputTensor>, ProtocolError> {
        outputs::answer(self.classes(), request, predictions)
    }

    /// What the outputs mean.
    pub fn kind(&self) -> TaskKind {
        self.model.kind()
    }
}

/// The elements of a tensor as an array of NumPy's.
fn raw_array(tensor: &Tensor) -> Result<RawArray, ProtocolError> {
    let dtype = match tensor.data.datatype() {
        Datatype::Bool | Datatype::Uint8 => "u1",
        Datatype::Uint16 => "u2",
        Datatype::Uint32 => "u4",
        Datatype::Uint64 => "u8",
        Datatype::Int8 => "i1",
        Datatype::Int16 => "i2",
        Datatype::Int32 => "i4",
        Datatype::Int64 => "i8",
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 => "f4",
        Datatype::Fp64 => "f8",
        Datatype::Bytes => {
            return Err(ProtocolError::invalid(
                "BYTES are no numbers; send UINT8 or FP32",
            ));
        }
    };
    let mut bytes = Vec::with_capacity(tensor.data.binary_len());
    tensor.data.put_binary(&mut bytes);
    Ok(RawArray {
        dtype: dtype.into(),
        shape: tensor.shape.clone(),
        bytes,
    })
}
