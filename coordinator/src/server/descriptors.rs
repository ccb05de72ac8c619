//! File descriptors: every connection takes one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are open beside the connections: of the database, artifacts, logs.
const FILES: u64 = 512;

/// Lets this process open as many files as it may, which is often many times what it starts with,
/// and warns where these are too few for so many connections.
pub(super) fn raise(connections: usize) {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(FILES);
    match raised() {
        Ok(most) if most < wanted => tracing::warn!(
            "this process may open {most} files, and {connections} connections need {wanted}: \
             further ones would wait; hint: raise the hard limit before the start (`ulimit -Hn`, \
             LimitNOFILE= in a systemd unit)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files is not known"),
    }
}

/// How many files this process may open from here on.
fn raised() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        return Ok(soft);
    }
    Ok(hard)
}
