//! Checkpoints under crashes, faults, corruption and rival coordinators.
#![allow(missing_docs)]

mod compaction;
mod contract;
mod crash;
mod disk;
mod faults;
mod fencing;
mod folder;
mod hostile;
mod pause;
mod reshard;
mod stored;
mod support;
