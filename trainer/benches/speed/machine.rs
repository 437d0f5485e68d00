//! Where the figures were measured.

use std::fs::read_to_string;

/// Prints processor, cores, memory, kernel and load.
pub fn print() {
    let cpu = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "machine: {}, {} cores, {:.0} GiB, Linux {}",
        model.unwrap_or("unknown processor"),
        cores(),
        kilobytes.unwrap_or_default() / (1 << 20) as f64,
        kernel.trim(),
    );
    println!("load average: {}", load());
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The load of the last minutes: above 1 a core, other work has disturbed the figures.
pub fn load() -> String {
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Processor time of this process so far, in all its threads, in milliseconds; resolves 10.
pub fn cpu_ms() -> f64 {
    let stat = read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before the last parenthesis may hold anything; utime and stime are fields 14 and 15.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    10.0 * fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
}
