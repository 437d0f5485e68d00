//! What the processes of a job say to each other, and what each of them keeps account of.

mod assignment;
mod json;
mod round;
mod session;
mod shard;
mod tree;
mod wire;
