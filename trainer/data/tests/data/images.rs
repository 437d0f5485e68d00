//! Folders of images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use trainyard_data::{
    Color, Dataset, Folder, HeldOut, ImageOptions, InputKind, Limits, LoadOptions, Normalization,
    Rows, SourceSpec, SplitRule, Task, load,
};

use crate::common::{Memory, assert_error, encode_all, options};

/// Files that a program of Python has made, and what Pillow makes of them.
#[derive(Deserialize)]
struct Fixture {
    decoded: BTreeMap<String, Decoded>,
    resized: Vec<Resized>,
}

#[derive(Deserialize)]
struct Decoded {
    height: u64,
    width: u64,
    channels: u64,
    pixels: String,
}

#[derive(Deserialize)]
struct Resized {
    height: u32,
    width: u32,
    mode: String,
    pixels: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

fn fixture() -> Fixture {
    let text = fs::read_to_string(folder().join("pixels.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// Pixels of the fixture, channel after channel.
fn planes(pixels: &str, channels: usize) -> Vec<u8> {
    let pixels = base16ct::lower::decode_vec(pixels).unwrap();
    let channel = |channel| pixels.iter().skip(channel).step_by(channels).copied();
    (0..channels).flat_map(channel).collect()
}

/// Options for the folder `i`, without scaling.
fn of_images(change: impl FnOnce(&mut ImageOptions)) -> LoadOptions {
    let mut images = ImageOptions {
        uri: "i".into(),
        size: None,
        color: None,
    };
    change(&mut images);
    let mut options = options(Task::Multiclass, SourceSpec::Images(images));
    options.normalization = Normalization::None;
    options
}

/// An image in each of two classes.
fn twice(bytes: &[u8]) -> Memory {
    Memory::default()
        .with("i/a/1.png", bytes)
        .with("i/b/1.png", bytes)
}

/// The rows as the bytes that they are.
fn bytes(values: &[f32]) -> Vec<u8> {
    let byte = |value: &f32| {
        assert_eq!(f32::from(*value as u8), *value);
        *value as u8
    };
    values.iter().map(byte).collect()
}

fn shape(data: &Dataset) -> &[u64] {
    match &data.facts.schema.input {
        InputKind::Array(input) => &input.shape,
        InputKind::Columns(_) => panic!("an array"),
    }
}

/// PNG files to the bit. Decoders of JPEG differ in how they round, and in how they make a colour for each pixel where there is one for
/// two or four.
#[test]
fn c37_images_are_decoded_as_pillow_does() {
    for (name, expected) in fixture().decoded {
        let data = load(&twice(&file(&name)), &of_images(|_| {})).unwrap();
        let found = bytes(data.train.row(0));
        assert_eq!(
            shape(&data),
            [expected.channels, expected.height, expected.width],
            "{name}"
        );
        let expected = planes(&expected.pixels, expected.channels as usize);
        let most = match name.as_str() {
            png if png.ends_with(".png") => 0,
            "gray.jpg" => 1,
            _ => 6,
        };
        let differences = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
        let furthest = differences.max().unwrap_or(u8::MAX);
        assert!(furthest <= most, "{name}: {furthest}");
        assert_eq!(data.train.row(0), data.train.row(1));
    }
}

/// These tests run on whichever CPU there is: the digests must be these on each.
#[test]
fn c37_jpeg_files_have_the_same_pixels_on_every_cpu() {
    let expected = [
        ("420.jpg", "6cf4848b2533adba"),
        ("422.jpg", "2b36e1e63ac0cb4d"),
        ("444.jpg", "330e2ef2ee12ee1c"),
        ("cmyk.jpg", "4287bf868be93e9e"),
        ("gray.jpg", "da0008ac4a5f27bb"),
        ("optimized.jpg", "c38237e70199858f"),
        ("progressive.jpg", "6cf4848b2533adba"),
        ("restart.jpg", "6cf4848b2533adba"),
    ];
    let mut wrong = Vec::new();
    for (name, digest) in expected {
        let data = load(&twice(&file(name)), &of_images(|_| {})).unwrap();
        let found = Sha256::digest(bytes(data.train.row(0)));
        let found = base16ct::lower::encode_string(&found)[..16].to_owned();
        if found != digest {
            wrong.push((name, found));
        }
    }
    assert_eq!(wrong, []);
}

#[test]
fn c37_images_are_resized_as_pillow_does() {
    for expected in fixture().resized {
        let (color, channels) = match expected.mode.as_str() {
            "L" => (Color::Grayscale, 1),
            _ => (Color::Rgb, 3),
        };
        let options = of_images(|images| {
            images.size = Some((expected.height, expected.width));
            images.color = Some(color);
        });
        let data = load(&twice(&file("rgb-8.png")), &options).unwrap();
        let case = format!("{} x {} {}", expected.height, expected.width, expected.mode);
        assert_eq!(
            bytes(data.train.row(1)),
            planes(&expected.pixels, channels),
            "{case}"
        );
        assert!(
            data.warnings.iter().all(|told| !told.contains("gray")),
            "{:?}",
            data.warnings
        );
    }
}

/// Cats, dogs, and what else lies in such folders.
fn animals() -> Memory {
    Memory::default()
        .with("i/dogs/b.JPG", file("444.jpg"))
        .with("i/dogs/a.png", file("rgb-8.png"))
        .with("i/dogs/more/c.jpeg", file("420.jpg"))
        .with("i/dogs/.hidden.png", "x")
        .with("i/cats/a.png", file("rgba.png"))
        .with("i/cats/g.png", file("gray-8.png"))
        .with("i/cats/Thumbs.db", "x")
        .with("i/.cache/a.png", "x")
        .with("i/labels.csv", "x")
}

#[test]
fn c37_the_folder_of_an_image_is_its_class_and_rows_come_in_the_order_of_names() {
    let mut before = None;
    for threads in [1, 2, 3, 8] {
        let mut options = of_images(|_| {});
        options.normalization = Normalization::Standardize;
        options.limits.threads = threads;
        let data = load(&animals(), &options).unwrap();
        assert_eq!(data.facts.schema.label.classes, ["cats", "dogs"]);
        assert_eq!(data.facts.schema.label.name, "class");
        assert_eq!(data.train.labels, [0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(shape(&data), [3, 19, 27]);
        let told = data.warnings.join("\n");
        for text in [
            "i: 2 files are no PNG or JPEG images, and are left out; the first is \"i/cats/Thumbs.db\"",
            "i: 1 image with transparency",
        ] {
            assert!(told.contains(text), "{text}: {told}");
        }
        let digest = data.facts.digest.clone();
        assert_eq!(*before.get_or_insert(digest), data.facts.digest);
    }
    // A gray image among others in colour is the same in each channel.
    let data = load(&animals(), &of_images(|_| {})).unwrap();
    let gray = data.train.row(1).chunks_exact(19 * 27).collect::<Vec<_>>();
    assert_eq!(
        bytes(gray[0]),
        planes(&fixture().decoded["gray-8.png"].pixels, 1)
    );
    assert!(gray[0] == gray[1] && gray[1] == gray[2]);
}

#[test]
fn c37_other_rows_become_what_the_training_images_are() {
    let mut options = of_images(|images| images.size = Some((8, 9)));
    let files = animals()
        .with("v/dogs/1.png", file("gray-8.png"))
        .with("v/cats/1.png", file("palette-4.png"));
    options.validation = HeldOut::Source(SourceSpec::Images(ImageOptions {
        uri: "v".into(),
        size: Some((8, 9)),
        color: None,
    }));
    options.test = HeldOut::Fraction(0.4);
    options.split = SplitRule::Stratified;
    let data = load(&files, &options).unwrap();
    assert_eq!(shape(&data), [3, 8, 9]);
    assert_eq!(data.validation.as_ref().unwrap().labels, [0.0, 1.0]);
    assert_eq!(data.test.as_ref().unwrap().rows, 2);
    // A class that the model does not know.
    let unknown = files.with("v/cows/1.png", file("gray-8.png"));
    assert_error(
        "cows",
        load(&unknown, &options),
        &["v/cows/1.png", "\"cows\" is none of the model's classes"],
    );
    // What a model was trained on gives the same bits when another begins with it, and when it predicts.
    let mut again = of_images(|images| images.size = Some((8, 9)));
    again.schema = Some(data.facts.schema.clone());
    again.test = HeldOut::Fraction(0.4);
    again.split = SplitRule::Stratified;
    assert_eq!(load(&animals(), &again).unwrap().train, data.train);
    again.train = SourceSpec::Images(ImageOptions {
        uri: "i".into(),
        size: Some((9, 8)),
        color: None,
    });
    assert_error("size", load(&animals(), &again), &["8 x 9 pixels"]);
    again.train = SourceSpec::Images(ImageOptions {
        uri: "i".into(),
        size: None,
        color: Some(Color::Grayscale),
    });
    assert_error(
        "color",
        load(&animals(), &again),
        &["`color` is not that of the initial model"],
    );
}

#[test]
fn c37_images_are_predicted_with_the_bits_of_training_part_by_part() {
    let mut options = of_images(|_| {});
    options.normalization = Normalization::Standardize;
    let data = load(&animals(), &options).unwrap();
    let limits = Limits::default();
    let files = animals();
    let rows = |uris: &[&str]| {
        let uris: Vec<String> = uris.iter().map(|uri| (*uri).to_owned()).collect();
        Rows::images(&data.facts.schema, &files, &uris, &limits)
    };
    let (all, told) = encode_all(rows(&["i"]).unwrap()).unwrap();
    assert_eq!(all.table.features, data.train.features);
    assert_eq!(all.table.labels, data.train.labels);
    let names = [
        "i/cats/a.png",
        "i/cats/g.png",
        "i/dogs/a.png",
        "i/dogs/b.JPG",
        "i/dogs/more/c.jpeg",
    ];
    assert_eq!(all.ids, names);
    assert_eq!(told.len(), 2, "{told:?}");
    let (_, told) = encode_all(rows(&["i/dogs", "i/cats"]).unwrap()).unwrap();
    assert!(
        told[0].starts_with("i/cats: \"i/cats/Thumbs.db\" is no PNG"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("i/dogs and 1 more: 1 image with transparency"),
        "{told:?}"
    );
    let mut parts = rows(&["i/"]).unwrap();
    let mut features = Vec::new();
    while let Some(part) = parts.next(2).unwrap() {
        assert!(part.table.rows <= 2);
        features.extend(part.table.features);
    }
    assert_eq!(features, data.train.features);
    // Images by themselves have no label.
    let (some, _) = encode_all(rows(&["i/dogs/a.png", "i/cats"]).unwrap()).unwrap();
    assert_eq!((some.table.rows, some.table.labels.len()), (3, 0));
    assert_error(
        "none",
        rows(&["i/birds"]).map(|_| ()),
        &["i/birds", "no such folder"],
    );
}

#[test]
fn c37_what_is_wrong_with_a_folder_of_images_is_told_with_all_files() {
    let load = |files: Memory| load(&files, &of_images(|_| {}));
    let good = || twice(&file("rgb-8.png"));
    assert_error(
        "nothing",
        load(Memory::default()),
        &["i: there is no such folder, or no file is in it"],
    );
    assert_error(
        "no images",
        load(Memory::default().with("i/a/x.txt", "x")),
        &["none of its 1 files is a PNG or JPEG"],
    );
    assert_error(
        "flat",
        load(
            Memory::default()
                .with("i/cat.1.png", "")
                .with("i/dog.1.png", ""),
        ),
        &["2 images, such as \"i/cat.1.png\", lie in no folder of a class"],
    );
    assert_error(
        "one class",
        load(Memory::default().with("i/a/1.png", file("rgb-8.png"))),
        &["at least two classes, found only \"a\""],
    );
    assert_error(
        "empty",
        load(good().with("i/b/2.png", "")),
        &["i/b/2.png: the file is empty"],
    );
    assert_error(
        "text",
        load(good().with("i/b/2.png", "hello")),
        &["i/b/2.png: expected a PNG or JPEG image, found other first bytes: [68, 65, 6c, 6c]"],
    );
    assert_error(
        "gif",
        load(good().with("i/b/2.gif", "GIF89a")),
        &["i/b/2.gif: expected a PNG or JPEG image, found a GIF image; convert it"],
    );
    assert_error(
        "webp",
        load(good().with("i/b/2.jpg", "RIFF\0\0\0\0WEBP")),
        &["found a WebP image"],
    );
    let two = good()
        .with("i/b/2.png", "GIF89a")
        .with("i/b/3.png", file("420.jpg")[..300].to_vec());
    assert_error(
        "two",
        load(two),
        &[
            "2 of 4 images cannot be used:\n  i/b/2.png: expected",
            "\n  i/b/3.png: ",
        ],
    );
    let other = good().with("i/b/2.png", small_png());
    assert_error(
        "size",
        load(other),
        &[
            "i/b/2.png: the image has 1 x 1 pixels (height x width), and 19 x 27 are expected; set `height` and `width`",
        ],
    );
    assert_error(
        "huge",
        load(good().with("i/b/2.png", huge_png())),
        &["i/b/2.png: 100000 x 100000 pixels are over 67108864"],
    );
    let mut many = good();
    for place in 0..30 {
        many = many.with(&format!("i/b/x{place:02}.png"), "");
    }
    assert_error(
        "many",
        load(many),
        &["30 of 32 images cannot be used", "x09.png", "and 20 more"],
    );
    // One that is too large does not keep the others from being told.
    let files = good()
        .with("i/b/2.png", huge_png())
        .with("i/b/3.png", "")
        .with("i/b/4.png", wrong_checksum());
    assert_error(
        "several",
        load(files),
        &[
            "3 of 5 images cannot be used:",
            "i/b/2.png: 100000 x 100000 pixels are over",
            "i/b/3.png: the file is empty\n",
            "i/b/4.png: a checksum in it is wrong; write them again",
        ],
    );
    let mut regression = of_images(|_| {});
    regression.task = Task::Regression;
    assert_error(
        "regression",
        trainyard_data::load(&good(), &regression),
        &["the task is a regression"],
    );
    let mut little = of_images(|_| {});
    little.limits.memory = 12_000;
    assert_error(
        "memory",
        trainyard_data::load(&good(), &little),
        &["MiB of memory are at hand"],
    );
}

/// A PNG of which a byte was changed on its way.
fn wrong_checksum() -> Vec<u8> {
    let mut bytes = file("rgb-8.png");
    bytes[29] ^= 1; // of the checksum of the header
    bytes
}

/// A PNG of one pixel.
fn small_png() -> Vec<u8> {
    png_of(1, 1)
}

/// A PNG whose header claims very many pixels.
fn huge_png() -> Vec<u8> {
    png_of(100_000, 100_000)
}

fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    if (width, height) == (1, 1) {
        writer.write_image_data(&[7]).unwrap();
    }
    drop(writer);
    out
}

#[test]
fn c37_a_folder_of_this_machine_is_read_like_one_of_a_store() {
    let root = tempfile::tempdir().unwrap();
    let files = [("a", "rgb-8.png"), ("b", "444.jpg"), ("b c", "420.jpg")];
    let mut memory = Memory::default();
    for (class, name) in files {
        let place = root.path().join("i").join(class);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(name), file(name)).unwrap();
        memory = memory.with(&format!("i/{class}/{name}"), file(name));
    }
    let expected = load(&memory, &of_images(|_| {})).unwrap();
    assert_eq!(expected.facts.schema.label.classes, ["a", "b", "b c"]);
    let absolute = root.path().join("i").display().to_string();
    let here = root.path().join("i");
    let places = [
        (root.path(), "i"),
        (root.path(), "i/"),
        (root.path(), "./i"),
        (root.path(), &absolute),
        (&here, "."),
        (&here, "./"),
    ];
    for (root, uri) in places {
        let options = of_images(|images| images.uri = uri.into());
        let data = load(&Folder::new(root), &options).unwrap();
        assert_eq!(data.facts.digest, expected.facts.digest, "{uri}");
    }
}

proptest! {
    /// Whatever happens to a file, it is an image or a clear error.
    #[test]
    fn c37_damaged_images_are_refused_or_decoded(
        name in proptest::sample::select(vec![
            "420.jpg", "444.jpg", "cmyk.jpg", "gray.jpg", "optimized.jpg", "progressive.jpg", "restart.jpg",
            "gray-1.png", "palette-alpha.png", "rgb-16.png", "rgb-interlaced.png",
        ]),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = file(name);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut options = of_images(|_| {});
        options.limits.threads = 1;
        if let Err(error) = load(&twice(&bytes), &options) {
            prop_assert!(!error.problem.is_empty());
        }
    }
}
