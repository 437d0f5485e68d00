//! Messages of the control stream, as the coordinator takes them and as workers do.
//!
//! An input is a script of lines. `N JSON` is a message of peer `N` (a digit) to the coordinator, and `> JSON` one of the coordinator to a
//! worker. The rest is what the coordinator's own server tells it: `t` lets a second pass, `c N` ends the connection of a peer, and
//! `r LOSS` says that the step in progress was applied.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use trainyard_core::control::{FromCoordinator, Role, ToCoordinator};
use trainyard_core::coordinator::{Action, Commit, Config, Coordinator, Event, PeerId, Start};
use trainyard_core::manifest::{CoordinatorState, JobIdentity, Manifest};
use trainyard_core::metrics::{Metric, Task};
use trainyard_core::record::EarlyStopping;
use trainyard_core::round::Tally;
use trainyard_core::sampling::Plan;
use trainyard_core::session::{Admission, Next, Session};
use trainyard_core::tree::Tree;
use trainyard_core::wire::{Body, Header, encode_control};

use crate::again;

/// Rows of a step.
const ROWS: u32 = 5;

/// Most lines that are played.
const LINES: usize = 200;

/// Plays the input.
pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let mut stage = Stage::new(text.contains("early"));
    for line in text.lines().take(LINES) {
        stage.play(line);
    }
    stage.went_on
}

struct Stage {
    coordinator: Coordinator,
    worker: Session,
    now: Duration,
    /// Who has introduced themselves, by peer: nobody else is told from a stranger.
    roles: [Option<Role>; 10],
    /// Whether something was committed, or a worker was let begin.
    went_on: bool,
}

impl Stage {
    fn new(stops_early: bool) -> Self {
        Stage {
            coordinator: Coordinator::new(config(stops_early), None),
            worker: Session::new(Tree::new(4).expect("four leaves"), 2),
            now: Duration::ZERO,
            roles: [None; 10],
            went_on: false,
        }
    }

    fn play(&mut self, line: &str) {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what.as_bytes() {
            [digit @ b'0'..=b'9'] => self.message(digit - b'0', rest),
            b">" => self.tell_worker(rest),
            b"t" => {
                self.now += Duration::from_secs(1);
                self.happen(Event::Tick);
            }
            b"c" => {
                if let Some(peer) = rest.parse().ok().filter(|peer| *peer < 10) {
                    self.roles[peer as usize] = None;
                    self.happen(Event::Closed(PeerId(peer)));
                }
            }
            b"r" => self.reduced(rest),
            _ => {}
        }
    }

    fn message(&mut self, peer: u8, json: &str) {
        let role = &mut self.roles[usize::from(peer)];
        let peer = PeerId(peer.into());
        match serde_json::from_str::<ToCoordinator>(json) {
            Ok(message) => {
                again(&message);
                if let ToCoordinator::Join(join) = &message {
                    *role = Some(join.role);
                    if let Some(facts) = &join.facts {
                        let _ = facts.check();
                    }
                }
                self.happen(Event::Message(peer, message));
            }
            Err(error) => {
                if let Some(role) = *role {
                    let error = error.to_string();
                    self.happen(Event::Undecodable { peer, role, error });
                }
            }
        }
    }

    fn reduced(&mut self, loss: &str) {
        let progress = self.coordinator.progress();
        // A shard refuses what is no number or too large; only steps of the job are applied.
        let most = f64::from(f32::MAX) * f64::from(ROWS);
        let loss = loss.parse().ok().filter(|loss: &f64| loss.abs() <= most);
        if let Some(loss) = loss.filter(|_| progress.step < progress.total_steps) {
            self.happen(Event::StepReduced {
                step: progress.step,
                tally: Tally {
                    rows: ROWS.into(),
                    loss,
                },
            });
        }
    }

