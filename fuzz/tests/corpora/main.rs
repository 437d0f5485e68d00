//! Every corpus through its target, as it is and mutated: what the fuzzer has found once is not found again, and
//! what a change breaks near it shows without a fuzzer.
//!
//! The mutations are the same in every run.

mod memory;
mod mutate;
mod watch;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutate::Mutator;
use trainyard_fuzz::{TARGETS, Target, target};

/// Mutations of each file.
const MUTATIONS: usize = 60;

/// Most bytes that may be held at any time for an input.
const MOST_BYTES: usize = 256 << 20;

/// Longest input.
const LONGEST: usize = 64 << 10;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name)
}

/// Names and contents of a target's corpus, in the order of the names.
fn files(name: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(corpus(name)).expect("each target has a corpus");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read(entry.path()).expect("readable"))
        })
        .collect();
    files.sort();
    files
}

/// Runs one input; what is wrong names the file that it comes from, and where the input itself is kept. Whether it was read.
fn run(target: &Target, origin: &str, input: &[u8]) -> bool {
    let watched = watch::begin(target.name, origin, input);
    let (result, most) =
        memory::most_during(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    drop(watched);
    let problem = match result {
        Err(_) => "it panics, as told above".to_owned(),
        Ok(_) if most > MOST_BYTES => format!("it holds {most} bytes"),
        Ok(read) => return read,
    };
    let kept = watch::keep(target.name, input);
    panic!(
        "{}: {origin}: {problem}; the input is in {}",
        target.name,
        kept.display()
    );
}

/// Replays a corpus, of which the files `sound` are to be read to their end.
fn replay(name: &str, sound: &[&str]) {
    let target = target(name).expect("there is such a target");
    let files = files(name);
    let is_read = |(file, bytes): &&(String, Vec<u8>)| run(target, file, bytes);
    let read: Vec<&str> = files
        .iter()
        .filter(is_read)
        .map(|(file, _)| file.as_str())
        .collect();
    for file in sound {
        assert!(
            read.contains(file),
            "{name}: {file} is not read to its end; those that are: {read:?}"
        );
    }
    let contents: Vec<&[u8]> = files.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    for (at, (file, bytes)) in files.iter().enumerate() {
        let mut mutator = Mutator::new(at as u64, &contents);
        for number in 0..MUTATIONS {
            let input = mutator.mutate(bytes, LONGEST);
            run(target, &format!("mutation {number} of {file}"), &input);
        }
    }
}

macro_rules! replays {
    ($($test:ident: $name:literal of which $sound:expr,)*) => {
        $(
            #[test]
            fn $test() {
                replay($name, &$sound);
            }
        )*

        const REPLAYED: &[&str] = &[$($name),*];
    };
}

replays! {
    t13_frames_are_read_or_refused: "frames" of which ["steps-and-bye", "params", "control", "hello-worker"],
    t13_handshakes_are_refused: "handshake" of which ["worker-for-control", "server-for-push", "observer-for-pull", "challenge"],
    t13_control_messages_are_taken_or_refused: "control" of which ["a-whole-job", "validated-and-stopped-early", "to-a-worker"],
    t13_requests_are_answered_or_refused: "http" of which ["metrics", "healthz", "http-1-0"],
    t13_manifests_are_read_or_refused: "manifest" of which ["digits-cnn", "all-fields", "with-changes", "json"],
    t13_jobs_are_read_or_refused: "job" of which ["of-a-cluster"],
    t13_reports_and_arguments_are_read_or_refused: "contract" of which ["server", "worker", "finisher"],
    t13_logs_are_read_or_refused: "log" of which ["sealed", "whole", "short"],
    t13_shards_are_read_or_refused: "shard" of which ["adam-0"],
    t13_artifacts_are_read_or_refused: "artifact" of which ["whole", "whole-of-format-1"],
    t13_tensors_are_read_or_refused: "tensors" of which ["golden-safetensors", "model-safetensors"],
    t15_text_is_data_or_refused: "csv" of which ["toy", "quoted", "gzip"],
    t15_arrays_are_data_or_refused: "arrays" of which ["npy", "idx", "npy-gzipped"],
    t15_images_are_data_or_refused: "images" of which ["rgb-8-png", "420-jpg", "progressive-jpg"],
}

#[test]
fn every_target_is_replayed_and_every_corpus_has_a_target() {
    let targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(REPLAYED, targets);
    for entry in fs::read_dir(corpus("")).expect("a folder") {
        let name = entry.expect("readable").file_name();
        assert!(targets.iter().any(|target| name == *target), "{name:?}");
    }
}

#[test]
fn what_an_input_makes_a_target_hold_is_counted() {
    let (bytes, most) = memory::most_during(|| {
        drop(vec![1_u8; 3 << 20]);
        vec![1_u8; 1 << 20]
    });
    assert_eq!(bytes.len(), 1 << 20);
    assert!((3 << 20..4 << 20).contains(&most), "{most}");
}

#[test]
fn mutations_differ_from_each_other_and_not_from_run_to_run() {
    let corpus: [&[u8]; 2] = [b"{\"step\": 12, \"loss\": 0.5}", b"another file"];
    let mutations = |seed| {
        let mut mutator = Mutator::new(seed, &corpus);
        (0..100)
            .map(|_| mutator.mutate(corpus[0], 64))
            .collect::<Vec<_>>()
    };
    let (first, again, other) = (mutations(1), mutations(1), mutations(2));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(first.iter().all(|input| input.len() <= 64));
    let mut distinct = first.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 80, "{}", distinct.len());
}
