//! SHA-256 digests as lower-case hex.

use sha2::{Digest, Sha256};

/// SHA-256 of `bytes`, as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hasher = Sha256Hex::new();
    hasher.update(bytes);
    hasher.finish()
}

/// A digest that is fed piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Sha256Hex(Sha256);

impl Sha256Hex {
    /// A digest of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added, as 64 lower-case hex digits.
    pub fn finish(self) -> String {
        base16ct::lower::encode_string(&self.0.finalize())
    }
}
