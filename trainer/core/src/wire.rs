//! The wire format: one fixed header a frame, raw chunk bytes or JSON behind it.
//!
//! # Header
//! 68 bytes, little endian:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..4 | magic | `TRYD` |
//! | 4 | version | [`VERSION`] |
//! | 5 | kind | [`Kind`] |
//! | 6 | encoding | of the payload of a push or param: 0, f32 |
//! | 7 | flags | none defined |
//! | 8..16 | job id | |
//! | 16..20 | generation | |
//! | 20..24 | payload length | in bytes |
//! | 24..32 | incarnation | of the sender: which start of the process this is |
//! | 32..40 | step | of a push; of a param its version |
//! | 40..44 | node | of a push |
//! | 44..48 | chunk | of a push or param |
//! | 48..56 | loss | of a push: f64, summed over its rows |
//! | 56..60 | rows | of a push |
//! | 60..64 | payload checksum | CRC-32 (IEEE 802.3) of the payload; of none, 0 |
//! | 64..68 | header checksum | CRC-32 of bytes 0..64 |
//!
//! A field that a kind has no use for is 0, and a header that says otherwise is refused: each
//! accepted header has exactly one encoding, and new meanings can be given to old fields without
//! an old peer misreading them.
//!
//! The checksums are against damage, not against malice: who speaks is proved when a connection is made.
//!
//! The module does no I/O. Payload lengths are checked against bounds before anyone allocates.

mod error;
mod stream;

pub use error::{Allowed, WireError};
pub use stream::{ControlDecoder, encode_control};

use crate::round::Tally;
use crate::tree::Node;
use std::cmp::Ordering;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 68;
/// Bytes of a header that its own checksum covers.
const CHECKED: usize = 64;
/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"TRYD";
/// The version of this format. A peer of another version is refused.
pub const VERSION: u8 = 2;
/// The most payload bytes of a [`Body::Push`] or [`Body::Param`]: 65,536 floats.
pub const MAX_CHUNK_BYTES: u32 = 4 * 65_536;
/// The most bytes of a payload of JSON, whatever the [`Limits`] say.
pub const MAX_CONTROL_BYTES: u32 = 4 << 20;

#[cfg(target_endian = "big")]
compile_error!("chunks travel as little-endian floats and are viewed in place");

/// What a frame is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first frame of a connection, from who opens it: who speaks. JSON payload.
    Hello = 1,
    /// Gradients of one chunk, summed over the leaves of one node. Worker to server.
    Push = 2,
    /// Parameters of one chunk. Server to worker.
    Param = 3,
    /// A message of the control stream. JSON payload.
    Control = 4,
    /// The last frame of a connection that is closed on purpose. No payload.
    Bye = 5,
    /// The answer to a hello: that its sender belongs to the job, and what the other side is to prove
    /// the same with. JSON payload.
    Challenge = 6,
    /// The answer to a challenge. JSON payload.
    Proof = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [
            Kind::Hello,
            Kind::Push,
            Kind::Param,
            Kind::Control,
            Kind::Bye,
            Kind::Challenge,
            Kind::Proof,
        ]
        .into_iter()
        .find(|&kind| kind as u8 == byte)
    }
}

/// The part of a header that depends on the kind. `len` is the payload's length in bytes.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Body {
    /// See [`Kind::Hello`].
    Hello {
        /// Bytes of JSON.
        len: u32,
    },
    /// See [`Kind::Push`].
    Push {
        /// The step the gradients belong to.
        step: u64,
        /// The node of the reduction tree; whether it is in the job's tree is not checked here.
        node: Node,
        /// The index of the chunk in the arena; its range is not checked here.
        chunk: u32,
        /// Bytes of floats: a positive multiple of 4, at most [`MAX_CHUNK_BYTES`].
        len: u32,
        /// Rows that the node stands for.
        rows: u32,
        /// Loss summed over those rows; may be NaN or infinite.
        loss: f64,
    },
    /// See [`Kind::Param`].
    Param {
        /// The number of steps applied to these parameters.
        version: u64,
        /// The index of the chunk in the arena; its range is not checked here.
        chunk: u32,
        /// As in [`Body::Push`].
        len: u32,
    },
    /// See [`Kind::Control`].
    Control {
        /// Bytes of JSON.
        len: u32,
    },
    /// See [`Kind::Bye`].
    Bye,
    /// See [`Kind::Challenge`].
    Challenge {
        /// Bytes of JSON.
        len: u32,
    },
    /// See [`Kind::Proof`].
    Proof {
        /// Bytes of JSON.
        len: u32,
    },
}

