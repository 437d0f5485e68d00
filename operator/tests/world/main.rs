//! The world simulation: the operator's real loop against an API server, nodes and trainers in memory, with faults, under a
//! clock that tests control. A run is a function of its seed.

mod cluster;
mod crashes;
mod faults;
mod http;
mod invariants;
mod kubelet;
mod lifecycle;
mod losses;
mod random;
mod scaling;
mod scenarios;
mod store;
mod trainer;
mod troubles;
mod world;
