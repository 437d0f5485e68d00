//! A worker's part in a session: what the board says, on the computing thread.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use trainyard_core::control::{Role, ToCoordinator};
use trainyard_core::tree::Node;

use super::arena::Arena;
use super::board::{Board, Ending, Next};
use super::crew::{self, Crew, Order, Product};
use super::engine::{Engine, EngineError, Gradient};
use super::link::{Links, Push};
use super::{Ended, Options, Worker, messages};
use crate::net::{ControlSender, Identity};

/// The computing thread of a session.
pub(super) struct Shift<'a> {
    pub worker: &'a Worker,
    pub identity: Identity,
    pub sender: &'a ControlSender,
    pub board: &'a Board,
    pub crew: &'a Crew,
    pub engine: Engine,
    /// Buffers as long as the arena.
    pub spare: Vec<Vec<f32>>,
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

    fn compute(&mut self, links: &Links, step: u64, leaves: &[bool]) -> Result<()> {
        let tree = self.worker.work.tree;
        let nodes = tree.cover_set(leaves);
        let parts = crew::split(tree, &nodes, self.worker.threads);
        let orders = parts
            .iter()
            .map(|node| Order::Gradient(step, *node, self.spare.pop().unwrap_or_default()));
        let products = self.crew.produce(&mut self.engine, orders.collect());
        self.board.computed(step, leaves);
        let activity = &self.worker.activity;
        activity.steps.fetch_add(1, Ordering::Relaxed);
        let count = leaves.iter().filter(|leaf| **leaf).count();
        activity.leaves.fetch_add(count as u64, Ordering::Relaxed);
        let products = match products {
            Ok(products) => products,
            Err(error) => return self.report(step, error),
        };
        let mut gradients: Vec<Gradient> = products
            .into_iter()
            .filter_map(|product| match product {
                Product::Gradient(gradient) => Some(gradient),
                Product::Block(..) => None,
            })
            .collect();
        for node in nodes {
            let below = |part: &mut Gradient| below(node, part.node);
            let parts = gradients.extract_if(.., below).collect();
            let parts = links
                .push(Push { step, node, parts })
                .context("a server's connection broke")?;
            self.spare.extend(parts.into_iter().map(|part| part.sum));
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        id: u64,
        version: u64,
        blocks: &[trainyard_core::control::Block],
    ) -> Result<()> {
        let orders = blocks
            .iter()
            .map(|block| Order::Block(version, *block))
            .collect();
        let products = self.crew.produce(&mut self.engine, orders);
        self.board.computed(u64::MAX, &[]);
        let products = match products {
            Ok(products) => products,
            Err(error) => return self.report(version, error),
        };
        let results = products.into_iter().filter_map(|product| match product {
            Product::Block(block, result) => Some((block, result)),
            Product::Gradient(_) => None,
        });
        for results in messages::batches(results) {
            self.send(&ToCoordinator::Blocks { id, results });
        }
        Ok(())
    }

    /// Tells the coordinator what went wrong; it ends the job.
    fn report(&self, step: u64, error: EngineError) -> Result<()> {
        self.send(&match error {
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

fn below(node: Node, part: Node) -> bool {
    node.contains(part)
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
