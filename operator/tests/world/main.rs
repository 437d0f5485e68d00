//! The world simulation: the operator's real loop against an API server, nodes and trainers in memory, with faults, under a
//! clock that tests control. A run is a function of its seed.

#[path = "../common/calls.rs"]
mod calls;
mod cluster;
mod crashes;
mod exports;
mod faults;
mod http;
mod invariants;
mod keys;
mod kubelet;
mod lasting;
mod lifecycle;
mod losses;
mod obstacles;
mod random;
mod rights;
mod scaling;
mod scenarios;
mod store;
mod trainer;
mod troubles;
mod upgrades;
mod world;
