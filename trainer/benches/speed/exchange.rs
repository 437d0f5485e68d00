//! Gradients pushed, applied and pulled back, through the parts that servers and workers are made of.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;
use trainyard::run::Transport;
use trainyard::server::Hub;
use trainyard::server::shard::{Notify, Shard};
use trainyard_contract::Key;
use trainyard_core::control::{FromCoordinator, Role, View};
use trainyard_core::layout::{Init, Layout, Param};
use trainyard_core::optimizer::Optimizer;
use trainyard_core::round::Tally;
use trainyard_core::sampling::Plan;
use trainyard_core::schedule::{LearningRate, Schedule};
use trainyard_core::session::Next;
use trainyard_core::shard::{Passes, Pusher, Rules};
use trainyard_core::tree::Tree;
use trainyard_runtime::net::{Address, Identity, Listener, Timing};
use trainyard_torch::arena::Arena;
use trainyard_torch::engine::Gradient;
use trainyard_torch::worker::board::Board;
use trainyard_torch::worker::link::{Caller, Links};
use trainyard_torch::worker::push::Push;

use crate::bare::{Bare, Echo};
use crate::machine;
use crate::ratio::{Pace, Spread, Target, ms, report};

/// Rows of a step; they only have to add up.
const ROWS: u64 = 1024;

/// 100 MB of f32.
const FLOATS: usize = 25_000_000;

/// The default number of connections from a worker to a server, in each direction.
const CONNECTIONS: u32 = 2;

/// Pairs of the comparison of transports, and rounds of each side of a pair.
const PAIRS: usize = 5;
const ROUNDS: usize = 10;

/// 56 KiB of f32.
const SMALL: usize = 14_336;

const SGD: Optimizer = Optimizer::Sgd {
    momentum: 0.0,
    dampening: 0.0,
    nesterov: false,
    weight_decay: 0.0,
};
const ADAM: Optimizer = Optimizer::Adam {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.0,
};

/// One server and its workers in this process, on real connections.
struct Exchange {
    workers: Vec<(Sender<()>, Receiver<Told>)>,
    hub: Arc<Hub>,
    /// Of the socket.
    _folder: TempDir,
}

/// When a worker began to push and held the next version.
type Told = Result<(Instant, Instant), String>;

/// Who this process is on its own wire.
const IDENTITY: Identity = Identity {
    job: 1,
    generation: 1,
    incarnation: 1,
};

impl Drop for Exchange {
    fn drop(&mut self) {
        // The hub lives as long as the process; the shard need not.
        self.hub.route_bulk(IDENTITY, None);
    }
}

impl Exchange {
    fn new(
        transport: Transport,
        floats: usize,
        optimizer: Optimizer,
        workers: u32,
        connections: u32,
    ) -> Result<Self> {
        let param = Param {
            name: "w".into(),
            shape: vec![floats as u64],
            init: Init::Constant(0.0),
        };
        let layout = Layout::new(vec![param])?;
        let tree = Tree::new(workers)?;
        let plan = Plan::new(1 << 30, ROWS, 1, 1)?;
        let rules = Rules {
            chunks: 0..layout.chunks(),
            learning_rate: LearningRate {
                base: 1e-3,
                warmup_steps: 0,
                schedule: Schedule::Constant,
                total_steps: plan.total_steps(),
            },
            layout: layout.clone(),
            tree,
            plan,
            optimizer,
            checkpoint_every: u64::MAX,
            early_stopping: false,
        };
        let parameters = vec![0.0; layout.len()];
        let slots = rules.optimizer.slots().len();
        let state = vec![vec![0.0; layout.len()]; slots];
        let shard = Shard::new(rules, 0, &parameters, &state, Notify(Box::new(|_| {})))?;
        shard.set_passes(Passes {
            limit: u64::MAX,
            members: (0..workers).map(pusher).collect(),
        });
        let key = Key::of_servers([0; Key::BYTES]);
        let hub = Hub::new(key.clone(), Timing::default());
        let folder = tempfile::tempdir()?;
        let address = match transport {
            Transport::Unix => Address::unix(&folder.path().join("server-0"))?,
            Transport::Tcp => "127.0.0.1:0".parse()?,
        };
        let listener = Listener::bind(&address)?;
        let address = listener.address().to_string();
        hub.route_bulk(IDENTITY, Some(Arc::new(shard)));
        hub.listen(Arc::new(listener));
        let start = |index| {
            let (orders, go) = channel();
            let (told, done) = channel();
            let (layout, address) = (layout.clone(), address.clone());
            let key = key.of_role(trainyard_contract::Role::Worker);
            std::thread::spawn(move || {
                let worker = Worker {
                    index,
                    workers,
                    layout,
                    tree,
                    address,
                    key,
                    connections,
                };
                if let Err(error) = worker.run(&go, &told) {
                    let _ = told.send(Err(format!("{error:#}")));
                }
            });
            (orders, done)
        };
        let exchange = Exchange {
            workers: (0..workers).map(start).collect(),
            hub,
            _folder: folder,
        };
        exchange.wait()?; // for version 0
        Ok(exchange)
    }

