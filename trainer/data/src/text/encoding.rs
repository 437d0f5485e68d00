//! Encodings of one byte a character.

use std::borrow::Cow;

use trainyard_core::schema::Encoding;

/// The characters of Windows-1252 from 0x80 to 0x9f, as the WHATWG's Encoding Standard has them: five bytes that stand
/// for none are control characters.
const WINDOWS: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// The same text in UTF-8. What should be in UTF-8 already is not checked.
pub(super) fn to_utf8(bytes: &[u8], encoding: Encoding) -> Cow<'_, [u8]> {
    if encoding == Encoding::Utf8 || bytes.is_ascii() {
        return Cow::Borrowed(bytes);
    }
    let character = |&byte: &u8| match byte {
        0x80..=0x9f if encoding == Encoding::Windows1252 => WINDOWS[usize::from(byte - 0x80)],
        byte => char::from(byte),
    };
    let text: String = bytes.iter().map(character).collect();
    Cow::Owned(text.into_bytes())
}
