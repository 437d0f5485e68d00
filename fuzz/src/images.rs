//! PNG and JPEG images.

use std::io::{self, Read};

use trainyard_data::{
    Color, Files, ImageOptions, LoadOptions, Normalization, Pattern, Rows, SourceSpec, Task, load,
};

use crate::csv::{all, bits, limits, sound};

/// The same image in each of two classes.
struct Twice<'a>(&'a [u8]);

impl Files for Twice<'_> {
    fn open(&self, _: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0.to_vec())))
    }

    fn list(&self, _: &Pattern) -> io::Result<Vec<String>> {
        Ok(["i/a/1.png", "i/b/1.png"].map(str::to_owned).into())
    }
}

/// Reads the input as an image to train on, with options by its first byte, and again for prediction.
pub fn run(input: &[u8]) -> bool {
    let Some((&how, image)) = input.split_first() else {
        return false;
    };
    let train = ImageOptions {
        uri: "i".into(),
        size: (how & 1 != 0).then_some((5, 9)),
        color: match how >> 1 & 3 {
            0 => Some(Color::Grayscale),
            1 => Some(Color::Rgb),
            _ => None,
        },
    };
    let options = LoadOptions {
        target: Normalization::None,
        seed: 1,
        limits: limits(),
        ..LoadOptions::new(Task::Binary, SourceSpec::Images(train))
    };
    let files = Twice(image);
    let Ok(data) = load(&files, &options) else {
        return false;
    };
    sound(&data);
    let limits = limits();
    let rows = Rows::images(&data.facts.schema, &files, &["i".to_owned()], &limits);
    let encoded = rows
        .and_then(all)
        .expect("what can be trained on can be predicted");
    assert_eq!(bits(&encoded), bits(&data.train.features));
    true
}
