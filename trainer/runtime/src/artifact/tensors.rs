//! Safetensors files of f32 tensors.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use trainyard_files::open_regular;

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

/// The longest header that is read, in bytes. Those of the largest models have tens of thousands.
const HEADER_LIMIT: u64 = 1 << 20;

/// A safetensors file of f32 tensors, of which the header was read and found to describe the file. The
/// tensors are read one after the other, so that what is in memory is what the caller asks for.
pub struct Reader {
    file: BufReader<File>,
    header: Metadata,
    /// Names in the order of the file.
    names: Vec<String>,
    /// How many of them were read.
    read: usize,
}

impl Reader {
    /// Opens a file that a stranger may have written.
    ///
    /// # Errors
    /// If it is no such file, or is not as long as its header says.
    pub fn open(path: &Path) -> Result<Self> {
        const NONE: &str = "it is no safetensors file";
        let file = open_regular(path)?;
        let bytes = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let mut length = [0; 8];
        file.read_exact(&mut length).context(NONE)?;
        let length = u64::from_le_bytes(length);
        ensure!(
            length <= HEADER_LIMIT.min(bytes),
            "it is no safetensors file: its header claims {length} bytes"
        );
        let mut json = vec![0; length as usize];
        file.read_exact(&mut json).context(NONE)?;
        // This checks that the tensors lie one behind the other, and that none overflows.
        let header: Metadata = serde_json::from_slice(&json).context(NONE)?;
        let (expected, found) = (header.data_len() as u64, bytes - 8 - length);
        ensure!(
            expected == found,
            "its header gives the tensors {expected} bytes, and it has {found}"
        );
        let names = header.offset_keys();
        let mut infos = names.iter().filter_map(|name| header.info(name));
        if let Some(other) = infos.find(|info| info.dtype != Dtype::F32) {
            bail!("a tensor is {:?}, not f32", other.dtype);
        }
        Ok(Reader {
            file,
            header,
            names,
            read: 0,
        })
    }

    /// Names of all tensors, in the order of the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<u64>> {
        let info = self.header.info(name)?;
        Some(info.shape.iter().map(|&d| d as u64).collect())
    }

    /// An entry of the file's own metadata.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        let entries = self.header.metadata().as_ref()?;
        entries.get(name).map(String::as_str)
    }

    /// The name of the tensor that comes next.
    pub fn next_name(&self) -> Option<&str> {
        self.names.get(self.read).map(String::as_str)
    }

    /// Reads the tensor that comes next into `values`, row by row.
    ///
    /// # Errors
    /// If `values` has another length, there is none, or the file cannot be read.
    pub fn read_next(&mut self, values: &mut [f32]) -> Result<()> {
        let info = self
            .next_name()
            .and_then(|name| self.header.info(name))
            .context("there is no further tensor")?;
        let (begin, end) = info.data_offsets;
        ensure!(
            end - begin == size_of_val(values),
            "a tensor of {} bytes was to be read as {}",
            end - begin,
            size_of_val(values)
        );
        // As they are in memory: the crate of the checkpoints is for little-endian machines only.
        self.file.read_exact(bytemuck::cast_slice_mut(values))?;
        self.read += 1;
        Ok(())
    }
}
