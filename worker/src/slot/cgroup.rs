//! Which control groups bound the process.

use std::path::{Path, PathBuf};

/// The directories of a controller's groups.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Groups {
    /// Of version 1, where each controller has a tree of its own.
    V1(Vec<PathBuf>),
    /// Of version 2.
    V2(Vec<PathBuf>),
}

/// The process's groups that hold `controller`, of both versions, each with all those above it;
/// `membership` is the content of `/proc/self/cgroup`.
pub(super) fn groups(root: &Path, membership: &str, controller: &str) -> Vec<Groups> {
    let of_line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if id == "0" && controllers.is_empty() {
            return Some(Groups::V2(levels(root, path)));
        }
        if !controllers.split(',').any(|c| c == controller) {
            return None;
        }
        let mount = root.join(controllers);
        let mount = if mount.is_dir() { mount } else { root.join(controller) };
        Some(Groups::V1(levels(&mount, path)))
    };
    membership.lines().filter_map(of_line).collect()
}

/// The group's directory and all above it, down to the mount's root. In a container the path may
/// name groups that are not visible; the root always is.
fn levels(mount: &Path, path: &str) -> Vec<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    path.ancestors().map(|part| mount.join(part)).collect()
}
