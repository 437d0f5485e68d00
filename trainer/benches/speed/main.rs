//! `make bench`: every figure is a ratio to a reference that is measured beside it, in turns, in the
//! same run.
//!
//! `make bench PARTS=exchange` runs one part: `exchange`, `latency`, `step`, `job`, `checkpoint` or `inference`.

mod bare;
mod exchange;
mod inference;
mod machine;
mod plain;
mod process;
mod ratio;
mod training;

use anyhow::{Result, bail};

/// A part of the benchmark.
type Part = (&'static str, fn() -> Result<()>);

const PARTS: [Part; 6] = [
    ("exchange", exchange::report_exchange),
    ("latency", exchange::report_latency),
    ("step", training::report_step),
    ("job", training::report_job),
    ("checkpoint", training::report_checkpoint),
    ("inference", inference::report_inference),
];

fn main() -> Result<()> {
    // cargo adds --bench.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let Some(unknown) = wanted
        .iter()
        .find(|name| PARTS.iter().all(|(part, _)| part != name))
    {
        let names: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
        bail!("there is no part {unknown}: choose of {}", names.join(", "));
    }
    machine::print();
    for (name, run) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            println!();
            run()?;
        }
    }
    Ok(())
}
