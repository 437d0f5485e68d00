//! How much a request may hold.

/// Bounds of a request. They are enforced while it is read, so that they bound the memory that reading takes beside the body: at
/// worst 12 bytes for each byte of JSON, which lists of small integers need, and 2 KiB for each input. Tensors in binary take as
/// much as their bytes, those of `FP16`, `BF16` and short `BYTES` twice as much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body, decompressed.
    pub body_bytes: usize,
    /// Inputs.
    pub inputs: usize,
    /// Outputs that are asked for.
    pub outputs: usize,
    /// Dimensions of a tensor, and so arrays within each other in `data`.
    pub dimensions: usize,
    /// Elements of all inputs together.
    pub elements: u64,
}

impl Default for Limits {
    /// 64 MiB, as many inputs as 65,536 columns need, 1,024 outputs, 16 dimensions and 64 Mi elements.
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            inputs: 1 << 16,
            outputs: 1 << 10,
            dimensions: 16,
            elements: 64 << 20,
        }
    }
}
