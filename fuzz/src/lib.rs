//! Fuzz targets: one function for each kind of bytes that Trainyard reads from outside.
//!
//! A target hands its input to the readers that the programs use, and checks what must hold whatever the
//! bytes are: no panic, no hang, memory in proportion to the input; and of what was read, that it is sound and
//! is the same when it is written and read again. That a reader refuses its input is no fault.
//!
//! `make fuzz TARGET=frames` runs a target under libFuzzer, with coverage, on stable Rust. The corpora in
//! `corpus/` are replayed by `tests/corpora.rs`, together with mutations of them.
//!
//! Where a checksum or a digest covers the bytes, a mutation would come no further than that. Those who can change
//! the bytes can change the digest too, so such a target reads its input twice: as it is, and with the digests mended.

pub mod archive;
mod arrays;
mod artifact;
mod checkpoint;
mod contract;
mod control;
mod csv;
mod frames;
mod handshake;
mod http;
mod images;
mod job;
mod manifest;
mod sound;

pub use sound::again;

/// A kind of input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its folder in `corpus/`.
    pub name: &'static str,
    /// What reads an input; whether some of it was read, and not all refused. It panics where something does not hold.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        run: frames::run,
    },
    Target {
        name: "handshake",
        run: handshake::run,
    },
    Target {
        name: "control",
        run: control::run,
    },
    Target {
        name: "http",
        run: http::run,
    },
    Target {
        name: "manifest",
        run: manifest::run,
    },
    Target {
        name: "job",
        run: job::run,
    },
    Target {
        name: "contract",
        run: contract::run,
    },
    Target {
        name: "log",
        run: checkpoint::log,
    },
    Target {
        name: "shard",
        run: checkpoint::shard,
    },
    Target {
        name: "artifact",
        run: artifact::run,
    },
    Target {
        name: "tensors",
        run: artifact::tensors,
    },
    Target {
        name: "csv",
        run: csv::run,
    },
    Target {
        name: "arrays",
        run: arrays::run,
    },
    Target {
        name: "images",
        run: images::run,
    },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
