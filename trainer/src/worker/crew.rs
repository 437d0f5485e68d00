//! Several engines side by side: the leaves of a worker on its cores.
//!
//! The calling thread is one of the crew, so a worker with one thread hands nothing over.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use trainyard_core::control::Block;
use trainyard_core::metrics::BlockResult;
use trainyard_core::tree::{Node, Tree};

use super::engine::{Engine, EngineError, Gradient};

/// Something to compute.
#[derive(Debug)]
pub enum Order {
    /// Gradient of a node at a step, into this buffer.
    Gradient(u64, Node, Vec<f32>),
    /// A block at a version.
    Block(u64, Block),
}

/// What came out.
#[derive(Debug)]
pub enum Product {
    /// Of [`Order::Gradient`].
    Gradient(Gradient),
    /// Of [`Order::Block`].
    Block(Block, BlockResult),
}

#[derive(Debug, Default)]
struct Bench {
    orders: VecDeque<Order>,
    products: Vec<Result<Product, EngineError>>,
    open: usize,
    closed: bool,
}

/// Orders and products between the threads of a worker.
#[derive(Debug, Default)]
pub struct Crew {
    bench: Mutex<Bench>,
    ordered: Condvar,
    finished: Condvar,
}

fn carry_out(engine: &mut Engine, order: Order) -> Result<Product, EngineError> {
    match order {
        Order::Gradient(step, node, buffer) => {
            engine.gradient(step, node, buffer).map(Product::Gradient)
        }
        Order::Block(version, block) => Ok(Product::Block(block, engine.evaluate(version, block)?)),
    }
}

impl Crew {
    fn lock(&self) -> MutexGuard<'_, Bench> {
        self.bench.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out orders until [`Crew::close`].
    pub fn assist(&self, mut engine: Engine) {
        Engine::pin();
        let mut bench = self.lock();
        loop {
            if let Some(order) = bench.orders.pop_front() {
                drop(bench);
                let product = carry_out(&mut engine, order);
                bench = self.lock();
                bench.products.push(product);
                bench.open -= 1;
                if bench.open == 0 {
                    self.finished.notify_one();
                }
            } else if bench.closed {
                return;
            } else {
                bench = self
                    .ordered
                    .wait(bench)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Ends the assistants.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ordered.notify_all();
    }

    /// Carries out all orders with everyone's help; products come in any order.
    ///
    /// # Errors
    /// The first that occurred.
    pub fn produce(
        &self,
        engine: &mut Engine,
        mut orders: Vec<Order>,
    ) -> Result<Vec<Product>, EngineError> {
        let Some(mine) = orders.pop() else {
            return Ok(Vec::new());
        };
        let handed = orders.len();
        if handed > 0 {
            let mut bench = self.lock();
            bench.open = handed;
            bench.orders.extend(orders);
            drop(bench);
            self.ordered.notify_all();
        }
        let mut products = vec![carry_out(engine, mine)];
        if handed > 0 {
            self.finish(engine, &mut products);
        }
        products.into_iter().collect()
    }

    /// Helps with the orders that are left, and waits for those that others carry out.
    fn finish(&self, engine: &mut Engine, products: &mut Vec<Result<Product, EngineError>>) {
        let mut bench = self.lock();
        while let Some(order) = bench.orders.pop_front() {
            bench.open -= 1;
            drop(bench);
            products.push(carry_out(engine, order));
            bench = self.lock();
        }
        while bench.open > 0 {
            bench = self
                .finished
                .wait(bench)
                .unwrap_or_else(PoisonError::into_inner);
        }
        products.append(&mut bench.products);
    }
}

/// Cuts nodes into at least `threads` aligned parts, as long as there are leaves to part.
pub fn split(tree: Tree, nodes: &[Node], threads: usize) -> Vec<Node> {
    let mut parts = nodes.to_vec();
    while parts.len() < threads {
        let largest = parts
            .iter()
            .enumerate()
            .max_by_key(|(_, node)| tree.span(**node).len());
        let Some((at, node)) = largest.filter(|(_, node)| tree.span(**node).len() > 1) else {
            break;
        };
        let (left, right) = node.children();
        parts.splice(at..=at, [left, right]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_split_for_every_thread_and_cover_the_same_leaves() {
        let tree = Tree::new(8).unwrap();
        for threads in 1..=10 {
            let parts = split(tree, &tree.cover(1..8), threads);
            assert!(parts.len() >= threads.min(7));
            let leaves: Vec<u32> = parts.iter().flat_map(|node| tree.span(*node)).collect();
            assert_eq!(leaves, (1..8).collect::<Vec<_>>());
        }
    }
}
