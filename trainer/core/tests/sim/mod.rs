//! A simulation of a whole job: the real coordinator, shards, sessions, sampling and optimizers in a
//! made-up world of processes, connections and storage, under a virtual clock.

mod computing;
mod connection;
mod faults;
mod host;
mod liars;
mod peer;
mod reference;
mod rng;
mod server;
mod shard;
mod storage;
mod toy;
mod worker;
mod world;

pub use liars::{LIES, Lie};
pub use rng::Rng;
pub use toy::Toy;
pub use world::{Tally, World};
