//! Several engines side by side: the leaves of a worker on its cores.
//!
//! The calling thread is one of the crew, so a worker with one thread hands nothing over.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex, MutexGuard};
use trainyard_core::control::Block;
use trainyard_core::metrics::BlockResult;
use trainyard_core::tree::{Node, Tree};

use crate::engine::{Engine, EngineError, Gradient};

/// Something to compute.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Gradient of a node at a step.
    Gradient(u64, Node),
    /// A block at a version.
    Block {
        /// The version.
        version: u64,
        /// The block.
        block: Block,
        /// Whether the scores of all classes are wanted.
        scores: bool,
    },
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
    products: VecDeque<Result<Product, EngineError>>,
    /// Orders whose products were not handed over yet.
    open: usize,
    /// Buffers as long as the arena.
    spare: Vec<Vec<f32>>,
    closed: bool,
}

impl Bench {
    /// The next order, and a buffer for a gradient.
    fn take(&mut self) -> Option<(Order, Vec<f32>)> {
        let order = self.orders.pop_front()?;
        let buffer = match order {
            Order::Gradient(..) => self.spare.pop().unwrap_or_default(),
            Order::Block { .. } => Vec::new(),
        };
        Some((order, buffer))
    }
}

/// Orders and products between the threads of a worker.
#[derive(Debug, Default)]
pub struct Crew {
    bench: Mutex<Bench>,
    ordered: Condvar,
    produced: Condvar,
}

/// Carries out an order; a gradient goes into `buffer`. A result that is no number is computed once more: a fault
/// of the memory does not come twice, and the coordinator need not hear of it.
///
/// # Errors
/// Of the engine.
pub fn carry_out(
    engine: &mut Engine,
    order: Order,
    buffer: Vec<f32>,
) -> Result<Product, EngineError> {
    let mut compute = |buffer| match order {
        Order::Gradient(step, node) => engine.gradient(step, node, buffer).map(Product::Gradient),
        Order::Block {
            version,
            block,
            scores,
        } => engine
            .evaluate(version, block, scores)
            .map(|result| Product::Block(block, result)),
    };
    match compute(buffer) {
        Err(EngineError::NonFinite { .. }) => compute(Vec::new()),
        result => result,
    }
}

impl Crew {
    fn lock(&self) -> MutexGuard<'_, Bench> {
        self.bench.lock()
    }

    /// Carries out orders until [`Crew::close`].
    pub fn assist(
        &self,
        mut carry_out: impl FnMut(Order, Vec<f32>) -> Result<Product, EngineError>,
    ) {
        let mut bench = self.lock();
        loop {
            if let Some((order, buffer)) = bench.take() {
                drop(bench);
                let product = carry_out(order, buffer);
                bench = self.lock();
                bench.products.push_back(product);
                self.produced.notify_one();
            } else if bench.closed {
                return;
            } else {
                self.ordered.wait(&mut bench);
            }
        }
    }

    /// Ends the assistants.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ordered.notify_all();
    }

    /// Takes buffers of gradients back.
    pub fn recycle(&self, buffers: impl IntoIterator<Item = Vec<f32>>) {
        self.lock().spare.extend(buffers);
    }

    /// Carries out all orders with everyone's help. `each` gets the products on the calling thread, in
    /// any order, and before that computes anything more: what it gives back by [`Crew::recycle`] is
    /// what the next gradient is computed into.
    ///
    /// # Errors
    /// The first that occurred, of an order or of `each`; nothing is begun after it.
    pub fn produce<E: From<EngineError>>(
        &self,
        mut carry_out: impl FnMut(Order, Vec<f32>) -> Result<Product, EngineError>,
        orders: Vec<Order>,
        mut each: impl FnMut(Product) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut bench = self.lock();
        bench.open = orders.len();
        bench.orders.extend(orders);
        if bench.open > 1 {
            self.ordered.notify_all();
        }
        let mut result = Ok(());
        while bench.open > 0 {
            if let Some(product) = bench.products.pop_front() {
                bench.open -= 1;
                if result.is_err() {
                    continue;
                }
                drop(bench);
                result = product.map_err(E::from).and_then(&mut each);
                bench = self.lock();
                if result.is_err() {
                    bench.open -= bench.orders.len();
                    bench.orders.clear();
                }
            } else if let Some((order, buffer)) = bench.take() {
                drop(bench);
                let product = carry_out(order, buffer);
                bench = self.lock();
                bench.products.push_back(product);
            } else {
                self.produced.wait(&mut bench);
            }
        }
        result
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
    use std::cell::Cell;
    use trainyard_core::round::Tally;

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

    fn gradient(order: Order, buffer: Vec<f32>) -> Product {
        let Order::Gradient(_, node) = order else {
            panic!("{order:?}")
        };
        Product::Gradient(Gradient {
            node,
            sum: buffer,
            tally: Tally::default(),
        })
    }

    fn orders(tree: Tree) -> Vec<Order> {
        let leaves = tree.cover(0..1).into_iter().chain(tree.cover(1..8));
        leaves.map(|node| Order::Gradient(3, node)).collect()
    }

    /// However many nodes there are, one thread holds one sum at a time.
    #[test]
    fn t20_a_product_is_handed_over_before_the_next_is_computed() {
        let (crew, tree) = (Crew::default(), Tree::new(8).unwrap());
        let fresh = Cell::new(0);
        let compute = |order, mut buffer: Vec<f32>| {
            if buffer.is_empty() {
                fresh.set(fresh.get() + 1);
                buffer = vec![0.0; 5];
            }
            Ok(gradient(order, buffer))
        };
        let mut handed = Vec::new();
        for _ in 0..2 {
            let each = |product| {
                let Product::Gradient(gradient) = product else {
                    panic!("{product:?}")
                };
                handed.push(Order::Gradient(3, gradient.node));
                crew.recycle([gradient.sum]);
                Ok::<_, EngineError>(())
            };
            crew.produce(compute, orders(tree), each).unwrap();
        }
        assert_eq!(handed, [orders(tree), orders(tree)].concat());
        assert_eq!(fresh.get(), 1, "buffers allocated");
    }

    #[test]
    fn everyone_helps_and_everything_is_handed_over_once() {
        let (crew, tree) = (Crew::default(), Tree::new(8).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| crew.assist(|order, buffer| Ok(gradient(order, buffer))));
            }
            for _ in 0..200 {
                let mut nodes = Vec::new();
                let each = |product| {
                    let Product::Gradient(gradient) = product else {
                        panic!("{product:?}")
                    };
                    nodes.push(gradient.node.get());
                    Ok::<_, EngineError>(())
                };
                let mine = |order, buffer| Ok(gradient(order, buffer));
                crew.produce(mine, orders(tree), each).unwrap();
                nodes.sort_unstable();
                assert_eq!(nodes, [3, 5, 8, 9]);
            }
            crew.close();
        });
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let (crew, tree) = (Crew::default(), Tree::new(8).unwrap());
        let begun = Cell::new(0);
        let compute = |order, buffer| {
            begun.set(begun.get() + 1);
            match begun.get() {
                2 => Err(EngineError::Torch("no".into())),
                _ => Ok(gradient(order, buffer)),
            }
        };
        let failed: Result<(), EngineError> = crew.produce(compute, orders(tree), |_| Ok(()));
        assert_eq!(
            (failed, begun.get()),
            (Err(EngineError::Torch("no".into())), 2)
        );
        // And the crew is as good as new.
        crew.produce(compute, orders(tree), |_| Ok::<_, EngineError>(()))
            .unwrap();
        assert_eq!(begun.get(), 6);
    }
}
