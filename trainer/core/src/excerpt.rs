//! Pieces of files and messages, made safe to show in an error.

/// Longest excerpt in characters.
const LONGEST: usize = 40;

/// At most 40 characters of a foreign text, control characters escaped.
pub fn excerpt(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == LONGEST {
            out.push_str("...");
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A foreign text in double quotes, shortened as by [`excerpt`].
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", excerpt(text))
}
