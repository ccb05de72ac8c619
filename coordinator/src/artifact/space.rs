//! Room on the disk.

use std::path::Path;

use super::error::Error;

/// Bytes that stay free for the database, which may lie on the same disk: nothing is acknowledged
/// without it.
pub(crate) const RESERVE: u64 = 256 << 20;

/// Bytes that may still be written to the disk of `directory`.
pub(super) fn available(directory: &Path) -> Result<u64, Error> {
    let io = |errno: nix::Error| Error::io("measure the disk of", directory)(errno.into());
    let disk = nix::sys::statvfs::statvfs(directory).map_err(io)?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}