/// The header of a frame.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Header {
    /// The job; frames of another job are not for us.
    pub job: u64,
    /// The generation of the sender. Nothing of an older generation is accepted by anyone.
    pub generation: u32,
    /// Which start of the sending process this is, so that a restarted peer is told from its
    /// predecessor.
    pub incarnation: u64,
    /// [`checksum`] of the payload.
    pub payload: u32,
    /// What the frame carries.
    pub body: Body,
}

/// What a receiver has to do with a frame, by the job and generation that it tells.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Of our job and generation: use it.
    Current,
    /// Of an older generation: drop and count it. It may be a late frame or a process that has
    /// been replaced without knowing.
    Older,
    /// Of a newer generation: drop it, and learn from the coordinator what has changed.
    Newer,
    /// Of another job: drop and count it.
    Foreign,
}

/// Bounds that a receiver sets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a payload of JSON; [`MAX_CONTROL_BYTES`] bounds it.
    pub control: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            control: MAX_CONTROL_BYTES,
        }
    }
}

impl Body {
    /// A push of `tally.rows` rows.
    ///
    /// # Errors
    /// [`WireError::Rows`] if the rows do not fit the header.
    pub fn push(
        step: u64,
        node: Node,
        chunk: u32,
        len: u32,
        tally: Tally,
    ) -> Result<Body, WireError> {
        let rows = u32::try_from(tally.rows).map_err(|_| WireError::Rows(tally.rows))?;
        Ok(Body::Push {
            step,
            node,
            chunk,
            len,
            rows,
            loss: tally.loss,
        })
    }

    /// What the frame is for.
    pub fn kind(&self) -> Kind {
        match self {
            Body::Hello { .. } => Kind::Hello,
            Body::Push { .. } => Kind::Push,
            Body::Param { .. } => Kind::Param,
            Body::Control { .. } => Kind::Control,
            Body::Bye => Kind::Bye,
            Body::Challenge { .. } => Kind::Challenge,
            Body::Proof { .. } => Kind::Proof,
        }
    }

    /// The payload's length in bytes.
    pub fn payload_len(&self) -> u32 {
        match *self {
            Body::Hello { len }
            | Body::Control { len }
            | Body::Challenge { len }
            | Body::Proof { len } => len,
            Body::Push { len, .. } | Body::Param { len, .. } => len,
            Body::Bye => 0,
        }
    }
}

/// The fields of a header as they lie in it, before they are judged.
#[derive(Default)]
struct Fields {
    step: u64,
    node: u32,
    chunk: u32,
    loss_bits: u64,
    rows: u32,
}

impl Fields {
    fn of(body: &Body) -> Fields {
        match *body {
            Body::Push {
                step,
                node,
                chunk,
                rows,
                loss,
                ..
            } => Fields {
                step,
                node: node.get(),
                chunk,
                loss_bits: loss.to_bits(),
                rows,
            },
            Body::Param { version, chunk, .. } => Fields {
                step: version,
                chunk,
                ..Fields::default()
            },
            Body::Hello { .. }
            | Body::Control { .. }
            | Body::Bye
            | Body::Challenge { .. }
            | Body::Proof { .. } => Fields::default(),
        }
    }

    /// The body these make, each field that `kind` has no use for being 0.
    fn into_body(self, kind: Kind, len: u32) -> Result<Body, WireError> {
        let Fields {
            step,
            node,
            chunk,
            loss_bits,
            rows,
        } = self;
        if kind == Kind::Push {
            let node = Node::new(node).ok_or(WireError::Node)?;
            let loss = f64::from_bits(loss_bits);
            return Ok(Body::Push {
                step,
                node,
                chunk,
                len,
                rows,
                loss,
            });
        }
        let param = kind == Kind::Param;
        let unused = [
            ("step", !param && step != 0),
            ("node", node != 0),
            ("chunk", !param && chunk != 0),
            ("loss", loss_bits != 0),
            ("rows", rows != 0),
        ];
        if let Some((field, _)) = unused.into_iter().find(|&(_, set)| set) {
            return Err(WireError::Unused { kind, field });
        }
        Ok(match kind {
            Kind::Hello => Body::Hello { len },
            Kind::Control => Body::Control { len },
            Kind::Bye => Body::Bye,
            Kind::Challenge => Body::Challenge { len },
            Kind::Proof => Body::Proof { len },
            Kind::Param | Kind::Push => Body::Param {
                version: step,
                chunk,
                len,
            },
        })
    }
}

