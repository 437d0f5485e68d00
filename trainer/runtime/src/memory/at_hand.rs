//! How much memory this process can still have, by what the system says.
//!
//! It bounds what files may make a process hold. A process that takes more is killed without a word, and on a
//! machine without a limit takes others with it.

use std::fs;
use std::path::{Path, PathBuf};

use trainyard_data::Limits;

use super::limits::{MOUNTS, meminfo};

/// The limits for data files, as far as the memory at hand makes them.
pub fn limits() -> Limits {
    Limits {
        memory: at_hand().unwrap_or(u64::MAX),
        ..Limits::default()
    }
}

/// Bytes that can be had now: of the machine, and of each control group that this process is in. `None` if
/// the system does not say.
pub fn at_hand() -> Option<u64> {
    // What can be had without swapping; before Linux 3.14 it was not told.
    let machine = meminfo("MemAvailable:");
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let (mount, version) = MOUNTS[0]; // the second version alone tells what is in use
    let groups = left_in(version.folders(Path::new(mount), &groups));
    machine.into_iter().chain(groups).min()
}

/// The least that is left in a group and those around it.
fn left_in(groups: Vec<PathBuf>) -> Option<u64> {
    groups.into_iter().filter_map(left).min()
}

fn left(group: PathBuf) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(group.join(name)).ok()?;
        text.trim().parse().ok()
    };
    // `max` without a limit.
    let (limit, used) = (number("memory.max")?, number("memory.current")?);
    let caches = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    Some(limit.saturating_sub(used.saturating_sub(caches_of(&caches))))
}

/// Of `memory.stat`: the caches of files, which the system gives back when it is asked for memory.
fn caches_of(stat: &str) -> u64 {
    let lines = stat.lines();
    let caches = lines.filter_map(|line| {
        let value = line
            .strip_prefix("inactive_file ")
            .or_else(|| line.strip_prefix("active_file "))?;
        value.parse::<u64>().ok()
    });
    caches.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Version, kibibytes};
    use super::*;

    #[test]
    fn the_machine_says_what_is_available() {
        let text = "MemTotal:       24689764 kB\nMemFree:  1 kB\nMemAvailable:   21810864 kB\n";
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(21_810_864 * 1024));
        assert_eq!(
            kibibytes("MemTotal: 7 kB\n", "MemAvailable:"),
            None,
            "before Linux 3.14"
        );
        assert!(at_hand().is_some_and(|bytes| bytes > 1 << 20), "here");
    }

    #[test]
    fn the_tightest_group_counts_and_gives_back_its_caches() {
        let root = tempfile::tempdir().expect("a folder");
        let pod = root.path().join("pods/pod");
        let groups = Version::Two.folders(root.path(), "1:name=x:/a\n0::/pods/pod\n");
        assert_eq!(groups[0], pod);
        fs::create_dir_all(&pod).expect("writable");
        let write = |folder: &Path, name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("writable");
        };
        write(&pod, "memory.max", "max\n");
        write(&pod, "memory.current", "300\n");
        assert_eq!(left_in(groups.clone()), None, "no limit");
        write(&pod, "memory.max", "1000\n");
        assert_eq!(left_in(groups.clone()), Some(700));
        let stat = "anon 1\ninactive_file 150\nactive_file 50\nfile 200\n";
        write(&pod, "memory.stat", stat);
        assert_eq!(left_in(groups.clone()), Some(900));
        let around = root.path().join("pods");
        write(&around, "memory.max", "500\n");
        write(&around, "memory.current", "600\n");
        assert_eq!(left_in(groups.clone()), Some(0));
    }
}
