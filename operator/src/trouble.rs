//! What keeps a job from going on, in words of bounded length.

/// Longest message of a trouble, in bytes.
const MAX_MESSAGE: usize = 1024;

/// Why something does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word, as for a condition.
    pub reason: &'static str,
    /// What was said, with the name of what is missing.
    pub message: String,
}

impl Trouble {
    /// A trouble with a message of bounded length.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        truncate(&mut message, MAX_MESSAGE);
        Trouble { reason, message }
    }
}

/// Truncates a text to at most `limit` bytes, between two characters.
pub fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
    }
}
