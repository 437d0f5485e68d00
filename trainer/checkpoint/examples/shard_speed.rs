//! How fast a shard of 100 MB is written and loaded, beside the bare disk in the same run.
//!
//! `cargo run -p trainyard-checkpoint --example shard_speed -- [FOLDER]`

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use trainyard_checkpoint::{FolderStorage, Section, ShardId, Storage, write_shard};

/// Of one tensor; with two slots of Adam a shard has 100 MB.
const FLOATS: usize = 100_000_000 / 4 / 3;
/// What a server's chunks hold.
const CHUNK: usize = 65_536;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os().nth(1).map(PathBuf::from);
    let root = root.unwrap_or_else(std::env::temp_dir).join("shard_speed");
    let floats: Vec<f32> = (0..FLOATS).map(|i| (i as f32).sin()).collect();
    let section = |name| Section {
        name,
        parts: floats.chunks(CHUNK).collect(),
    };
    let sections = [
        section("parameters"),
        section("exp_avg"),
        section("exp_avg_sq"),
    ];
    let storage = FolderStorage::open(&root)?;
    let (mut bare, mut shard, mut load) = (vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        bare.push(timed(|| {
            let mut file = File::create(root.join("bare"))?;
            for part in sections.iter().flat_map(|section| &section.parts) {
                file.write_all(bytemuck::cast_slice(part))?;
            }
            Ok(file.sync_all()?)
        })?);
        fs::remove_file(root.join("bare"))?;
        let id = ShardId {
            generation: 1,
            step: round as u64,
            index: 0,
            of: 1,
        };
        let mut record = None;
        shard.push(timed(|| {
            record = Some(write_shard(&storage, id, 0..FLOATS, &sections)?);
            Ok(())
        })?);
        let record = record.ok_or("nothing was written")?;
        load.push(timed(|| {
            Ok(trainyard_checkpoint::verify_shard(&storage, &record)?)
        })?);
        storage.delete(&record.key)?;
    }
    report("bare write and fsync", &mut bare);
    report("write_shard", &mut shard);
    report("verify_shard", &mut load);
    fs::remove_dir_all(root)?;
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let speed = |time: Duration| 12.0 * FLOATS as f64 / 1e6 / time.as_secs_f64();
    let (slowest, median) = (times[times.len() - 1], times[times.len() / 2]);
    println!(
        "{what:>22}: median {:5.0} MB/s, {:5.0} to {:5.0}",
        speed(median),
        speed(slowest),
        speed(times[0])
    );
}
