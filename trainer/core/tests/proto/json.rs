//! The JSON of control messages that carry facts and records.
//!
//! The fixtures are messages as the processes of a job exchange them, one a line. They stay as they
//! are: another text is another version of the wire.

use serde::Serialize;
use serde::de::DeserializeOwned;
use trainyard_core::control::{FromCoordinator, ToCoordinator};

/// Decodes and encodes again each line.
fn assert_unchanged<T: Serialize + DeserializeOwned>(fixture: &str) {
    for line in fixture.lines() {
        let message: T = serde_json::from_str(line).expect(line);
        assert_eq!(serde_json::to_string(&message).expect("JSON"), line);
    }
}

#[test]
fn messages_to_the_coordinator_keep_their_bytes() {
    assert_unchanged::<ToCoordinator>(include_str!("../fixtures/to_coordinator.jsonl"));
}

#[test]
fn messages_from_the_coordinator_keep_their_bytes() {
    assert_unchanged::<FromCoordinator>(include_str!("../fixtures/from_coordinator.jsonl"));
}