/// CRC-32 (IEEE 802.3). Of bytes in the cache 60 to 80 GB/s were measured on a processor with carry-less
/// multiplication (CRC-32C 80, XXH3 15), of bytes in memory 12 GB/s, which is what reading them costs: what
/// makes a payload cheaper to check is to have it in the cache, not another function.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The `N` bytes of a header from `at` on.
fn field<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let fields = Fields::of(&self.body);
        let mut bytes = [0; HEADER_LEN];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(4, &[VERSION, self.body.kind() as u8]); // encoding and flags stay 0
        put(8, &self.job.to_le_bytes());
        put(16, &self.generation.to_le_bytes());
        put(20, &self.body.payload_len().to_le_bytes());
        put(24, &self.incarnation.to_le_bytes());
        put(32, &fields.step.to_le_bytes());
        put(40, &fields.node.to_le_bytes());
        put(44, &fields.chunk.to_le_bytes());
        put(48, &fields.loss_bits.to_le_bytes());
        put(56, &fields.rows.to_le_bytes());
        put(60, &self.payload.to_le_bytes());
        let checksum = checksum(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header of a frame with this payload.
    pub fn before(self, payload: &[u8]) -> Header {
        Header {
            payload: checksum(payload),
            ..self
        }
    }

    /// Checks the payload that came behind this header.
    ///
    /// # Errors
    /// [`WireError::Payload`] if it is not the one that was sent.
    pub fn check(&self, payload: &[u8]) -> Result<(), WireError> {
        let computed = checksum(payload);
        match computed == self.payload {
            true => Ok(()),
            false => Err(WireError::Payload {
                found: self.payload,
                computed,
            }),
        }
    }

    /// Judges the frame as a receiver of `job` in `generation` has to, before its content counts.
    pub fn fence(&self, job: u64, generation: u32) -> Fence {
        if self.job != job {
            return Fence::Foreign;
        }
        match self.generation.cmp(&generation) {
            Ordering::Less => Fence::Older,
            Ordering::Equal => Fence::Current,
            Ordering::Greater => Fence::Newer,
        }
    }

    /// Reads a header and checks everything that can be known without the job: what passes has
    /// one encoding only, and a payload within bounds.
    ///
    /// # Errors
    /// The [`WireError`] that names the first field refused.
    pub fn decode(bytes: &[u8; HEADER_LEN], limits: &Limits) -> Result<Header, WireError> {
        let magic = field(bytes, 0);
        if magic != MAGIC {
            return Err(WireError::Magic(magic));
        }
        // Before the checksum: another version may keep it elsewhere.
        if bytes[4] != VERSION {
            return Err(WireError::Version(bytes[4]));
        }
        let found = u32::from_le_bytes(field(bytes, CHECKED));
        let computed = checksum(&bytes[..CHECKED]);
        if found != computed {
            return Err(WireError::Checksum { found, computed });
        }
        let kind = Kind::from_byte(bytes[5]).ok_or(WireError::Kind(bytes[5]))?;
        if bytes[6] != 0 {
            return Err(WireError::Encoding(bytes[6]));
        }
        if bytes[7] != 0 {
            return Err(WireError::Flags(bytes[7]));
        }
        let len = u32::from_le_bytes(field(bytes, 20));
        let len = Allowed::of(kind, limits).check(kind, u64::from(len))?;
        let fields = Fields {
            step: u64::from_le_bytes(field(bytes, 32)),
            node: u32::from_le_bytes(field(bytes, 40)),
            chunk: u32::from_le_bytes(field(bytes, 44)),
            loss_bits: u64::from_le_bytes(field(bytes, 48)),
            rows: u32::from_le_bytes(field(bytes, 56)),
        };
        let payload = u32::from_le_bytes(field(bytes, 60));
        if kind == Kind::Bye && payload != 0 {
            let field = "payload checksum";
            return Err(WireError::Unused { kind, field });
        }
        Ok(Header {
            payload,
            job: u64::from_le_bytes(field(bytes, 8)),
            generation: u32::from_le_bytes(field(bytes, 16)),
            incarnation: u64::from_le_bytes(field(bytes, 24)),
            body: fields.into_body(kind, len)?,
        })
    }
}

/// The bytes of `floats` as they travel, in place.
pub fn as_bytes(floats: &[f32]) -> &[u8] {
    bytemuck::cast_slice(floats)
}

/// The bytes of `floats` as they travel, in place: what is read into them from a connection is in
/// `floats` at once.
pub fn as_bytes_mut(floats: &mut [f32]) -> &mut [u8] {
    bytemuck::cast_slice_mut(floats)
}
