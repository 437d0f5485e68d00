//! What processes and the operator say to each other in texts and arguments.

use std::str::FromStr;

use trainyard_contract::{
    ExportReport, Key, Member, MemberCommand, Progress, Report, Role, TERMINATION_MESSAGE_LIMIT,
    cut_termination_message,
};
use trainyard_runtime::{exit, memory, net, storage};

use crate::again;

/// Reads the input as each of the texts; and its lines as arguments of a process.
pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    if let Some(report) = Report::from_message(&text) {
        again(&report);
        let told = report.clone().with_warnings(&report.warnings);
        again(&told);
    }
    if let Some(report) = ExportReport::from_message(&text) {
        again(&report);
    }
    if let Ok(progress) = serde_json::from_str::<Progress>(&text) {
        again(&progress);
    }
    let cut = cut_termination_message(text.to_string());
    assert!(cut.len() <= TERMINATION_MESSAGE_LIMIT && text.starts_with(&cut));
    if let Ok(key) = Key::from_text(&text) {
        assert!(text.trim_ascii().eq_ignore_ascii_case(&key.to_text()));
    }
    let _ = (exit::last_error(&text), memory::was_refused(&text));
    names(&text);
    arguments(&text)
}

fn names(text: &str) {
    for line in text.lines().take(16) {
        as_written::<Member>(line);
        as_written::<Role>(line);
        as_written::<net::Address>(line);
        if let Ok(address) = line.parse::<trainyard_object::Address>() {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        let _ = line.parse::<storage::Location>();
    }
}

/// What is read from a text is written as that text.
fn as_written<T: FromStr + std::fmt::Display>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text);
    }
}

/// Whether the lines are arguments.
fn arguments(text: &str) -> bool {
    let Ok(command) = MemberCommand::from_args(text.lines()) else {
        return false;
    };
    match MemberCommand::from_args(command.to_args()) {
        Ok(again) => assert_eq!(again, command),
        Err(error) => panic!("{command:?} is refused: {error}"),
    }
    true
}
