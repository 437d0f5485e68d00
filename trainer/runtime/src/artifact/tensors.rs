//! Safetensors files of f32 tensors.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};

/// A tensor to be written.
pub struct Named<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape, outermost dimension first.
    pub shape: &'a [u64],
    /// Its values, row by row.
    pub values: &'a [f32],
}

/// Writes tensors one after the other; the same ones always give the same bytes.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, metadata: &[(&str, &str)], tensors: &[Named<'_>]) -> Result<()> {
    let mut infos = Vec::with_capacity(tensors.len());
    let mut at = 0;
    for tensor in tensors {
        let end = at + size_of_val(tensor.values);
        let shape = tensor.shape.iter().map(|&d| d as usize).collect();
        infos.push((
            tensor.name.to_owned(),
            TensorInfo {
                dtype: Dtype::F32,
                shape,
                data_offsets: (at, end),
            },
        ));
        at = end;
    }
    let metadata: HashMap<_, _> = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let metadata = Metadata::new((!metadata.is_empty()).then_some(metadata), infos)?;
    // A value's keys are sorted; those of a hash map would come in any order.
    let mut header = serde_json::to_vec(&serde_json::to_value(&metadata)?)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for tensor in tensors {
        for values in tensor.values.chunks(4096) {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            file.write_all(&bytes)?;
        }
    }
    file.into_inner().map_err(|error| error.into_error())?;
    Ok(())
}

/// A tensor that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its shape, outermost dimension first.
    pub shape: Vec<u64>,
    /// Its values, row by row.
    pub values: Vec<f32>,
}

/// All tensors of a file by name, and its metadata.
pub struct Contents {
    /// The tensors.
    pub tensors: HashMap<String, Tensor>,
    /// The file's own metadata.
    pub metadata: HashMap<String, String>,
}

/// Reads the bytes of a safetensors file that holds f32 tensors only.
///
/// # Errors
/// If it is no such file.
pub fn read(bytes: &[u8]) -> Result<Contents> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).context("it is no safetensors file")?;
    let file = SafeTensors::deserialize(bytes).context("it is no safetensors file")?;
    let mut tensors = HashMap::new();
    for (name, view) in file.iter() {
        ensure!(
            view.dtype() == Dtype::F32,
            "tensor {name} is {:?}, not f32",
            view.dtype()
        );
        let (values, _) = view.data().as_chunks::<4>();
        let values = values
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let shape = view.shape().iter().map(|&d| d as u64).collect();
        tensors.insert(name.to_owned(), Tensor { shape, values });
    }
    Ok(Contents {
        tensors,
        metadata: metadata.metadata().clone().unwrap_or_default(),
    })
}
