//! `modelSha256`: the digest that names a model's values.

use base16ct::lower::encode_string;
use sha2::{Digest, Sha256};

use super::{Layout, LayoutError, Placed};

/// First bytes of the digest's input: what it is, and the version of its framing.
const MAGIC: &[u8] = b"trainyard-model-v1\n";

/// The digest of a model, over tensors `(name, shape, little-endian F32 bytes)` in strictly ascending
/// (bytewise) name order. Every variable-length part is preceded by its length, so no two models
/// have one input. In Python, from a `dict` of names to NumPy arrays:
///
/// ```python
/// import hashlib, struct
///
/// def model_sha256(tensors):
///     sha = hashlib.sha256(b"trainyard-model-v1\n")
///     for name, array in sorted((name.encode(), array) for name, array in tensors.items()):
///         data = array.astype("<f4").tobytes()
///         sha.update(struct.pack("<I", len(name)) + name)
///         sha.update(struct.pack("<I", 3) + b"F32")
///         sha.update(struct.pack("<I", array.ndim) + struct.pack(f"<{array.ndim}Q", *array.shape))
///         sha.update(struct.pack("<Q", len(data)) + data)
///     return sha.hexdigest()
/// ```
///
/// # Errors
/// If names are not ascending, or a tensor's bytes are not four for each element.
pub fn model_sha256<'a, I>(tensors: I) -> Result<String, LayoutError>
where
    I: IntoIterator<Item = (&'a str, &'a [u64], &'a [u8])>,
{
    let mut sha = Sha256::new_with_prefix(MAGIC);
    let mut previous = None;
    for (name, shape, bytes) in tensors {
        if previous.is_some_and(|previous| previous >= name) {
            return Err(LayoutError::Order(name.to_owned()));
        }
        let needed = shape
            .iter()
            .try_fold(4_u64, |len, &dim| len.checked_mul(dim));
        if needed != Some(bytes.len() as u64) {
            return Err(LayoutError::Bytes {
                name: name.to_owned(),
                shape: shape.to_vec(),
                bytes: bytes.len(),
            });
        }
        frame(&mut sha, name, shape, bytes.len() as u64);
        sha.update(bytes);
        previous = Some(name);
    }
    Ok(encode_string(&sha.finalize()))
}

impl Layout {
    /// Names the layout itself: SHA-256 (lower-case hexadecimal) over the names, shapes and offsets.
    pub fn digest(&self) -> String {
        let mut sha = Sha256::new();
        for Placed { param, offset, .. } in self.params() {
            sha.update(format!("{}\0{:?}\0{offset}\n", param.name, param.shape));
        }
        encode_string(&sha.finalize())
    }
}

/// [`model_sha256`] of an arena that comes in pieces, in order.
#[derive(Clone, Debug)]
pub struct ModelHasher<'a> {
    layout: &'a Layout,
    sha: Sha256,
    /// Floats of the arena taken so far.
    at: usize,
    /// The parameter that holds float `at` or follows it.
    param: usize,
}

impl<'a> ModelHasher<'a> {
    /// A hasher that awaits the arena's first float.
    pub fn new(layout: &'a Layout) -> Self {
        ModelHasher {
            layout,
            sha: Sha256::new_with_prefix(MAGIC),
            at: 0,
            param: 0,
        }
    }

    /// Takes the arena's next floats, padding included, in pieces of any length.
    ///
    /// # Errors
    /// If the arena has fewer left; nothing is taken then.
    pub fn update(&mut self, mut floats: &[f32]) -> Result<(), LayoutError> {
        let end = self.at + floats.len();
        if end > self.layout.len {
            return Err(LayoutError::Length {
                expected: self.layout.len,
                actual: end,
            });
        }
        while let Some(placed) = self.layout.params.get(self.param) {
            let Placed { param, offset, len } = placed;
            let skipped = offset.saturating_sub(self.at).min(floats.len());
            floats = &floats[skipped..];
            self.at += skipped;
            if floats.is_empty() {
                break;
            }
            if self.at == *offset {
                frame(&mut self.sha, &param.name, &param.shape, 4 * *len as u64);
            }
            let (taken, rest) = floats.split_at(floats.len().min(offset + len - self.at));
            update_floats(&mut self.sha, taken);
            self.at += taken.len();
            floats = rest;
            if self.at < offset + len {
                break;
            }
            self.param += 1;
        }
        self.at = end;
        Ok(())
    }

    /// The digest, in lower-case hexadecimal.
    ///
    /// # Errors
    /// If the arena is not complete.
    pub fn finish(self) -> Result<String, LayoutError> {
        if self.at != self.layout.len {
            return Err(LayoutError::Length {
                expected: self.layout.len,
                actual: self.at,
            });
        }
        Ok(encode_string(&self.sha.finalize()))
    }
}

/// What precedes a tensor's bytes.
fn frame(sha: &mut Sha256, name: &str, shape: &[u64], bytes: u64) {
    for text in [name, "F32"] {
        sha.update((text.len() as u32).to_le_bytes());
        sha.update(text);
    }
    sha.update((shape.len() as u32).to_le_bytes());
    for dim in shape {
        sha.update(dim.to_le_bytes());
    }
    sha.update(bytes.to_le_bytes());
}

fn update_floats(sha: &mut Sha256, floats: &[f32]) {
    let mut buffer = [0; 4096];
    for part in floats.chunks(buffer.len() / 4) {
        let bytes = &mut buffer[..4 * part.len()];
        for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(part) {
            *bytes = value.to_le_bytes();
        }
        sha.update(bytes);
    }
}
