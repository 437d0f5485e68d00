//! What the operator, `trainyard run` and the trainer's processes agree on.
//!
//! Two programs that are built and upgraded at different times meet here: the operator (or `trainyard run`) starts servers
//! and workers, and reads how they do and how they end. Nothing in this crate does I/O, and it depends on neither Kubernetes
//! nor libtorch.
//!
//! | What | Where |
//! | --- | --- |
//! | who takes part in a job | [`Role`], [`Member`] |
//! | what a process finds where it runs | [`env`], [`pod`] |
//! | how it ended | [`ExitCode`] |

pub mod env;
mod exit;
mod member;
pub mod pod;

pub use exit::ExitCode;
pub use member::{Member, NotAMember, Role};
