//! Numbers as text.

/// The largest magnitude an input or target may have; beyond it an f32 is infinite.
pub(crate) const LARGEST: f64 = f32::MAX as f64;

/// Reads a number. The error is the problem in words.
pub(crate) fn parse(text: &str) -> Result<f64, String> {
    let shown = || crate::error::quoted(text);
    let value: f64 = text
        .parse()
        .map_err(|_| format!("expected a number, found {}", shown()))?;
    check(value).map_err(|problem| format!("{problem}, found {}", shown()))?;
    Ok(value)
}

/// Whether text stands for no number; see [`Missing`](crate::Missing).
pub(crate) fn is_missing(text: &str) -> bool {
    text.is_empty() || text.eq_ignore_ascii_case("NA") || text.eq_ignore_ascii_case("NaN")
}

/// Whether a value is a finite f32 once rounded. The error is the problem in words.
pub(crate) fn check(value: f64) -> Result<(), &'static str> {
    match value.abs() {
        size if size <= LARGEST => Ok(()),
        size if size.is_finite() => Err("expected a number that fits a 32-bit float"),
        _ => Err("expected a finite number"),
    }
}
