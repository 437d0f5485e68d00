//! What a worker tells the coordinator, in messages that fit a frame.

use std::io;

use trainyard_contract::MAX_WARNINGS_OF_WORKERS as MOST;
use trainyard_core::control::{Block, ToCoordinator};
use trainyard_core::facts::DataFacts;
use trainyard_core::metrics::BlockResult;
use trainyard_core::wire::MAX_CONTROL_BYTES;
use trainyard_runtime::exit::BadInput;

/// Bytes of JSON that the facts of the data may take. They travel in a join and, beside a manifest
/// that holds them once more, to servers that are opened; the rest is for everything else in it.
const FACTS_BYTES: usize = MAX_CONTROL_BYTES as usize * 7 / 16;
/// Bytes of evaluation results in a message, so that heartbeats get a word in between.
const BATCH_BYTES: usize = MAX_CONTROL_BYTES as usize / 4;

/// Counts what is written.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of a value as JSON.
fn json_bytes<T: serde::Serialize>(value: &T) -> usize {
    let mut count = Count(0);
    // What has no JSON form is refused when it is sent.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// Whether the facts of the data can be told to the coordinator.
///
/// # Errors
/// [`BadInput`] with the limit and the remedy: no attempt would ever succeed.
pub(super) fn check(facts: &DataFacts) -> Result<(), BadInput> {
    let bytes = json_bytes(facts);
    if bytes <= FACTS_BYTES {
        return Ok(());
    }
    let inputs: u64 = facts.input_shape.iter().product();
    Err(BadInput(format!(
        "the description of the data's {inputs} inputs and {} outputs (names, categories, classes, \
         means and deviations) takes {bytes} bytes, and {FACTS_BYTES} are allowed: use fewer or \
         shorter ones; arrays (spec.data.train.npy) have no column names, and \
         spec.data.normalization: None keeps means and deviations short",
        facts.outputs
    )))
}

/// The warnings to tell, of all that there are in the log. Some room is left for the coordinator's own.
pub(super) fn warnings(mut all: Vec<String>) -> Vec<String> {
    if all.len() > MOST {
        let more = all.len() - (MOST - 1);
        all.truncate(MOST - 1);
        all.push(format!("{more} more warnings are in the log of the worker"));
    }
    all
}

/// Evaluation results in as many messages as they need.
pub(super) fn batches(
    results: impl IntoIterator<Item = (Block, BlockResult)>,
) -> Vec<Vec<(Block, BlockResult)>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut room = 0;
    for result in results {
        let bytes = json_bytes(&result) + 1; // and a comma
        match batches.last_mut() {
            Some(batch) if bytes <= room => {
                room -= bytes;
                batch.push(result);
            }
            _ => {
                room = BATCH_BYTES.saturating_sub(bytes);
                batches.push(vec![result]);
            }
        }
    }
    batches
}

