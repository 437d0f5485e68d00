//! What can be wrong with a frame, and the payload lengths that each kind allows.

use super::{Kind, Limits, MAX_CHUNK_BYTES, MAX_CONTROL_BYTES, VERSION};

/// Why bytes are not a frame, or a message does not fit one. The connection is of no use after
/// any of these: close it and count it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer does not speak this protocol at all.
    #[error("magic is {0:02x?}, not \"TRYD\": the peer is not a trainyard process")]
    Magic([u8; 4]),
    /// The peer speaks another version.
    #[error("version is {0}, this process speaks {VERSION}: run the same release everywhere")]
    Version(u8),
    /// The header was damaged on its way.
    #[error("checksum is {found:#010x}, the header's bytes give {computed:#010x}")]
    Checksum {
        /// As received.
        found: u32,
        /// Of the bytes received.
        computed: u32,
    },
    /// The payload was damaged on its way.
    #[error("payload checksum is {found:#010x}, the payload's bytes give {computed:#010x}")]
    Payload {
        /// As the header says.
        found: u32,
        /// Of the bytes received.
        computed: u32,
    },
    /// A kind that this version does not know.
    #[error("kind is {0}, which this version does not know")]
    Kind(u8),
    /// An encoding that this version does not know.
    #[error("encoding is {0}, this version knows only 0 (f32)")]
    Encoding(u8),
    /// Flags that this version does not know.
    #[error("flags are {0:#04x}, this version knows none")]
    Flags(u8),
    /// A payload length that the kind does not allow.
    #[error("payload length is {len} in a {kind:?} frame, allowed is {allowed}")]
    Length {
        /// The frame's kind.
        kind: Kind,
        /// Its payload length in bytes.
        len: u64,
        /// What would be allowed.
        allowed: Allowed,
    },
    /// Node 0 does not exist.
    #[error("node is 0 in a Push frame, nodes are numbered from 1")]
    Node,
    /// More rows than a header can tell.
    #[error("rows are {0}, a frame can tell at most 4294967295")]
    Rows(u64),
    /// A field that the kind has no use for is not 0.
    #[error("{field} is not 0 in a {kind:?} frame")]
    Unused {
        /// The frame's kind.
        kind: Kind,
        /// The field's name.
        field: &'static str,
    },
    /// A frame that has no place on a control stream, or no JSON in it.
    #[error("a {0:?} frame where messages are expected")]
    NotControl(Kind),
    /// A control payload that is not the JSON it should be, or a value that has no JSON form.
    #[error("payload of a {kind:?} frame: {error}")]
    Json {
        /// The frame's kind.
        kind: Kind,
        /// What is wrong, and where in the payload. No source, which would be told again.
        error: serde_json::Error,
    },
    /// Bytes were pushed to a [`ControlDecoder`](super::ControlDecoder) that holds whole messages nobody took.
    #[error("{0} bytes of control messages are waiting to be taken")]
    Backlog(usize),
}

/// The payload lengths that a kind allows; for messages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The least bytes.
    pub min: u32,
    /// The most bytes.
    pub max: u32,
    /// What the length must be a multiple of.
    pub multiple: u32,
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.min, self.max)?;
        if self.multiple > 1 {
            write!(f, " in multiples of {}", self.multiple)?;
        }
        Ok(())
    }
}

impl Allowed {
    pub(super) fn of(kind: Kind, limits: &Limits) -> Allowed {
        match kind {
            Kind::Hello | Kind::Control | Kind::Challenge | Kind::Proof => Allowed {
                min: 1,
                max: limits.control.min(MAX_CONTROL_BYTES),
                multiple: 1,
            },
            Kind::Push | Kind::Param => Allowed {
                min: 4,
                max: MAX_CHUNK_BYTES,
                multiple: 4,
            },
            Kind::Bye => Allowed {
                min: 0,
                max: 0,
                multiple: 1,
            },
        }
    }

    pub(super) fn check(self, kind: Kind, len: u64) -> Result<u32, WireError> {
        match u32::try_from(len) {
            Ok(n) if (self.min..=self.max).contains(&n) && n.is_multiple_of(self.multiple) => Ok(n),
            _ => Err(WireError::Length {
                kind,
                len,
                allowed: self,
            }),
        }
    }
}
