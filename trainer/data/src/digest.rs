//! The digest that tells whether two workers hold the same data.

use sha2::{Digest, Sha256};

use trainyard_core::schema::{InputKind, InputSchema};

use crate::table::Table;

/// SHA-256 in hex over a version line, the schema as JSON, and each table: its rows and width as little-endian u64, then
/// features, labels and, if there are any, the line `weights` and the weights, as little-endian f32. The parts come one
/// after the other, so that a table can be hashed while it is made.
pub(crate) struct TableDigest(Sha256);

impl TableDigest {
    /// Of a [schema](schema_json) and no table yet.
    pub(crate) fn new(schema_json: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"trainyard-data/1\n");
        hash.update((schema_json.len() as u64).to_le_bytes());
        hash.update(schema_json);
        Self(hash)
    }

    /// The next table, whose features follow.
    pub(crate) fn begin(&mut self, rows: usize, width: usize) {
        self.0.update((rows as u64).to_le_bytes());
        self.0.update((width as u64).to_le_bytes());
    }

    /// Features that come next.
    pub(crate) fn features(&mut self, values: &[f32]) {
        #[cfg(target_endian = "little")]
        self.0.update(bytemuck::cast_slice::<f32, u8>(values));
        #[cfg(target_endian = "big")]
        values
            .iter()
            .for_each(|value| self.0.update(value.to_le_bytes()));
    }

    /// The rest of a table.
    pub(crate) fn end(&mut self, table: &Table) {
        self.features(&table.labels);
        if !table.weights.is_empty() {
            self.0.update(b"weights\n");
            self.features(&table.weights);
        }
    }

    /// A whole table.
    pub(crate) fn table(&mut self, table: &Table) {
        self.begin(table.rows, table.width);
        self.features(&table.features);
        self.end(table);
    }

    /// In hex.
    pub(crate) fn finish(self) -> String {
        base16ct::lower::encode_string(&self.0.finalize())
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
