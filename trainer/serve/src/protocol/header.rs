//! The header `Inference-Header-Content-Length`, which tells where the JSON of a body ends.

use super::error::{ProtocolError, quoted};

/// Its name.
pub(super) const NAME: &str = "Inference-Header-Content-Length";

/// Reads its value: the bytes of JSON in a body that has `body` bytes.
///
/// # Errors
/// If it is no whole number, or greater than the body.
pub(super) fn json_length(value: &[u8], body: usize) -> Result<usize, ProtocolError> {
    let text = String::from_utf8_lossy(value.trim_ascii());
    // `parse` alone would take a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ProtocolError::invalid(format!(
            "{NAME} is {}, expected a whole number; give the bytes of the JSON",
            quoted(&text)
        )));
    }
    match text.parse().ok().filter(|length| *length <= body) {
        Some(length) => Ok(length),
        None => Err(ProtocolError::invalid(format!(
            "{NAME} is {}, the body has {body} bytes; give the bytes of the JSON, after decompression",
            quoted(&text)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_a_length_is_digits_and_within_the_body() {
        for (value, length) in [(&b"0"[..], 0), (b"7", 7), (b" 10\t", 10), (b"007", 7)] {
            assert_eq!(json_length(value, 10), Ok(length));
        }
        let no_number: [&[u8]; 9] = [
            b"", b" ", b"-1", b"+1", b"1.0", b"1e1", b"0x5", b"\xff", b"1, 1",
        ];
        for value in no_number {
            let error = json_length(value, 10).expect_err("no number");
            assert!(error.message.contains("expected a whole number"), "{error}");
        }
        let too_large: [&[u8]; 3] = [b"11", b"18446744073709551616", &[b'9'; 5000]];
        for value in too_large {
            let error = json_length(value, 10).expect_err("too large");
            assert!(error.message.contains("the body has 10 bytes"), "{error}");
            assert!(error.message.len() < 200);
        }
    }
}
