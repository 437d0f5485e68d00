//! Arrays of data: NPY and IDX files, gzipped or not.

use std::io::{self, Read};

use trainyard_data::{
    Files, HeldOut, LoadOptions, Normalization, Pattern, Rows, SourceSpec, encode_labels, load,
};

use crate::archive;
use crate::csv::{all, bits, limits, sound, task};

/// Files by name.
struct Memory<'a>(Vec<(String, &'a [u8])>);

impl Memory<'_> {
    fn find(&self, uri: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(name, _)| name == uri);
        found.map(|(_, bytes)| *bytes)
    }
}

impl Files for Memory<'_> {
    fn open(&self, uri: &str) -> io::Result<Box<dyn Read + Send>> {
        match self.find(uri) {
            Some(bytes) => Ok(Box::new(io::Cursor::new(bytes.to_vec()))),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "not here")),
        }
    }

    fn list(&self, _: &Pattern) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Reads the files `x` and `y` of an archive as training data, with options by its first byte, and again for
/// prediction.
pub fn run(input: &[u8]) -> bool {
    let Some((&how, rest)) = input.split_first() else {
        return false;
    };
    let files = Memory(archive::unpack(rest));
    let (x, y) = ("x".to_owned(), "y".to_owned());
    let train = match how & 4 {
        0 => SourceSpec::Npy {
            features: x,
            labels: y,
        },
        _ => SourceSpec::Idx {
            images: x,
            labels: y,
        },
    };
    let options = LoadOptions {
        validation: match how & 8 {
            0 => HeldOut::None,
            _ => HeldOut::Fraction(0.3),
        },
        normalization: match how & 16 {
            0 => Normalization::Standardize,
            _ => Normalization::None,
        },
        seed: 7,
        limits: limits(),
        ..LoadOptions::new(task(how), train)
    };
    let Ok(data) = load(&files, &options) else {
        return false;
    };
    sound(&data);
    if options.validation != HeldOut::None {
        return true;
    }
    let schema = &data.facts.schema;
    let limits = limits();
    let rows = Rows::array(schema, "x", files.find("x").unwrap_or_default(), &limits);
    let features = rows.and_then(all);
    let features = features.expect("what can be trained on can be predicted");
    assert_eq!(bits(&features), bits(&data.train.features));
    let labels = encode_labels(schema, "y", files.find("y").unwrap_or_default(), &limits);
    let labels = labels.expect("they were labels before");
    assert_eq!(bits(&labels.encoded), bits(&data.train.labels));
    true
}