/// Sends a message through `send`. One that has no form on the wire ends the job by name, for it
/// would have none anywhere.
pub(super) fn send(message: &ToCoordinator, send: impl Fn(&ToCoordinator) -> io::Result<()>) {
    let result = send(message);
    // A broken stream is noticed by the thread that listens to it.
    if let Err(error) = result
        && error.kind() == io::ErrorKind::InvalidData
    {
        let message = format!("a message to the coordinator cannot be sent: {error}");
        let _ = send(&ToCoordinator::Failed { message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use trainyard_core::control::RowSet;
    use trainyard_core::metrics::{Detail, Task};
    use trainyard_core::schema::{ArrayInput, InputKind, InputSchema, Label};
    use trainyard_core::wire::{Body, Header, encode_control};

    fn encoded(message: &ToCoordinator) -> Result<usize, String> {
        let header = Header {
            job: u64::MAX,
            generation: u32::MAX,
            incarnation: u64::MAX,
            payload: u32::MAX,
            body: Body::Control { len: 0 },
        };
        let frame = encode_control(header, message).map_err(|error| error.to_string())?;
        Ok(frame.len())
    }

    /// As many classes as the data may have, and rows in each, as far as a block has them.
    fn result(block: u64, classes: usize) -> (Block, BlockResult) {
        let counts = vec![12; classes];
        let detail = Detail::Multiclass {
            labelled: counts.clone(),
            predicted: counts.clone(),
            correct: counts,
        };
        let result = BlockResult {
            rows: 1024,
            loss_sum: 0.1,
            detail,
        };
        (Block(RowSet::Validation, block), result)
    }

    #[test]
    fn t15_warnings_that_are_not_told_are_counted() {
        let many = |count: usize| (0..count).map(|number| number.to_string()).collect();
        assert_eq!(warnings(many(12)), many(12));
        let told = warnings(many(20));
        assert_eq!(told[..11], many(11)[..]);
        assert_eq!(told[11..], ["9 more warnings are in the log of the worker"]);
    }

    #[test]
    fn t15_results_of_many_classes_are_told_in_as_many_messages_as_they_need() {
        let all: Vec<_> = (0..64).map(|block| result(block, 65_536)).collect();
        let one = ToCoordinator::Blocks {
            id: 1,
            results: all.clone(),
        };
        assert!(encoded(&one).is_err(), "they do not fit in one");
        let batches = batches(all.clone());
        for results in &batches {
            let message = ToCoordinator::Blocks {
                id: u64::MAX,
                results: results.clone(),
            };
            let bytes = encoded(&message).expect("a frame");
            assert!(bytes <= BATCH_BYTES + 1024, "{bytes}");
        }
        assert_eq!(batches.concat(), all, "all of them, in order");
    }

    #[test]
    fn few_results_are_told_at_once() {
        let all: Vec<_> = (0..500).map(|block| result(block, 10)).collect();
        assert_eq!(batches(all.clone()), [all]);
        assert!(batches(Vec::new()).is_empty());
    }

    #[test]
    fn t15_what_cannot_be_sent_ends_the_job_by_name() {
        let sent = RefCell::new(Vec::new());
        let wire = |message: &ToCoordinator| match encoded(message) {
            Ok(_) => {
                sent.borrow_mut().push(message.clone());
                Ok(())
            }
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        let results = vec![result(0, 1 << 20)]; // a block that does not fit by itself
        send(&ToCoordinator::Blocks { id: 1, results }, wire);
        let [ToCoordinator::Failed { message }] = &sent.borrow()[..] else {
            panic!("{:?}", sent.borrow().len())
        };
        assert!(message.contains("payload length"), "{message}");
        // Where the stream is broken there is nobody to tell.
        send(&ToCoordinator::Drain, |_| {
            Err(io::ErrorKind::BrokenPipe.into())
        });
    }

    #[test]
    fn t15_facts_that_fit_in_a_join_fit_beside_a_manifest_too() {
        let schema = |name: String| InputSchema {
            task: Task::Regression,
            input: InputKind::Array(ArrayInput {
                shape: vec![1],
                dtype: "f4".into(),
                mean: vec![0.0],
                std: vec![1.0],
                resize: false,
            }),
            label: Label {
                name,
                classes: Vec::new(),
                numeric: true,
                scale: None,
                link: None,
                threshold: None,
            },
        };
        let facts = |names: usize| DataFacts {
            train_rows: 1,
            validation_rows: 0,
            test_rows: 0,
            input_shape: vec![names as u64],
            outputs: 1,
            digest: String::new(),
            schema: schema("x".repeat(names)),
        };
        check(&facts(FACTS_BYTES - 1024)).expect("they fit");
        let error = check(&facts(FACTS_BYTES))
            .expect_err("they do not")
            .to_string();
        assert!(error.contains(&FACTS_BYTES.to_string()), "{error}");
        let spared = MAX_CONTROL_BYTES as usize - 2 * FACTS_BYTES;
        assert!(
            spared >= 512 << 10,
            "for shards and the coordinator's record"
        );
    }
}
