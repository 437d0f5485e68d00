//! A worker's part in a session: what the board says, on the computing thread.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use trainyard_core::control::{Role, ToCoordinator};
use trainyard_core::tree::Node;
use trainyard_runtime::net::{ControlSender, Identity};

use super::board::{Board, Ending, Next};
use super::crew::{self, Crew, Order, Product};
use super::link::{Links, Push};
use super::{Ended, Options, Worker, messages};
use crate::arena::Arena;
use crate::engine::{Engine, EngineError, Gradient};

/// The computing thread of a session.
pub(super) struct Shift<'a> {
    pub worker: &'a Worker,
    pub identity: Identity,
    pub sender: &'a ControlSender,
    pub board: &'a Board,
    pub crew: &'a Crew,
    pub engine: Engine,
}

impl Shift<'_> {
    pub fn run(mut self, arenas: &[Arena; 2]) -> Ended {
        let servers = loop {
            match self.board.next() {
                Next::Connect(servers) => break servers,
                Next::End(ending) => return ended(ending),
                _ => {}
            }
        };
        let Options {
            index,
            connections,
            timing,
            ..
        } = &self.worker.options;
        let work = &self.worker.work;
        let role = Role::Worker(*index);
        let links = match Links::connect(
            work.layout.clone(),
            work.tree,
            self.identity,
            role,
            &servers,
            *connections,
            timing,
        ) {
            Ok(links) => links,
            Err(error) => {
                return Ended::Lost {
                    welcomed: true,
                    why: error.to_string(),
                };
            }
        };
        std::thread::scope(|scope| {
            links.start(scope, self.board, arenas);
            // The computing thread may be waiting for a server that has ceased to read.
            let board = self.board;
            let links = &links;
            scope.spawn(move || {
                board.wait_for_end();
                links.close();
            });
            let ended = self.work(links);
            // Threads that wait for the board must see that it is over.
            self.board.end(Ending::Lost("the session is over".into()));
            links.close();
            ended
        })
    }

    fn work(&mut self, links: &Links) -> Ended {
        loop {
            let done = match self.board.next() {
                Next::Ready(version) => {
                    self.send(&ToCoordinator::Ready { version, chunks: 0 });
                    Ok(())
                }
                Next::Connect(_) => Ok(()),
                Next::Compute { step, leaves } => self.compute(links, step, &leaves),
                Next::Evaluate {
                    id,
                    version,
                    blocks,
                } => self.evaluate(id, version, &blocks),
                Next::End(ending) => return ended(ending),
            };
            if let Err(error) = done {
                return Ended::Lost {
                    welcomed: true,
                    why: format!("{error:#}"),
                };
            }
        }
    }

    fn send(&self, message: &ToCoordinator) {
        messages::send(message, |message| self.sender.send(message));
    }

    /// Computes leaves and pushes each node as soon as it is there: with many nodes, few are held.
    fn compute(&mut self, links: &Links, step: u64, leaves: &[bool]) -> Result<()> {
        let tree = self.worker.work.tree;
        let nodes = tree.cover_set(leaves);
        let parts = crew::split(tree, &nodes, self.worker.threads);
        let orders = parts.iter().map(|node| Order::Gradient(step, *node));
        let activity = &self.worker.activity;
        let (board, crew, engine) = (self.board, self.crew, &mut self.engine);
        let computed = || {
            board.computed(step, leaves);
            activity.steps.fetch_add(1, Ordering::Relaxed);
            let count = leaves.iter().filter(|leaf| **leaf).count();
            activity.leaves.fetch_add(count as u64, Ordering::Relaxed);
        };
        let (mut left, mut gradients) = (parts.len(), Vec::new());
        let each = |product| {
            let Product::Gradient(gradient) = product else {
                return Ok(());
            };
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
            let parts = links.push(push).context("a server's connection broke")?;
            crew.recycle(parts.into_iter().map(|part| part.sum));
            Ok(())
        };
        let work = |order, buffer| crew::carry_out(engine, order, buffer);
        let result = crew.produce::<anyhow::Error>(work, orders.collect(), each);
        if left > 0 {
            computed();
        }
        result.or_else(|error| self.report(step, error))
    }

    fn evaluate(
        &mut self,
        id: u64,
        version: u64,
        blocks: &[trainyard_core::control::Block],
    ) -> Result<()> {
        let orders = blocks.iter().map(|block| Order::Block(version, *block));
        let (engine, mut results) = (&mut self.engine, Vec::new());
        let work = |order, buffer| crew::carry_out(engine, order, buffer);
        let each = |product| {
            if let Product::Block(block, result) = product {
                results.push((block, result));
            }
            Ok(())
        };
        let result = self
            .crew
            .produce::<anyhow::Error>(work, orders.collect(), each);
        self.board.computed(u64::MAX, &[]);
        if let Err(error) = result {
            return self.report(version, error);
        }
        for results in messages::batches(results) {
            self.send(&ToCoordinator::Blocks { id, results });
        }
        Ok(())
    }

    /// Tells the coordinator what went wrong in computing; it ends the job. Other errors end the session.
    fn report(&self, step: u64, error: anyhow::Error) -> Result<()> {
        self.send(&match error.downcast::<EngineError>()? {
            EngineError::NonFinite { place, value } => {
                ToCoordinator::NonFinite { step, place, value }
            }
            EngineError::Torch(message) => ToCoordinator::Failed {
                message: format!("worker {}: {message}", self.worker.options.index),
            },
        });
        Ok(())
    }
}

fn ended(ending: Ending) -> Ended {
    match ending {
        Ending::Released(release) => Ended::Released(release),
        Ending::Lost(why) => Ended::Lost {
            welcomed: true,
            why,
        },
    }
}
