//! How much memory this process can still have, by what the system says.
//!
//! It bounds what files may make a process hold. A process that takes more is killed without a word, and on a
//! machine without a limit takes others with it.

use std::fs;
use std::path::{Path, PathBuf};

use trainyard_data::Limits;

/// Where control groups are, in their second version.
const CGROUPS: &str = "/sys/fs/cgroup";

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
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| available(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = group(&groups).map(|path| left_in(Path::new(CGROUPS), path));
    machine.into_iter().chain(groups.flatten()).min()
}

/// Of `/proc/meminfo`: what can be had without swapping.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Of `/proc/self/cgroup`: the group of this process, from the root of all.
fn group(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The least that is left in a group and those around it.
fn left_in(root: &Path, group: &str) -> Option<u64> {
    let groups = Path::new(group).ancestors().map(|path| root.join(path));
    groups.filter_map(left).min()
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
    use super::*;

    #[test]
    fn the_machine_says_what_is_available() {
        let text = "MemTotal:       24689764 kB\nMemFree:  1 kB\nMemAvailable:   21810864 kB\n";
        assert_eq!(available(text), Some(21_810_864 * 1024));
        assert_eq!(available("MemTotal: 7 kB\n"), None, "before Linux 3.14");
        assert!(at_hand().is_some_and(|bytes| bytes > 1 << 20), "here");
    }

    #[test]
    fn the_tightest_group_counts_and_gives_back_its_caches() {
        let root = tempfile::tempdir().expect("a folder");
        let pod = root.path().join("pods/pod");
        fs::create_dir_all(&pod).expect("writable");
        let write = |folder: &Path, name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("writable");
        };
        write(&pod, "memory.max", "max\n");
        write(&pod, "memory.current", "300\n");
        assert_eq!(left_in(root.path(), "pods/pod"), None, "no limit");
        write(&pod, "memory.max", "1000\n");
        assert_eq!(left_in(root.path(), "pods/pod"), Some(700));
        let stat = "anon 1\ninactive_file 150\nactive_file 50\nfile 200\n";
        write(&pod, "memory.stat", stat);
        assert_eq!(left_in(root.path(), "pods/pod"), Some(900));
        let around = root.path().join("pods");
        write(&around, "memory.max", "500\n");
        write(&around, "memory.current", "600\n");
        assert_eq!(left_in(root.path(), "pods/pod"), Some(0));
        assert_eq!(group("1:name=x:/a\n0::/pods/pod\n"), Some("pods/pod"));
    }
}
