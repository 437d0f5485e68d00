//! A worker's part in a session: what the board says, on the computing thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use trainyard_core::control::{Evaluate, Role, ToCoordinator};
use trainyard_core::session::{Ending, Next};
use trainyard_core::tree::Node;
use trainyard_runtime::net::Identity;

use super::board::Board;
use super::crew::{self, Crew, Order, Product};
use super::link::{Caller, Links};
use super::push::Push;
use super::uplink::Uplink;
use super::{Options, Worker, messages};
use crate::arena::Arena;
use crate::engine::{Engine, EngineError, Gradient};

/// How often results of an evaluation are told at least, from one block to the next: they show that it goes on.
const RESULTS: Duration = Duration::from_secs(1);

/// Why no more is computed.
enum Stop {
    /// The session is over: nobody needs it.
    Over,
    Failed(EngineError),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Stop::Failed(error)
    }
}

/// The computing thread of a session.
pub(super) struct Shift<'a> {
    pub worker: &'a Worker,
    pub identity: Identity,
    pub uplink: &'a Uplink,
    pub board: &'a Board,
    pub crew: &'a Crew,
    pub engine: Engine,
}

impl Shift<'_> {
    /// Works until the session ends.
    pub fn run(mut self, arenas: &[Arena; 2]) {
        let Some(links) = self.links() else {
            return;
        };
        std::thread::scope(|scope| {
            let _end = self.board.end_on_drop();
            links.start(scope, self.board, arenas);
            self.work(&links);
        });
    }

    /// The lanes to the servers, when it is known where they are.
    fn links(&self) -> Option<Links> {
        let servers = loop {
            match self.board.next() {
                Next::Connect(servers) => break servers,
                Next::Tell(message) => self.uplink.send(&message),
                Next::End(_) => return None,
                // There are no parameters without a connection.
                Next::Compute { .. } | Next::Evaluate(_) => self.board.computed(),
            }
        };
        let Options {
            index,
            connections,
            key,
            timing,
            ..
        } = &self.worker.options;
        let work = &self.worker.work;
        let caller = Caller {
            identity: self.identity,
            role: Role::Worker(*index),
            key: key.clone(),
            timing: *timing,
        };
        let traffic = Arc::clone(&self.worker.activity.traffic);
        let (layout, tree) = (work.layout.clone(), work.tree);
        match Links::new(layout, tree, caller, &servers, *connections, traffic) {
            Ok(links) => Some(links),
            Err(error) => {
                self.board.end(Ending::Lost(error.to_string()));
                None
            }
        }
    }

    fn work(&mut self, links: &Links) {
        loop {
            match self.board.next() {
                Next::Tell(message) => self.uplink.send(&message),
                Next::Connect(_) => {}
                Next::Compute { step, leaves } => self.compute(links, step, &leaves),
                Next::Evaluate(evaluate) => self.evaluate(evaluate),
                Next::End(_) => return,
            }
        }
    }

    /// Computes leaves and pushes each node as soon as it is there: with many nodes, few are held.
    fn compute(&mut self, links: &Links, step: u64, leaves: &[bool]) {
        let tree = self.worker.work.tree;
        let nodes = tree.cover_set(leaves);
        let parts = crew::split(tree, &nodes, self.worker.threads);
        let orders = parts.iter().map(|node| Order::Gradient(step, *node));
        let activity = &self.worker.activity;
        let (board, crew, engine) = (self.board, self.crew, &mut self.engine);
        let computed = || {
            board.computed();
            activity.steps.fetch_add(1, Ordering::Relaxed);
            let count = leaves.iter().filter(|leaf| **leaf).count();
            activity.leaves.fetch_add(count as u64, Ordering::Relaxed);
        };
        let (mut left, mut gradients) = (parts.len(), Vec::new());
        let each = |product| {
            let Product::Gradient(gradient) = product else {
                return Ok(());
            };
            if board.is_over() {
                return Err(Stop::Over);
            }
            left -= 1;
            if left == 0 {
                computed(); // the arena is free while the last is being pushed
            }
            let node = nodes.iter().find(|node| node.contains(gradient.node));
            gradients.push(gradient);
            let Some(&node) = node else { return Ok(()) };
            let within = |part: &&Node| node.contains(**part);
            let here = |part: &&Gradient| node.contains(part.node);
            if gradients.iter().filter(here).count() < parts.iter().filter(within).count() {
                return Ok(());
            }
            let parts = gradients.extract_if(.., |part| node.contains(part.node));
            let push = Push {
                step,
                node,
                parts: parts.collect(),
            };
            let parts = links.push(board, push);
            crew.recycle(parts.into_iter().map(|part| part.sum));
            Ok(())
        };
        let work = |order, buffer| crew::carry_out(engine, order, buffer);
        let result = crew.produce::<Stop>(work, orders.collect(), each);
        if left > 0 {
            computed();
        }
        if let Err(Stop::Failed(error)) = result {
            self.failed(step, error);
        }
    }

    fn evaluate(&mut self, evaluate: Evaluate) {
        let Evaluate {
            id,
            version,
            scores,
            blocks,
        } = evaluate;
        let orders = blocks.into_iter().map(|block| Order::Block {
            version,
            block,
            scores,
        });
        let (engine, mut results) = (&mut self.engine, Vec::new());
        let (uplink, mut told) = (self.uplink, Instant::now());
        let tell = |results: &mut Vec<_>| {
            for results in messages::batches(results.drain(..)) {
                uplink.send(&ToCoordinator::Blocks { id, results });
            }
        };
        let work = |order, buffer| crew::carry_out(engine, order, buffer);
        let each = |product| {
            if let Product::Block(block, result) = product {
                results.push((block, result));
            }
            if told.elapsed() >= RESULTS {
                told = Instant::now();
                tell(&mut results);
            }
            Ok(())
        };
        let crew = self.crew;
        let result = crew.produce::<EngineError>(work, orders.collect(), each);
        self.board.computed();
        match result {
            Ok(()) => tell(&mut results),
            Err(error) => self.failed(version, error),
        }
    }

    /// What went wrong in computing ends the job, as soon as a coordinator hears of it and another worker has met
    /// the same.
    fn failed(&self, step: u64, error: EngineError) {
        self.board.failed(match error {
            EngineError::NonFinite { place, value } => {
                ToCoordinator::NonFinite { step, place, value }
            }
            EngineError::Torch(message) => ToCoordinator::Failed {
                message: format!("worker {}: {message}", self.worker.options.index),
            },
            error @ EngineError::Memory(_) => ToCoordinator::Failed {
                message: format!("worker {}: {error}", self.worker.options.index),
            },
        });
    }
}