    /// Lets something happen, and does what the coordinator wants done: what it says can be sent, and what it commits is there.
    fn happen(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.coordinator.handle(self.now, event) {
                match action {
                    Action::Send(_, message) => sent(&message),
                    Action::Commit(commit) => {
                        self.went_on = true;
                        events.push(committed(*commit));
                    }
                    Action::Close(PeerId(peer)) => self.roles[peer as usize] = None,
                    Action::Regenerate(_) | Action::Finish(_) => {}
                }
            }
        }
        again(&self.coordinator.progress());
        again(self.coordinator.record());
    }

    fn tell_worker(&mut self, json: &str) {
        let Ok(message) = serde_json::from_str::<FromCoordinator>(json) else {
            return;
        };
        again(&message);
        match &message {
            FromCoordinator::Open { facts, manifest } => {
                let _ = facts.check();
                manifest.as_ref().inspect(|manifest| used(manifest));
            }
            FromCoordinator::Restore { manifest, .. } => used(manifest),
            _ => {}
        }
        self.worker.take(message);
        for _ in 0..4 {
            let Some(next) = self.worker.due() else {
                break;
            };
            self.went_on |= matches!(next, Next::Compute { .. });
            if let Next::Connect(servers) = next {
                self.worker.connect(servers.len().min(4));
                (0..servers.len().min(4)).for_each(|lane| _ = self.worker.push_opened(lane));
                for chunk in 0..2 {
                    if matches!(self.worker.admit(0, chunk), Admission::Write(_)) {
                        self.worker.received(0, chunk);
                    }
                }
            }
            self.worker.computed();
        }
    }
}

/// A manifest that came in a message, as whoever opens it uses it.
fn used(manifest: &Manifest) {
    if manifest.check().is_err() {
        return;
    }
    let _ = manifest.state_digests();
    let start = Start {
        manifest: Arc::new(manifest.clone()),
        best: None,
    };
    let resumed = Coordinator::new(config(false), Some(start));
    again(&resumed.progress());
}

/// What the coordinator says can be sent, and is understood.
fn sent(message: &FromCoordinator) {
    again(message);
    let header = Header {
        job: 1,
        generation: 3,
        incarnation: 1,
        payload: 0,
        body: Body::Control { len: 0 },
    };
    encode_control(header, message).expect("it is short enough");
}

/// The manifest of a checkpoint, as the log's writer makes it.
fn committed(commit: Commit) -> Event {
    let manifest = match commit {
        Commit::Complete {
            source,
            record,
            metrics,
        } => {
            again(&CoordinatorState {
                record,
                metrics: Some(*metrics),
            });
            assert!(source.check().is_ok());
            return Event::Completed;
        }
        Commit::Amend { source, record } => Manifest {
            best: true,
            coordinator: CoordinatorState {
                record,
                metrics: None,
            },
            ..Manifest::clone(&source)
        },
        Commit::Checkpoint {
            version,
            shards,
            record,
            best,
            facts,
            capability,
        } => Manifest {
            identity: JobIdentity {
                job: "job".into(),
                spec_digest: "spec".into(),
            },
            generation: 3,
            step: version,
            epoch: Plan::new(facts.train_rows, ROWS.into(), 3, 1)
                .map_or(0, |plan| plan.position(version).epoch),
            complete: false,
            imported: false,
            best,
            floats: shards.last().map_or(0, |shard| shard.end),
            shards,
            layout_digest: "layout".into(),
            capability,
            facts: (*facts).clone(),
            coordinator: CoordinatorState {
                record,
                metrics: None,
            },
            spec: Value::Null,
            model_sha256: None,
        },
    };
    match manifest.check() {
        Ok(()) => {
            again(&manifest);
            Event::Committed(Arc::new(manifest))
        }
        Err(error) => Event::CommitFailed {
            message: error.to_string(),
        },
    }
}

fn config(stops_early: bool) -> Config {
    Config {
        generation: 3,
        servers: 2,
        leaves: 4,
        batch_size: ROWS.into(),
        epochs: 3,
        seed: 1,
        task: Task::Regression,
        checkpoint_every: 3,
        early_stopping: stops_early.then_some(EarlyStopping {
            metric: Metric::Loss,
            patience: 1,
            min_delta: 0.0,
            restore_best: true,
            counts_undefined: false,
        }),
        spec_digest: "spec".into(),
        heartbeat_timeout: Duration::from_secs(5),
        grace: Duration::from_secs(20),
    }
}
