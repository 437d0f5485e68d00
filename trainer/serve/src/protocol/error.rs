//! What is wrong with a request.

/// Who is at fault, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request: 400, `INVALID_ARGUMENT`.
    Invalid,
    /// There is no such model or version: 404, `NOT_FOUND`.
    NotFound,
    /// It is larger than may be: 413, `INVALID_ARGUMENT`.
    TooLarge,
    /// Too much is to be done at once: 429, `RESOURCE_EXHAUSTED`.
    Overloaded,
    /// The server ends: 503, `UNAVAILABLE`.
    Unavailable,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProtocolError {
    /// Who is at fault.
    pub kind: Kind,
    /// What was found, what was expected, and what to do.
    pub message: String,
}

impl ProtocolError {
    /// Of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The same with what the error is about before it, such as `input "age"`.
    pub(crate) fn about(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}
