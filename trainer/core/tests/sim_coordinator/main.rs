//! The coordinator, message by message: who may join, how jobs halt, what bad peers achieve.

mod bench;
mod claims;
mod halting;
mod joining;
mod peers;
mod result;
mod stall;