    /// The first beginning and the last end of the workers' rounds.
    fn wait(&self) -> Result<Duration> {
        let mut spans = Vec::new();
        for (_, done) in &self.workers {
            spans.push(
                done.recv()
                    .context("a worker has ended")?
                    .map_err(anyhow::Error::msg)?,
            );
        }
        let begin = spans.iter().map(|(begin, _)| *begin).min();
        let end = spans.iter().map(|(_, end)| *end).max();
        Ok(begin
            .zip(end)
            .map_or(Duration::ZERO, |(begin, end)| end - begin))
    }

    /// One step: from the first push until every worker holds the next version.
    fn round(&self) -> Result<Duration> {
        self.workers
            .iter()
            .try_for_each(|(orders, _)| orders.send(()))
            .context("a worker has ended")?;
        self.wait()
    }
}

struct Worker {
    index: u32,
    workers: u32,
    layout: Layout,
    tree: Tree,
    address: String,
    key: Key,
    connections: u32,
}

/// A worker as servers know it.
fn pusher(index: u32) -> Pusher {
    let incarnation = IDENTITY.incarnation;
    Pusher { index, incarnation }
}

impl Worker {
    /// Pushes a step each time it is told to; tells when it holds the next version.
    fn run(self, go: &Receiver<()>, told: &Sender<Told>) -> Result<()> {
        let board = Board::new(self.tree, self.layout.chunks());
        let arenas = [Arena::new(self.layout.len()), Arena::new(self.layout.len())];
        let servers = vec![self.address];
        board.take(FromCoordinator::View(View {
            epoch: 1,
            rank: Some(self.index),
            members: self.workers,
            limit: u64::MAX,
            servers: servers.clone(),
        }));
        let caller = Caller {
            identity: IDENTITY,
            role: Role::Worker(self.index),
            key: self.key,
            timing: Timing::default(),
        };
        let layout = self.layout.clone();
        let links = Links::new(
            layout,
            self.tree,
            caller,
            &servers,
            self.connections,
            Arc::default(),
        )?;
        let node = self.tree.leaf(self.index);
        let tally = Tally {
            rows: ROWS / u64::from(self.workers),
            loss: 1.0,
        };
        let mut parts = vec![Gradient {
            node,
            sum: vec![1e-3; self.layout.len()],
            tally,
        }];
        std::thread::scope(|scope| {
            let _end = board.end_on_drop();
            links.start(scope, &board, &arenas);
            let mut begin = Instant::now();
            loop {
                match board.next() {
                    Next::Compute { step, .. } => {
                        let _ = told.send(Ok((begin, Instant::now())));
                        if go.recv().is_err() {
                            break Ok(());
                        }
                        begin = Instant::now();
                        board.computed();
                        parts = links.push(&board, Push { step, node, parts });
                    }
                    Next::End(ending) => break Err(anyhow::Error::msg(format!("{ending:?}"))),
                    _ => {}
                }
            }
        })
    }
}

/// Milliseconds of `rounds` pairs, ours and bare, in turns, after some that do not count.
fn measure(
    ours: &mut impl FnMut() -> Result<Duration>,
    bare: &mut impl FnMut() -> Result<Duration>,
    warmup: usize,
    rounds: usize,
) -> Result<[Vec<f64>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..warmup + rounds {
        let pair = [ours()?, bare()?];
        if round >= warmup {
            times
                .iter_mut()
                .zip(pair)
                .for_each(|(times, time)| times.push(ms(time)));
        }
    }
    Ok(times)
}

