//! The operator and the trainer on a real cluster. `make test-kind` brings one up; any other that KUBECONFIG names will do.

mod api;
mod exports;
mod faults;
mod pods;
mod s3;
mod training;
