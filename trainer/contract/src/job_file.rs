//! The job file: what the processes of a job are told to train.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The newest set of defaults that determine the model.
///
/// Such a default never changes under a job or artifact that exists. One that changes raises this number; jobs and artifacts keep
/// theirs. Absent, it is 1, so that what was written before has the digests that it had.
///
/// 2. In a CSV column that is categorical, `NA` and `NaN` are missing values, as in one of numbers; they were categories. An epoch
///    whose metric is undefined does not count for early stopping; it counted as no improvement.
/// 3. The types of columns, and what is done about the missing values of each.
/// 4. The target of a regression is standardized. A fraction for validation has each class's share. Losses, weights and thresholds.
pub const DEFAULTS: u32 = 4;

/// A job as its processes read it: a `TrainingJob` in JSON, with all defaults applied. Everything that determines the model
/// is in `spec`.
///
/// The operator writes its choice of the spec into a ConfigMap, `trainyard run` writes the whole manifest into its folder.
/// `Spec` and `Metadata` are types of the API, which this crate does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobFile<Metadata, Spec> {
    /// Group and version of the API.
    pub api_version: String,
    /// Kind in that API.
    pub kind: String,
    /// Name, and on a cluster namespace and uid.
    pub metadata: Metadata,
    /// What is trained.
    pub spec: Spec,
    /// Which defaults that determine the model the spec was completed with: see [`DEFAULTS`].
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub defaults: u32,
}

fn first() -> u32 {
    1
}

fn is_first(defaults: &u32) -> bool {
    *defaults == first()
}

/// What the operator says of a job beside its spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodJobMetadata {
    /// Name of the job.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
}

impl<Metadata, Spec> JobFile<Metadata, Spec> {
    /// Checks that this is a file of the kind, and with the defaults, that the reader knows.
    ///
    /// # Errors
    /// If it is another.
    pub fn is_a(&self, api_version: &str, kind: &str) -> Result<(), OtherKind> {
        let is_kind = self.api_version == api_version && self.kind == kind;
        if is_kind && (first()..=DEFAULTS).contains(&self.defaults) {
            return Ok(());
        }
        if is_kind {
            return Err(OtherKind {
                found: format!("job with defaults {}", self.defaults),
                known: format!("job with defaults {} to {DEFAULTS}", first()),
            });
        }
        Err(OtherKind {
            found: format!("{} of {}", self.kind, self.api_version),
            known: format!("{kind} of {api_version}"),
        })
    }
}

/// A job file of a kind that the reader does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherKind {
    found: String,
    known: String,
}

impl fmt::Display for OtherKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OtherKind { found, known } = self;
        write!(
            f,
            "the job is a {found}, and this trainer knows only a {known}: use an image of the operator's version"
        )
    }
}

impl std::error::Error for OtherKind {}

#[cfg(test)]
mod tests {
    use super::*;

    type File = JobFile<PodJobMetadata, Vec<u32>>;

    #[test]
    fn a_job_file_names_its_kind_and_is_read_as_it_was_written() {
        let file = File {
            api_version: "example.org/v1".into(),
            kind: "Job".into(),
            metadata: PodJobMetadata {
                name: "a".into(),
                namespace: "team".into(),
                uid: "1".into(),
            },
            spec: vec![3],
            defaults: 1,
        };
        let text = serde_json::to_string(&file).expect("JSON");
        let expected = r#"{"apiVersion":"example.org/v1","kind":"Job","metadata":{"name":"a","namespace":"team","uid":"1"},"spec":[3]}"#;
        assert_eq!(text, expected);
        assert_eq!(
            serde_json::from_str::<File>(&text).expect("a job file"),
            file
        );
        assert_eq!(file.is_a("example.org/v1", "Job"), Ok(()));
        for (version, kind) in [("example.org/v2", "Job"), ("example.org/v1", "Model")] {
            let error = file.is_a(version, kind).expect_err("another kind");
            let told = error.to_string();
            assert!(
                told.contains("Job of example.org/v1") && told.contains(version),
                "{told}"
            );
        }
        let none = File {
            defaults: 0,
            ..file.clone()
        };
        let error = none.is_a("example.org/v1", "Job").expect_err("no defaults");
        assert!(error.to_string().contains("defaults 0"), "{error}");
        let later = File {
            defaults: DEFAULTS + 1,
            ..file
        };
        let text = serde_json::to_string(&later).expect("JSON");
        assert!(text.ends_with(r#","defaults":5}"#), "{text}");
        let error = later
            .is_a("example.org/v1", "Job")
            .expect_err("unknown defaults");
        assert!(error.to_string().contains("defaults 5"), "{error}");
    }
}
