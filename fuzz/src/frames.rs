//! Frames of the wire, whatever they are for.

use trainyard_core::layout::{Init, Layout, Param};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::sampling::Plan;
use trainyard_core::schedule::{LearningRate, Schedule};
use trainyard_core::session::{Admission, Session};
use trainyard_core::shard::{Chunk, Gate, Judgement, Passes, Progress, Push, Pusher, Rules, Taken};
use trainyard_core::tree::Tree;
use trainyard_core::wire::{
    Body, ControlDecoder, HEADER_LEN, Header, Limits, WireError, as_bytes_mut, checksum,
};
use trainyard_runtime::net::{read_header, read_payload};

/// The job and generation of whoever reads.
const JOB: u64 = 1;
const GENERATION: u32 = 1;

/// Who has opened the connection.
const PUSHER: Pusher = Pusher {
    index: 0,
    incarnation: 1,
};

/// Reads a connection's bytes, as they are and with checksums that match.
pub fn run(input: &[u8]) -> bool {
    let mut whole = false;
    for bytes in [input, &mended(input)] {
        whole |= read(bytes) > 0;
        in_pieces(bytes);
    }
    whole
}

/// The same frames, as far as they follow each other, with the checksums that they should have.
pub(crate) fn mended(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEADER_LEN) {
        let length = u32::from_le_bytes(std::array::from_fn(|i| head[20 + i])) as usize;
        let payload_at = at + HEADER_LEN;
        let end = payload_at.saturating_add(length).min(bytes.len());
        let payload = checksum(&bytes[payload_at..end]).to_le_bytes();
        bytes[at + 60..at + 64].copy_from_slice(&payload);
        let header = checksum(&bytes[at..at + 64]).to_le_bytes();
        bytes[at + 64..at + 68].copy_from_slice(&header);
        at = end;
    }
    bytes
}

/// Reads frame after frame, as the threads of a server and a worker do. Gives the number of those that were whole.
fn read(mut stream: &[u8]) -> usize {
    let mut server = Server::new();
    let mut worker = Session::new(Tree::new(2).expect("two leaves"), 1);
    let mut frames = 0;
    loop {
        let start = stream;
        let Ok(header) = read_header(&mut stream, &Limits::default()) else {
            return frames;
        };
        assert_eq!(start[..HEADER_LEN], header.encode(), "it has one encoding");
        let length = header.body.payload_len() as usize;
        let mut floats = vec![0.0; length.div_ceil(4)];
        let payload = &mut as_bytes_mut(&mut floats)[..length];
        if read_payload(&mut stream, &header, payload).is_err() {
            return frames;
        }
        frames += 1;
        match header.body {
            Body::Push { .. } => server.push(&header, floats),
            Body::Param { version, chunk, .. } => {
                let admitted = worker.admit(version, chunk);
                if matches!(admitted, Admission::Write(_)) {
                    worker.received(version, chunk);
                }
            }
            _ => {}
        }
    }
}

/// A server with one chunk and two steps that may be begun.
struct Server {
    rules: Rules,
    chunk: Chunk,
    progress: Progress,
    gate: Gate,
}

impl Server {
    const FLOATS: u64 = 20;
    const LIMIT: u64 = 2;

    fn new() -> Self {
        let param = Param {
            name: "w".into(),
            shape: vec![Self::FLOATS],
            init: Init::Constant(1.0),
        };
        let layout = Layout::new(vec![param]).expect("it is small");
        let tree = Tree::new(2).expect("two leaves");
        let plan = Plan::new(4, 2, 2, 1).expect("four steps");
        let rules = Rules {
            chunks: 0..1,
            tree,
            optimizer: Optimizer::Sgd {
                momentum: 0.5,
                dampening: 0.0,
                nesterov: false,
                weight_decay: 0.0,
            },
            learning_rate: LearningRate {
                base: 0.5,
                warmup_steps: 0,
                schedule: Schedule::Constant,
                total_steps: plan.total_steps(),
            },
            plan,
            checkpoint_every: 1,
            early_stopping: false,
            layout,
        };
        let floats = rules.floats().len();
        let chunks = rules.chunks_at(0, &vec![1.0; floats], &[vec![0.0; floats]]);
        let mut gate = Gate::new(tree);
        let members = vec![PUSHER];
        let limit = Self::LIMIT;
        gate.set(Passes { limit, members }, 0);
        Server {
            chunk: chunks.expect("the lengths are right").remove(0),
            progress: Progress::new(1, 0),
            gate,
            rules,
        }
    }

    fn push(&mut self, header: &Header, values: Vec<f32>) {
        let Ok(push) = Push::announced(header, JOB, GENERATION, &self.rules) else {
            return;
        };
        let reached = self.progress.version();
        if self.gate.judge(PUSHER, &push, reached) != Judgement::Pass {
            return;
        }
        let taken = self
            .chunk
            .take(&self.rules, reached, &push, values, Vec::new);
        if let Ok(Taken::Applied { .. }) = taken {
            self.progress.applied(&self.rules, &self.chunk);
            assert_eq!(self.progress.version(), reached + 1);
            assert!(
                self.chunk.version() <= Self::LIMIT,
                "nobody passes the gate"
            );
        }
    }
}

/// A control stream gives the same messages, however its bytes arrive.
fn in_pieces(bytes: &[u8]) {
    let whole = messages(&mut [bytes].into_iter());
    let size = bytes.first().map_or(1, |first| 1 + usize::from(*first));
    assert_eq!(whole, messages(&mut bytes.chunks(size)));
}

fn messages(pieces: &mut dyn Iterator<Item = &[u8]>) -> Result<Vec<serde_json::Value>, String> {
    let mut decoder = ControlDecoder::new(Limits::default());
    let mut messages = Vec::new();
    let read = || -> Result<(), WireError> {
        for piece in pieces {
            decoder.push(piece)?;
            while let Some((_, message)) = decoder.pop()? {
                messages.push(message);
            }
        }
        Ok(())
    };
    read().map_err(|error| error.to_string())?;
    Ok(messages)
}
