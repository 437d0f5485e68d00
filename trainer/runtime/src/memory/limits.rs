//! How much memory there is: for this process, and for all that share the machine or a control group with it.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Where control groups are mounted: version 2, and the memory controller of version 1.
pub(super) const MOUNTS: [(&str, Version); 2] = [
    ("/sys/fs/cgroup", Version::Two),
    ("/sys/fs/cgroup/memory", Version::One),
];

/// An amount of memory, and what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Bytes.
    pub bytes: u64,
    /// Whose, in words.
    pub by: String,
}

/// Memory that this process shares with others: of its control groups or of the machine, whichever has less.
/// Swap counts, because what is swapped out was not refused. None where the system does not tell.
pub fn shared() -> Option<Bound> {
    let swap = meminfo("SwapTotal:").unwrap_or(0);
    let machine = meminfo("MemTotal:").map(|memory| Bound {
        bytes: memory.saturating_add(swap),
        by: match swap {
            0 => "the memory of this machine".into(),
            _ => "the memory and swap of this machine".into(),
        },
    });
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = MOUNTS.iter().flat_map(|(mount, version)| {
        let folders = version.folders(Path::new(mount), &groups);
        folders
            .into_iter()
            .filter_map(move |folder| version.limit(&folder, swap))
    });
    limits.chain(machine).min_by_key(|bound| bound.bytes)
}

/// Memory that this process may map, if it is limited.
pub fn of_process() -> Option<Bound> {
    let bound = |(resource, option): (Resource, &str)| {
        let bytes = getrlimit(resource).current?;
        let by = format!("the limit of {option}");
        Some(Bound { bytes, by })
    };
    let limits = [(Resource::As, "ulimit -v"), (Resource::Data, "ulimit -d")];
    let limits = limits.into_iter().filter_map(bound);
    limits.min_by_key(|bound| bound.bytes)
}

/// How many processes the kernel has killed for lack of memory: in this one's control group, else on the
/// machine. None where the system does not tell.
pub fn kills() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = MOUNTS.iter().find_map(|(mount, version)| {
        let folders = version.folders(Path::new(mount), &groups);
        let file = |folder: PathBuf| std::fs::read_to_string(folder.join(version.events())).ok();
        count(&folders.into_iter().find_map(file)?)
    });
    let of_machine = || count(&std::fs::read_to_string("/proc/vmstat").ok()?);
    of_groups.or_else(of_machine)
}

/// The counter in `memory.events`, `memory.oom_control` or `/proc/vmstat`.
fn count(text: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    value.trim().parse().ok()
}

/// Bytes of an entry of `/proc/meminfo` of this machine.
pub(super) fn meminfo(name: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}

/// Bytes of an entry of `/proc/meminfo`.
pub(super) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let value: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    value.checked_mul(1024)
}

/// Of control groups.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Version {
    /// The folders of this process's group and those around it, inmost first. A container may see its own
    /// group as the root, under whatever name it has outside.
    pub fn folders(self, mount: &Path, groups: &str) -> Vec<PathBuf> {
        let path = groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let ours = match self {
                Version::One => controllers.split(',').any(|name| name == "memory"),
                Version::Two => controllers.is_empty(),
            };
            ours.then(|| path.trim_start_matches('/'))
        });
        let Some(path) = path else {
            return Vec::new();
        };
        let folders = Path::new(path).ancestors();
        folders.map(|folder| mount.join(folder)).collect()
    }

    /// The limit of a group, with the swap that it may use; none if it has no limit.
    fn limit(self, folder: &Path, swap: u64) -> Option<Bound> {
        let value = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name)).ok()?;
            text.trim().parse::<u64>().ok() // `max` is no limit
        };
        let (memory, swap) = match self {
            Version::One => (value("memory.limit_in_bytes")?, swap),
            Version::Two => {
                let limit = value("memory.swap.max").unwrap_or(swap);
                (value("memory.max")?, limit.min(swap))
            }
        };
        Some(Bound {
            bytes: memory.saturating_add(swap),
            by: "the memory limit of the container or control group".into(),
        })
    }

    fn events(self) -> &'static str {
        match self {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A tree of groups with these files.
    fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().expect("a parent")).expect("writable");
            fs::write(file, text).expect("writable");
        }
        folder
    }

    fn least(version: Version, mount: &Path, groups: &str, swap: u64) -> Option<u64> {
        let folders = version.folders(mount, groups);
        let limits = folders
            .iter()
            .filter_map(|folder| version.limit(folder, swap));
        limits.map(|bound| bound.bytes).min()
    }

    #[test]
    fn t20_the_limit_of_any_group_around_a_process_counts() {
        let mount = mount(&[
            ("memory.stat", ""),
            ("user/memory.max", "3000\n"),
            ("user/app/memory.max", "max\n"),
            ("other/memory.max", "1\n"),
        ]);
        let least = |groups: &str, swap| least(Version::Two, mount.path(), groups, swap);
        assert_eq!(least("0::/user/app\n", 0), Some(3000));
        assert_eq!(least("0::/user/app\n", 500), Some(3500), "swap");
        assert_eq!(least("0::/app\n", 0), None);
        assert_eq!(least("4:memory:/user/app\n", 0), None, "of version 1");
        fs::write(mount.path().join("user/memory.swap.max"), "0\n").expect("writable");
        assert_eq!(least("0::/user/app\n", 500), Some(3000), "no swap");
    }

    #[test]
    fn t20_a_container_that_sees_its_group_as_the_root_is_limited_by_it() {
        let mount = mount(&[("memory.limit_in_bytes", "2000\n")]);
        let groups = "5:cpu,cpuacct:/a\n4:memory:/docker/0123\n0::/\n";
        assert_eq!(least(Version::One, mount.path(), groups, 0), Some(2000));
        assert_eq!(least(Version::Two, mount.path(), groups, 0), None);
    }

    #[test]
    fn t20_the_numbers_of_the_system_are_read() {
        let meminfo = "MemTotal:       24653772 kB\nMemFree:  1 kB\nSwapTotal:  0 kB\n";
        assert_eq!(kibibytes(meminfo, "MemTotal:"), Some(24_653_772 * 1024));
        assert_eq!(kibibytes(meminfo, "SwapTotal:"), Some(0));
        assert_eq!(kibibytes(meminfo, "SwapFree:"), None);
        let events = "low 0\noom 4\noom_kill 3\noom_group_kill 0\n";
        assert_eq!(count(events), Some(3));
        assert_eq!(
            count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
            Some(7)
        );
        assert_eq!(count("oom 4\n"), None);
        let shared = shared().expect("Linux tells");
        assert!(shared.bytes > 1 << 26, "{shared:?}");
    }
}
