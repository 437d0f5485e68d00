//! What is wrong with a request, and the status that says so.

use std::fmt;

/// Longest piece of a foreign text in a message, in characters.
const LONGEST: usize = 40;

/// Who can mend an error, and how. The statuses are those of Triton's map but for [`ErrorKind::Unsupported`], which is the client's
/// fault; it has none for [`ErrorKind::TooLarge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong: 400; in gRPC `INVALID_ARGUMENT`.
    InvalidArgument,
    /// There is no such model or version: 404; in gRPC `NOT_FOUND`.
    NotFound,
    /// The request is larger than [`Limits`](super::Limits) allow: 413; in gRPC `RESOURCE_EXHAUSTED`.
    TooLarge,
    /// The request asks for an extension that is not served (shared memory, sequences): 400; in gRPC `UNIMPLEMENTED`.
    Unsupported,
    /// There is too much to do: 429; in gRPC `RESOURCE_EXHAUSTED`.
    Overloaded,
    /// The server ends: 503; in gRPC `UNAVAILABLE`.
    Unavailable,
}

impl ErrorKind {
    /// The HTTP status of the answer.
    pub fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::Unsupported => 400,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::Overloaded => 429,
            Self::Unavailable => 503,
        }
    }
}

/// Why a request is not answered.
///
/// Displays as `PLACE: PROBLEM; REMEDY`, such as `input "age": data has 3 elements, shape [2] has 2; send one element for each`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProtocolError {
    /// Who can mend it.
    pub kind: ErrorKind,
    /// The place, what is wrong there, and what to do.
    pub message: String,
}

impl ProtocolError {
    /// An error of any kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// There is no such model, or not in this version. The message begins as Triton's does: its clients' examples look for it.
    pub fn unknown_model(name: &str, version: Option<&str>) -> Self {
        let version = version.map_or(String::new(), |v| format!(" version {}", quoted(v)));
        Self::new(
            ErrorKind::NotFound,
            format!(
                "Request for unknown model: {}{version} is not served here; check the name in the URL",
                quoted(name)
            ),
        )
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// The same with its place before it.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

/// At most 40 characters of a foreign text, in double quotes, control characters and quotes escaped.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_a_foreign_text_is_short_and_harmless_in_a_message() {
        assert_eq!(quoted("age"), "\"age\"");
        assert_eq!(quoted("a\"\r\n"), r#""a\"\r\n""#);
        assert_eq!(
            quoted(&"\u{e4}".repeat(1000)).chars().count(),
            LONGEST + "\"\"...".len()
        );
    }

    #[test]
    fn s04_an_unknown_model_is_told_as_clients_expect_it() {
        let error = ProtocolError::unknown_model("churn", Some("7"));
        assert_eq!(error.kind.http_status(), 404);
        let begin = r#"Request for unknown model: "churn" version "7" is not"#;
        assert!(error.message.starts_with(begin), "{error}");
    }
}
