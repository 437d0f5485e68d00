//! The real program: its processes, sockets and files. One binary, as most of the time to build one goes into libtorch's bindings and
//! into what all tests here share.

mod artifact;
mod bits;
mod common;
mod endings;
mod faults;
mod finisher;
mod images;
mod init;
mod origin;
mod pods;
mod predictions;
mod recorded;
mod s3;
mod second;
mod serve;
mod soak;
mod storage;
mod strangers;
mod stuck;
mod surface;
mod tables;
mod transport;
