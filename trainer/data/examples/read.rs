//! Reads a table as a worker does: `read FILE LABEL [THREADS]`. Prints the seconds that it took, the most MiB that it held,
//! rows and inputs. `make bench-data` runs it.

use std::time::Instant;

use trainyard_data::{Folder, Limits, LoadOptions, SourceSpec, TableOptions, Task, load};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, label, threads @ ..] = &arguments[..] else {
        return Err("usage: read FILE LABEL [THREADS]".into());
    };
    let mut limits = Limits::default();
    if let Some(threads) = threads.first() {
        limits.threads = threads.parse()?;
    }
    let table = match file.ends_with(".parquet") {
        true => TableOptions::parquet(file, label),
        false => TableOptions::csv(file, label),
    };
    let options = LoadOptions {
        limits,
        ..LoadOptions::new(Task::Regression, SourceSpec::Table(table))
    };
    let start = Instant::now();
    let data = load(&Folder::new("."), &options)?;
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = peak
        .unwrap_or_default()
        .trim_end_matches(" kB")
        .trim()
        .parse()?;
    let (rows, inputs) = (data.train.rows, data.train.width);
    println!("{seconds:.3} {:.1} {rows} {inputs}", kib / 1024.0);
    Ok(())
}
