//! The fuzzer: libFuzzer around the target that `FUZZ_TARGET` names. `make fuzz` builds and starts it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use trainyard_fuzz::{TARGETS, Target, target};

static TARGET: OnceLock<&Target> = OnceLock::new();

/// The target that the environment names.
fn chosen() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!(
                "FUZZ_TARGET is {name:?}; set it to one of {}",
                names.join(", ")
            );
            std::process::exit(2);
        })
    })
}

fuzz_target!(init: { chosen(); }, |input: &[u8]| {
    (chosen().run)(input);
});