/// 100 MB there and back.
pub fn report_exchange() -> Result<()> {
    println!(
        "100 MB of gradients pushed, applied and pulled back / bare TCP loopback, same bytes, as many connections"
    );
    let cases = [
        ("SGD", SGD, 1, Target::AtMost(1.25)),
        ("SGD", SGD, 2, Target::None),
        ("Adam", ADAM, 1, Target::None),
        ("Adam", ADAM, 2, Target::None),
    ];
    for (name, optimizer, workers, target) in cases {
        // One case has a target; the others are there for comparison.
        let compared: &[u32] = if workers == 1 {
            &[1, 2, 4]
        } else {
            &[CONNECTIONS]
        };
        for &connections in compared {
            let ours = Exchange::new(
                Transport::Tcp,
                FLOATS,
                optimizer.clone(),
                workers,
                connections,
            )?;
            let bare = Bare::new(
                4 * FLOATS * workers as usize,
                (connections * workers) as usize,
            )?;
            let cpu = [Cell::new(0.0), Cell::new(0.0)];
            let [a, b] = measure(
                &mut || spent(&cpu[0], || ours.round()),
                &mut || spent(&cpu[1], || Ok(bare.round()?)),
                3,
                25,
            )?;
            let what = format!("{name}, {workers} worker(s), {connections} connection(s)");
            // The target is for the number of connections that is the default.
            let target = if connections == CONNECTIONS {
                target
            } else {
                Target::None
            };
            report(&what, &a, &b, "ms", target);
            let [a, b] = cpu.map(|cpu| cpu.get() / 28.0);
            println!(
                "    processor time of all threads {a:.0} ms / {b:.0} ms, ratio {:.2}",
                a / b
            );
        }
    }
    report_unix()
}

/// 100 MB there and back over Unix sockets, as in a local run, and over TCP: pairs of a few rounds each.
fn report_unix() -> Result<()> {
    println!("the same over Unix sockets / over TCP loopback");
    let cases = [
        ("SGD", SGD, 1, Target::AtMost(0.75)),
        ("SGD", SGD, 2, Target::None),
        ("Adam", ADAM, 1, Target::None),
        ("Adam", ADAM, 2, Target::None),
    ];
    for (name, optimizer, workers, target) in cases {
        let new = |transport| {
            let optimizer = optimizer.clone();
            Exchange::new(transport, FLOATS, optimizer, workers, CONNECTIONS)
        };
        let exchanges = [new(Transport::Unix)?, new(Transport::Tcp)?];
        let cpu = [Cell::new(0.0), Cell::new(0.0)];
        let pace = |which: usize| {
            spent(&cpu[which], || {
                let times = (0..ROUNDS).map(|_| Ok(ms(exchanges[which].round()?)));
                let times = times.collect::<Result<Vec<f64>>>()?;
                Ok::<_, anyhow::Error>(Pace {
                    mean: times.iter().sum::<f64>() / ROUNDS as f64,
                    best: Spread::of(times).min,
                })
            })
        };
        let mut pairs = [Vec::new(), Vec::new()];
        for pair in 0..=PAIRS {
            for which in [0, 1] {
                let pace = pace(which)?;
                if pair > 0 {
                    pairs[which].push(pace); // the first pair warms up
                }
            }
        }
        let what = format!("{name}, {workers} worker(s), {CONNECTIONS} connection(s)");
        report(&what, &pairs[0], &pairs[1], "ms", target);
        let [a, b] = cpu.map(|cpu| cpu.get() / ((PAIRS + 1) * ROUNDS) as f64);
        println!(
            "    processor time of all threads {a:.0} ms / {b:.0} ms, ratio {:.2}",
            a / b
        );
    }
    Ok(())
}

/// Adds the processor time of `work` to `sum`.
fn spent<T>(sum: &Cell<f64>, work: impl FnOnce() -> T) -> T {
    let begin = machine::cpu_ms();
    let result = work();
    sum.set(sum.get() + machine::cpu_ms() - begin);
    result
}

/// One small chunk there and back.
pub fn report_latency() -> Result<()> {
    println!(
        "one chunk of 56 KiB pushed, applied and pulled back / bare TCP loopback, there and back"
    );
    let ours = Exchange::new(Transport::Tcp, SMALL, SGD, 1, 1)?;
    let mut echo = Echo::new(4 * SMALL)?;
    let times = measure(&mut || ours.round(), &mut || Ok(echo.round()?), 200, 2000)?;
    let [a, b] = times.map(|times| times.into_iter().map(|ms| 1e3 * ms).collect::<Vec<_>>());
    report("SGD, 1 worker", &a, &b, "us", Target::None);
    Ok(())
}
