//! A manifest as a user writes it, with changes from the command line.

use trainyard_contract::DEFAULTS;
use trainyard_crds::manifest::{ManifestErrors, Place, read, read_with};

use crate::job;

/// Reads the input up to the first zero byte as a manifest, and what follows, between zero bytes, as changes to it.
pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.split('\0');
    let manifest = parts.next().unwrap_or_default();
    let set: Vec<String> = parts.map(str::to_owned).collect();
    match read_with("job.yaml", manifest, &set) {
        Err(errors) => {
            told(manifest, &set, &errors);
            false
        }
        Ok(read_job) => {
            let json = serde_json::to_string(&read_job).expect("a job has a JSON form");
            match read("job.json", &json) {
                Ok(again) => assert_eq!(again, read_job),
                Err(errors) => panic!("written as {json}, it is refused: {errors}"),
            }
            job::used(read_job, DEFAULTS);
            true
        }
    }
}

/// What is wrong is said in bounds, and where it is.
fn told(manifest: &str, set: &[String], errors: &ManifestErrors) {
    assert!(!errors.errors().is_empty());
    // YAML ends a line at a carriage return, too.
    let lines = manifest.split(['\n', '\r']).count();
    for error in errors.errors() {
        match error.place {
            Place::Set(index) => assert!(index < set.len(), "{error}"),
            // An end of the file that is missed is behind its last line.
            Place::Text { line, column } => {
                assert!((1..=lines + 1).contains(&line) && column > 0, "{error}");
            }
        }
    }
    // Text of the input is quoted: a few times, with what is wrong with it.
    let bound = 50 * (1024 + 4 * (manifest.len() + set.iter().map(String::len).sum::<usize>()));
    assert!(errors.to_string().len() <= bound);
}
