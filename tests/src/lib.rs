//! What tests against a real API server share: starting one without kubelets, reading process figures, building the
//! operator, and talking to a cluster.

pub mod apiserver;
pub mod cluster;
pub mod process;
