//! Folders of images: from files to a model and its predictions.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use trainyard_s3_server::Server;

use crate::common::{Spec, example, folder, reference, sha};
use crate::tables::{manifest, text_of, trainyard};

/// Handwritten digits that are used.
const DIGITS: usize = 240;
/// Bytes of the header of an NPY file as numpy writes it.
const HEADER: usize = 128;

/// The first of the digits of the examples: images of 8 x 8 bytes, and classes, in the order of the classes.
fn digits() -> Vec<(u8, Vec<u8>)> {
    let read = |name: &str| fs::read(example(name).file).expect("an example");
    let (features, labels) = (
        read("digits/digits-features.npy"),
        read("digits/digits-labels.npy"),
    );
    let images = features[HEADER..].chunks_exact(64).map(<[u8]>::to_vec);
    let mut digits: Vec<(u8, Vec<u8>)> = labels[HEADER..]
        .iter()
        .copied()
        .zip(images)
        .take(DIGITS)
        .collect();
    digits.sort_by_key(|(class, _)| *class);
    digits
}

fn png(pixels: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 8, 8);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(pixels).expect("pixels");
    writer.finish().expect("an end");
    out
}

fn npy(shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

/// The digits as folders of images, and as arrays.
fn place() -> TempDir {
    let place = folder();
    write_images(&place.path().join("digits"));
    let digits = digits();
    let pixels: Vec<u8> = digits
        .iter()
        .flat_map(|(_, pixels)| pixels.clone())
        .collect();
    let classes: Vec<u8> = digits.iter().map(|(class, _)| *class).collect();
    let write =
        |name: &str, bytes: Vec<u8>| fs::write(place.path().join(name), bytes).expect("writable");
    write("x.npy", npy(&format!("({DIGITS}, 8, 8)"), &pixels));
    write("y.npy", npy(&format!("({DIGITS},)"), &classes));
    place
}

fn write_images(root: &Path) {
    for (place, (class, pixels)) in digits().iter().enumerate() {
        let class = root.join(class.to_string());
        fs::create_dir_all(&class).expect("writable");
        fs::write(class.join(format!("{place:04}.png")), png(pixels)).expect("writable");
    }
}

fn spec(place: &Path, name: &str, train: &str) -> Spec {
    let file = place.join(name);
    let data = format!("{{train: {train}, validation: {{fraction: 0.2}}}}");
    let text = manifest("{multiclassClassification: {}}", &data);
    let cnn = "{cnn: {blocks: [{channels: 8, pool: 2}], hidden: [16]}}";
    fs::write(&file, text.replace("{mlp: {hidden: [16]}}", cnn)).expect("writable");
    Spec {
        file,
        ..example("digits/cnn.yaml")
    }
}

/// One digest over workers, servers and a kill, that of the same numbers as an array, and either is predicted with a model of the other.
#[test]
fn c37_images_give_the_model_of_the_same_array() {
    let place = place();
    let images = spec(place.path(), "images.yaml", "{images: {uri: digits}}");
    let arrays = spec(
        place.path(),
        "arrays.yaml",
        "{npy: {features: x.npy, labels: y.npy}}",
    );
    let expected = reference::train(&images);
    let out = |name: &str| place.path().join(name);
    for (spec, workers, servers, name) in [
        (&images, 1, 1, "one"),
        (&images, 3, 2, "several"),
        (&arrays, 2, 1, "array"),
    ] {
        let summary = spec.clone().on(workers, servers).start(&out(name)).finish();
        assert_eq!(sha(&summary), expected.sha, "{name}");
    }
    let longer = images.epochs(60);
    let expected = reference::train(&longer);
    let mut run = longer.on(2, 2).start(&out("killed"));
    run.reach(20);
    run.send("worker", 0, Signal::KILL);
    assert_eq!(sha(&run.finish()), expected.sha);

    let predict = |args: &[&str]| {
        let ended = trainyard(place.path(), args);
        let told = text_of(&ended.stderr);
        assert!(ended.status.success(), "{args:?}: {told}");
        (text_of(&ended.stdout), told)
    };
    let (of_images, told) =
        predict(&["predict", "killed", "--images", "digits", "--probabilities"]);
    assert!(
        told.contains("metrics on 240 rows") && told.contains("accuracy 0.9"),
        "{told}"
    );
    assert!(
        of_images.starts_with("image,row,prediction,probability,probability_0,"),
        "{of_images}"
    );
    assert!(
        of_images.contains("\ndigits/0/0000.png,0,0,"),
        "{of_images}"
    );
    let (of_array, _) = predict(&[
        "predict",
        "killed",
        "--npy",
        "x.npy",
        "--labels",
        "y.npy",
        "--probabilities",
    ]);
    let without_names: Vec<&str> = of_images
        .lines()
        .map(|line| line.split_once(',').unwrap().1)
        .collect();
    assert_eq!(without_names, of_array.lines().collect::<Vec<_>>());
    let (by_themselves, told) = predict(&[
        "predict",
        "array",
        "--images",
        "digits/3/0080.png",
        "./digits/4",
        "--json",
        "--limit",
        "1",
    ]);
    let line: Value = serde_json::from_str(by_themselves.lines().next().unwrap()).unwrap();
    assert_eq!(line["ids"]["image"], "digits/3/0080.png", "{by_themselves}");
    assert!(
        line.get("label").is_none() && !told.contains("metrics"),
        "{line} {told}"
    );
    let refused = trainyard(place.path(), &["predict", "killed", "--images", "x.npy"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text_of(&refused.stderr).contains("x.npy: there is no such folder"),
        "{}",
        text_of(&refused.stderr)
    );
}

#[test]
fn c37_init_writes_a_manifest_for_a_folder_of_images() {
    let place = place();
    let run = |args: &[&str]| {
        let ended = trainyard(place.path(), args);
        (
            ended.status.code(),
            text_of(&ended.stdout),
            text_of(&ended.stderr),
        )
    };
    let (code, told, _) = run(&["init", "digits"]);
    assert_eq!(code, Some(0));
    assert!(told.contains("240 images of 10 classes"), "{told}");
    let text = fs::read_to_string(place.path().join("job.yaml")).unwrap();
    assert!(
        text.contains("images:\n        uri: digits\n    validation"),
        "{text}"
    );
    let (code, _, told) = run(&["run", "job.yaml", "--set", "spec.training.epochs=40"]);
    assert_eq!(code, Some(0), "{told}");
    let (_, _, told) = run(&["predict", "runs/digits", "--images", "digits"]);
    assert!(
        told.contains("accuracy 0.9") || told.contains("accuracy 1.0"),
        "{told}"
    );
    // One of another size.
    let other = fs::read(example("../trainer/data/tests/fixtures/images/gray-8.png").file).unwrap();
    fs::write(place.path().join("digits/7/other.png"), other).unwrap();
    let (code, ..) = run(&["init", "digits", "--overwrite"]);
    assert_eq!(code, Some(0));
    let text = fs::read_to_string(place.path().join("job.yaml")).unwrap();
    assert!(
        text.contains("        height: 8\n        width: 8\n"),
        "{text}"
    );
    for (args, problem) in [
        (
            &["init", "digits", "--label", "x", "--output", "a.yaml"][..],
            "leave --label out",
        ),
        (
            &[
                "init",
                "digits",
                "--task",
                "regression",
                "--output",
                "a.yaml",
            ],
            "are classes",
        ),
        (
            &["init", "digits/7", "--output", "a.yaml"],
            "lie in no folder of a class",
        ),
        (&["init", "x.npy", "--output", "a.yaml"], "--label COLUMN"),
    ] {
        let (code, _, told) = run(args);
        assert!(
            code == Some(2) && told.contains(problem),
            "{args:?}: {told}"
        );
    }
}

#[test]
fn c37_images_of_a_bucket_give_the_model_of_those_of_a_folder() {
    let place = place();
    let store = folder();
    write_images(&store.path().join("data/some/digits"));
    let server = Server::start(store.path()).expect("a server");
    let here = spec(
        place.path(),
        "here.yaml",
        "{images: {uri: digits, height: 6, width: 9}}",
    );
    let expected = reference::train(&here);
    let there = "{images: {uri: \"s3://data/some/digits/\", height: 6, width: 9}}";
    let there = spec(place.path(), "there.yaml", there);
    let endpoint = format!("{{endpoint: \"{}\"}}", server.endpoint());
    let there = there.set("data.s3", endpoint);
    let there = server
        .env()
        .into_iter()
        .fold(there, |spec, (name, value)| spec.env(&name, &value));
    let out = folder();
    let summary = there.on(2, 1).start(out.path()).finish();
    assert_eq!(sha(&summary), expected.sha);
}
