//! Several files in one input.
//!
//! A file begins with a line `@@ NAME` and goes on to the line break before the next such line. There are no lengths in it that a
//! mutation could break, and its text can be read and written by hand.

/// What a file begins with.
const MARK: &[u8] = b"@@ ";

/// The files of an input, in their order; names may occur twice. What comes before the first file is left out.
pub fn unpack(input: &[u8]) -> Vec<(String, &[u8])> {
    let mut files = Vec::new();
    let mut rest = input;
    while let Some((before, after)) = split_at_mark(rest) {
        if let Some((_, bytes)) = files.last_mut() {
            *bytes = before;
        }
        let end = after.iter().position(|&byte| byte == b'\n');
        let (name, bytes) = after.split_at(end.unwrap_or(after.len()));
        rest = bytes.get(1..).unwrap_or_default();
        files.push((String::from_utf8_lossy(name).into_owned(), rest));
    }
    files
}

/// What comes before the next mark at the beginning of a line, without the line break, and what comes after it.
fn split_at_mark(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(after) = bytes.strip_prefix(MARK) {
        return Some((&[], after));
    }
    let is_mark = |window: &[u8]| window[0] == b'\n' && window[1..] == *MARK;
    let at = bytes.windows(MARK.len() + 1).position(is_mark)?;
    Some((&bytes[..at], &bytes[at + 1 + MARK.len()..]))
}

/// An input of these files.
pub fn pack<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut input = Vec::new();
    for (name, bytes) in files {
        if !input.is_empty() {
            input.push(b'\n');
        }
        input.extend_from_slice(MARK);
        input.extend_from_slice(name.as_bytes());
        input.push(b'\n');
        input.extend_from_slice(bytes);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_unpacked_as_they_were_packed() {
        let files: [(&str, &[u8]); 4] = [
            ("a", b"text\nof two lines\n"),
            ("b/c.json", b""),
            ("", b"\0\xff @@ x"),
            ("a", b"again"),
        ];
        let input = pack(files);
        let found = unpack(&input);
        let found: Vec<(&str, &[u8])> = found
            .iter()
            .map(|(name, bytes)| (name.as_str(), *bytes))
            .collect();
        assert_eq!(found, files);
    }

    #[test]
    fn what_is_no_archive_has_no_files_and_a_cut_one_fewer() {
        let none: [&[u8]; 3] = [b"", b"@@", b"text @@ a\nb"];
        for input in none {
            assert_eq!(unpack(input), []);
        }
        let cut: [&[u8]; 2] = [b"@@ a", b"@@ a\n"];
        for input in cut {
            assert_eq!(unpack(input), [("a".to_owned(), &b""[..])]);
        }
        let both = unpack(b"first\n@@ a\nb\n@@ c");
        assert_eq!(both, [("a".to_owned(), &b"b"[..]), ("c".to_owned(), b"")]);
    }
}
