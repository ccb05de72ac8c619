//! How many CPUs the process was given.

use std::fs;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::cgroup::{Groups, groups};

/// The CPUs that this process may keep busy: the least of its affinity mask, the quotas of its
/// cgroups and its Slurm allocation. At least 1.
pub(super) fn available() -> u32 {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let quota = quota(Path::new("/sys/fs/cgroup"), &membership);
    let slurm = ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"];
    let slurm = slurm.iter().filter_map(|name| std::env::var(name).ok()?.parse().ok());
    let bounds = affinity().into_iter().chain(quota).chain(slurm);
    bounds.min().unwrap_or_else(all).max(1)
}

/// The processor's model name.
pub(super) fn name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or("cpu", |(_, name)| name.trim()).to_owned()
}

fn all() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

fn affinity() -> Option<u32> {
    let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let count = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).count();
    u32::try_from(count).ok().filter(|&n| n > 0)
}

/// The tightest quota of the process's cgroup and those above it, in whole CPUs rounded down.
fn quota(root: &Path, membership: &str) -> Option<u32> {
    let quotas = groups(root, membership, "cpu").into_iter().flat_map(|groups| match groups {
        Groups::V1(dirs) => dirs.iter().filter_map(|dir| quota_v1(dir)).collect::<Vec<_>>(),
        Groups::V2(dirs) => dirs.iter().filter_map(|dir| quota_v2(dir)).collect(),
    });
    quotas.min()
}

fn quota_v2(dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(dir.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    whole_cpus(quota.parse().ok()?, period.parse().ok()?)
}

fn quota_v1(dir: &Path) -> Option<u32> {
    let read = |name| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<i64>().ok();
    let quota = u64::try_from(read("cpu.cfs_quota_us")?).ok()?;
    whole_cpus(quota, u64::try_from(read("cpu.cfs_period_us")?).ok()?)
}

fn whole_cpus(quota: u64, period: u64) -> Option<u32> {
    u32::try_from(quota.checked_div(period)?).ok().map(|n| n.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_cpu() {
        assert!((1..=all()).contains(&available()));
        assert!(!name().is_empty());
    }

    #[test]
    fn the_tightest_quota_above_the_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("job/step");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota(root.path(), "0::/job/step\n"), None);
        fs::write(root.path().join("job/cpu.max"), "350000 100000\n").unwrap();
        assert_eq!(quota(root.path(), "0::/job/step\n"), Some(3));
        fs::write(group.join("cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(quota(root.path(), "0::/job/step\n"), Some(1));
    }

    #[test]
    fn version_1_groups_are_read_too() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("cpu,cpuacct/docker/x");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.cfs_quota_us"), "200000\n").unwrap();
        fs::write(group.join("cpu.cfs_period_us"), "100000\n").unwrap();
        let membership = "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n";
        assert_eq!(quota(root.path(), membership), Some(2));
        fs::write(group.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        assert_eq!(quota(root.path(), membership), None);
    }
}
