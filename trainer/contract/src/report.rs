//! The termination message: what a process says when it ends.

use serde::{Deserialize, Serialize};

use crate::FinalMetrics;

/// Longest termination message that Kubernetes keeps, in bytes.
pub const TERMINATION_MESSAGE_LIMIT: usize = 4096;

/// The termination message of a server 0 that found or wrote the complete checkpoint. Messages that are neither this nor an
/// [`ExportReport`] are text for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// True: it tells a report from other JSON.
    pub complete: bool,
    /// Steps done.
    #[serde(default)]
    pub step: u64,
    /// Steps of the whole job; fewer were needed if it stopped early.
    #[serde(default)]
    pub total_steps: u64,
    /// Epochs done.
    #[serde(default)]
    pub epochs: u64,
    /// Digest of the model.
    #[serde(
        default,
        rename = "modelSha256",
        skip_serializing_if = "Option::is_none"
    )]
    pub model_sha256: Option<String>,
    /// Where the artifact is, if server 0 has exported it, as it did in the first releases. A finisher does it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Metrics of the model, without reports; those that are not finite are absent.
    #[serde(default)]
    pub metrics: FinalMetrics,
    /// The job's warnings, as far as they fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Bytes of the warnings in a report.
const WARNINGS: usize = 2048;

impl Report {
    /// The message that says this. It is longer than [`TERMINATION_MESSAGE_LIMIT`] only if the artifact's address is.
    pub fn to_message(&self) -> String {
        // Strings, numbers that are finite, and names that are fixed: there is nothing in it that JSON cannot say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Adds the warnings that fit into the message.
    pub fn with_warnings(mut self, warnings: &[String]) -> Self {
        let mut room = WARNINGS;
        let bytes = |text: &String| serde_json::to_string(text).map_or(WARNINGS, |json| json.len());
        let fitting = warnings.iter().take_while(|text| {
            let needed = bytes(text);
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        });
        self.warnings = fitting.cloned().collect();
        self
    }

    /// The report in a termination message, if it is one.
    pub fn from_message(message: &str) -> Option<Report> {
        let report: Report = serde_json::from_str(message).ok()?;
        report.complete.then_some(report)
    }
}

/// The termination message of a finisher that found or wrote the whole artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportReport {
    /// True: it tells a report from other JSON.
    pub exported: bool,
    /// Where the artifact is, as the pods see it.
    #[serde(default)]
    pub artifact: String,
}

impl ExportReport {
    /// The message that says this. It is longer than [`TERMINATION_MESSAGE_LIMIT`] only if the artifact's address is.
    pub fn to_message(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // as above
    }

    /// The report in a termination message, if it is one.
    pub fn from_message(message: &str) -> Option<ExportReport> {
        let report: ExportReport = serde_json::from_str(message).ok()?;
        report.exported.then_some(report)
    }
}

/// Cuts a termination message to [`TERMINATION_MESSAGE_LIMIT`], between two characters.
pub fn cut_termination_message(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TERMINATION_MESSAGE_LIMIT));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    /// What server 0 has said since the first release; operators and images of different versions meet here.
    const MESSAGE: &str = concat!(
        r#"{"complete":true,"step":150,"totalSteps":300,"epochs":10,"#,
        r#""modelSha256":"abababababababababababababababababababababababababababababababab","#,
        r#""artifact":"s3://bucket/runs/digits-01234567/artifact","#,
        r#""metrics":{"train":{"accuracy":0.5},"validation":{}}}"#
    );

    fn report(loss: Option<f64>) -> Report {
        let train = Metrics {
            loss,
            accuracy: Some(0.5),
            ..Metrics::default()
        };
        Report {
            complete: true,
            step: 150,
            total_steps: 300,
            epochs: 10,
            model_sha256: Some("ab".repeat(32)),
            artifact: Some("s3://bucket/runs/digits-01234567/artifact".into()),
            metrics: FinalMetrics {
                train,
                ..FinalMetrics::default()
            },
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_warnings_that_fit_are_told() {
        let told = |warnings: Vec<String>| {
            let message = report(None).with_warnings(&warnings).to_message();
            assert!(
                message.len() <= TERMINATION_MESSAGE_LIMIT,
                "{}",
                message.len()
            );
            Report::from_message(&message).expect("a report").warnings
        };
        assert_eq!(told(vec!["one".into(), "two".into()]), ["one", "two"]);
        let quotes = vec!["\"".repeat(500); 16];
        assert_eq!(told(quotes.clone()), quotes[..2]);
    }

    #[test]
    fn the_text_is_fixed_and_leaves_out_what_is_not_finite() {
        assert_eq!(report(Some(f64::NAN)).to_message(), MESSAGE);
        assert_eq!(report(None).to_message(), MESSAGE);
        assert_eq!(Report::from_message(MESSAGE), Some(report(None)));
    }

    #[test]
    fn only_a_complete_report_is_one() {
        for text in [
            "",
            "the disk is full",
            "{}",
            r#"{"complete":false,"step":3}"#,
            r#"{"step":3}"#,
        ] {
            assert_eq!(Report::from_message(text), None, "{text}");
        }
        let least = Report::from_message(r#"{"complete":true,"metrics":{"validation":null}}"#);
        let expected = Report {
            complete: true,
            ..Report::default()
        };
        assert_eq!(least, Some(expected));
    }

    #[test]
    fn the_text_of_an_export_is_fixed_and_no_other_report_is_one() {
        let text = r#"{"exported":true,"artifact":"/storage/digits-01234567/artifact"}"#;
        let report = ExportReport {
            exported: true,
            artifact: "/storage/digits-01234567/artifact".into(),
        };
        assert_eq!(report.to_message(), text);
        assert_eq!(ExportReport::from_message(text), Some(report));
        assert_eq!(Report::from_message(text), None);
        for text in [
            "",
            "no space left on device",
            r#"{"exported":false}"#,
            MESSAGE,
        ] {
            assert_eq!(ExportReport::from_message(text), None, "{text}");
        }
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let limit = TERMINATION_MESSAGE_LIMIT;
        let cut = |text: String| cut_termination_message(text);
        assert_eq!(cut("x".repeat(limit + 1)), "x".repeat(limit));
        assert_eq!(cut("ä".repeat(limit)), "ä".repeat(limit / 2));
        assert_eq!(cut(format!("x{}", "ä".repeat(limit))).len(), limit - 1);
        assert_eq!(cut("short".into()), "short");
    }
}
