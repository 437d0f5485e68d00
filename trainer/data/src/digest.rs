//! The digest that tells whether two workers hold the same data.

use sha2::{Digest, Sha256};

use trainyard_core::schema::{InputKind, InputSchema};

use crate::table::Table;

/// SHA-256 in hex over a version line, the [schema](schema_json) as JSON, and each table: its rows and
/// width as little-endian u64, then features, labels and, if there are any, the line
/// `weights` and the weights, as little-endian f32.
pub(crate) fn digest(schema_json: &[u8], tables: &[&Table]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"trainyard-data/1\n");
    hash.update((schema_json.len() as u64).to_le_bytes());
    hash.update(schema_json);
    for table in tables {
        hash.update((table.rows as u64).to_le_bytes());
        hash.update((table.width as u64).to_le_bytes());
        floats(&mut hash, &table.features);
        floats(&mut hash, &table.labels);
        if !table.weights.is_empty() {
            hash.update(b"weights\n");
            floats(&mut hash, &table.weights);
        }
    }
    base16ct::lower::encode_string(&hash.finalize())
}

fn floats(hash: &mut Sha256, values: &[f32]) {
    let mut buffer = [0u8; 4096];
    for block in values.chunks(buffer.len() / 4) {
        for (bytes, value) in buffer.chunks_exact_mut(4).zip(block) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        hash.update(&buffer[..block.len() * 4]);
    }
}

/// The schema's JSON with fields in the order of their declaration. A digest depends on it: the order
/// must stay. `naIsMissing` is left out, which older versions do not have: data in which it makes no
/// difference keep their digest.
pub(crate) fn schema_json(schema: &InputSchema) -> Result<Vec<u8>, serde_json::Error> {
    let mut schema = schema.clone();
    if let InputKind::Columns(input) = &mut schema.input {
        input.na_is_missing = false;
    }
    serde_json::to_vec(&schema)
}
