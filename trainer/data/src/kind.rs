//! What a file is that is none of ours, told by its first bytes.

use crate::error::DataError;

/// Bytes that [`refuse`] looks at.
pub(crate) const HEAD: usize = 16;

const UNPACK: &str = "unpack it, or compress it with gzip or zstd instead";
const AS_CSV: &str = "write it as CSV, or as an NPY array";

/// First bytes, what begins so, and what to do.
const KINDS: [(&[u8], &str, &str); 22] = [
    (
        b"PK\x03\x04",
        "a ZIP archive or a spreadsheet's workbook (XLSX)",
        "unpack the archive (arrays of np.savez: save each with np.save), or save the sheet as CSV",
    ),
    (b"PK\x05\x06", "an empty ZIP archive", UNPACK),
    (b"BZh", "compressed with bzip2", UNPACK),
    (b"\xfd7zXZ\0", "compressed with xz", UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (
        b"PAR1",
        "a Parquet file",
        "name it under `parquet`, not `csv`, or give it with --parquet",
    ),
    (b"ARROW1", "an Arrow (Feather) file", AS_CSV),
    (b"ORC", "an ORC file", AS_CSV),
    (b"Obj\x01", "an Avro file", AS_CSV),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", AS_CSV),
    (b"SQLite format 3\0", "an SQLite database", AS_CSV),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old workbook (XLS)",
        "save the sheet as CSV",
    ),
    (b"%PDF-", "a PDF document", AS_CSV),
    (
        b"\x89PNG\r\n\x1a\n",
        "a PNG image",
        "images are read in folders, one for each class: name their folder under `images`, or give it to init, or with --images",
    ),
    (
        b"\xff\xd8\xff",
        "a JPEG image",
        "images are read in folders, one for each class: name their folder under `images`, or give it to init, or with --images",
    ),
    (b"\x80\x04\x95", "a Python pickle", AS_CSV),
    (b"\x80\x05\x95", "a Python pickle", AS_CSV),
    (
        b"version https://",
        "a pointer of Git LFS, not the file itself",
        "fetch the file with git lfs pull",
    ),
    (b"<!doctype", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
];

/// Names a file that begins with `head` and cannot be data.
///
/// # Errors
/// [`DataError`] if it is of a kind that is known and not read here.
pub(crate) fn refuse(head: &[u8]) -> Result<(), DataError> {
    let found = KINDS.iter().find(|(first, ..)| match *first {
        // Text could begin so.
        b"BZh" => head.starts_with(b"BZh") && head.get(4..10) == Some(b"1AY&SY"),
        first @ (b"ORC" | b"PAR1" | b"ARROW1") => {
            let next = head.get(first.len());
            head.starts_with(first) && next.is_some_and(|byte| !is_text(*byte))
        }
        first if first.starts_with(b"<") => {
            let page = head
                .strip_prefix(b"\xef\xbb\xbf")
                .unwrap_or(head)
                .trim_ascii_start();
            page.get(..first.len())
                .is_some_and(|page| page.eq_ignore_ascii_case(first))
        }
        first => head.starts_with(first),
    });
    match found {
        None => Ok(()),
        Some((_, kind, remedy)) => Err(DataError::data(format!("the file is {kind}"), *remedy)),
    }
}

/// Whether a byte may stand in a CSV file.
fn is_text(byte: u8) -> bool {
    byte >= b' ' || byte.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t15_a_file_of_another_kind_is_named() {
        let refused = |head: &[u8]| refuse(head).map_err(|error| error.problem);
        for (first, kind, _) in KINDS {
            let mut head = first.to_vec();
            match first {
                b"BZh" => head.extend(b"91AY&SY"),
                b"ORC" | b"PAR1" | b"ARROW1" => head.push(3),
                _ => head.extend(b"rest"),
            }
            assert_eq!(refused(&head), Err(format!("the file is {kind}")));
            assert_eq!(refused(&head[..2]), Ok(()));
        }
        for page in [&b"\xef\xbb\xbf\n<!DOCTYPE h"[..], b" <HTML>"] {
            assert_eq!(refused(page), Err("the file is a web page".into()));
        }
        let data: [&[u8]; 8] = [
            b"",
            b"a,b\n1,2\n",
            b"BZh,y\n",
            b"ORC,y\n",
            b"PAR1,PAR2,y\n",
            b"ARROW1\n1\n",
            b"\x93NUMPY",
            b"PK,x",
        ];
        for head in data {
            assert_eq!(refused(head), Ok(()), "{head:?}");
        }
    }
}
