//! How much memory the process may use.

use std::fs;
use std::path::Path;

use super::cgroup::{Groups, groups};

/// Bytes that this process and its children may use: what the machine has free, within the limits
/// of the process's cgroups; `None` where neither is known.
pub(super) fn available() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limits(Path::new("/sys/fs/cgroup"), &membership);
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| free(&text));
    limits.into_iter().chain(free).min()
}

/// What the kernel believes can be used without swapping.
fn free(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The limits of the process's cgroup and those above it.
fn limits(root: &Path, membership: &str) -> Vec<u64> {
    let read = |dir: &Path, name| -> Option<u64> {
        // "max" is no number, and no limit.
        fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok()
    };
    let limits = groups(root, membership, "memory").into_iter().flat_map(|groups| {
        let (dirs, name) = match groups {
            Groups::V1(dirs) => (dirs, "memory.limit_in_bytes"),
            Groups::V2(dirs) => (dirs, "memory.max"),
        };
        dirs.into_iter().filter_map(move |dir| read(&dir, name))
    });
    limits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn what_is_free_is_read_in_bytes() {
        assert_eq!(free("MemTotal: 9 kB\nMemAvailable:    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(free("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn every_limit_above_the_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("job/step");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("job/memory.max"), "4096\n").unwrap();
        assert_eq!(limits(root.path(), "0::/job/step\n"), [4096]);
    }
}
