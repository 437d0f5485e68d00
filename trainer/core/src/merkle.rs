//! The Merkle tree of RFC 6962, section 2.1, built from parts.
//!
//! A leaf is `SHA-256(0x00 || bytes)`, a node `SHA-256(0x01 || left || right)`, and a tree of `n`
//! leaves is split after the largest power of two smaller than `n`. So every aligned block of
//! leaves, `k 2^h .. (k + 1) 2^h`, is a subtree of every tree that is long enough to have it. Who
//! knows the leaves of one range alone reduces them to the largest such blocks
//! ([`Subtrees`]: at most two of each height) without knowing how long the tree is. Whoever has those
//! of all ranges gets the root from them, and it is the same wherever the leaves were cut.

use std::fmt;
use std::ops::Range;

use base16ct::lower;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// First byte of what makes a leaf.
const LEAF: [u8; 1] = [0];
/// First byte of what makes a node.
const NODE: [u8; 1] = [1];

/// A SHA-256 digest. Its text, in JSON as well, is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn node(left: &Digest, right: &Digest) -> Self {
        let sha = Sha256::new_with_prefix(NODE)
            .chain_update(left.0)
            .chain_update(right.0);
        Digest(sha.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lower::encode_string(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        match lower::decode(&text, &mut bytes).map(<[u8]>::len) {
            Ok(32) => Ok(Digest(bytes)),
            _ => Err(D::Error::custom(
                "a SHA-256 digest has 64 lower-case hexadecimal digits",
            )),
        }
    }
}

/// A leaf that is digested piece by piece.
#[derive(Clone, Debug)]
pub struct Leaf(Sha256);

impl Leaf {
    /// A leaf of no bytes yet.
    #[allow(clippy::new_without_default, reason = "a leaf is begun, not defaulted")]
    pub fn new() -> Self {
        Leaf(Sha256::new_with_prefix(LEAF))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of the leaf.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Heights of the subtrees that cover the leaves of a range, from left to right: the fewest, so each
/// is the largest aligned block that begins where the one before it ends. At most two for each
/// height.
pub fn cover(leaves: Range<u64>) -> Vec<u32> {
    let mut heights = Vec::new();
    let mut at = leaves.start;
    while at < leaves.end {
        let height = at.trailing_zeros().min((leaves.end - at).ilog2());
        heights.push(height);
        at += 1 << height;
    }
    heights
}

/// The largest subtrees that cover a range of leaves, which grows at its right end.
#[derive(Clone, Debug)]
pub struct Subtrees {
    /// The leaf after the last.
    end: u64,
    /// Height and digest of each, from left to right.
    stack: Vec<(u32, Digest)>,
}

impl Subtrees {
    /// Those of an empty range that begins at this leaf, counted from 0.
    pub fn starting_at(leaf: u64) -> Self {
        Subtrees {
            end: leaf,
            stack: Vec::new(),
        }
    }

    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Digest) {
        self.add(0, leaf);
    }

    /// Adds the subtrees that [`cover`] the next `leaves` leaves; `None` if there are more or fewer.
    pub fn append(&mut self, leaves: u64, subtrees: &[Digest]) -> Option<()> {
        let heights = cover(self.end..self.end.checked_add(leaves)?);
        if heights.len() != subtrees.len() {
            return None;
        }
        for (height, digest) in heights.into_iter().zip(subtrees) {
            self.add(height, *digest);
        }
        Some(())
    }

    fn add(&mut self, mut height: u32, mut digest: Digest) {
        let mut start = self.end;
        self.end += 1 << height;
        // Two of one height are siblings if the left one's number among its equals is even.
        while let Some((left_height, left)) = self.stack.last()
            && *left_height == height
            && (start >> height) % 2 == 1
        {
            digest = Digest::node(left, &digest);
            start -= 1 << height;
            height += 1;
            self.stack.pop();
        }
        self.stack.push((height, digest));
    }

    /// Their digests, from left to right.
    pub fn digests(self) -> Vec<Digest> {
        self.stack.into_iter().map(|(_, digest)| digest).collect()
    }

    /// The root of the tree of all leaves. It is that of RFC 6962 if the range began at leaf 0.
    pub fn root(self) -> Digest {
        let digests = self.stack.into_iter().rev().map(|(_, digest)| digest);
        digests
            .reduce(|right, left| Digest::node(&left, &right))
            .unwrap_or_else(|| Digest(Sha256::digest([]).into()))
    }
}
