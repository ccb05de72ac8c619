//! Which disks a database may lie on.

use std::path::Path;

use nix::sys::statfs::statfs;

use crate::store::OpenError;

/// File systems whose locks or shared memory do not hold between machines, by the magic number
/// that `statfs(2)` gives and the name that people know.
const NETWORK: [(u32, &str); 12] = [
    (0x0000_6969, "NFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x00c3_6400, "CephFS"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x0000_517b, "SMB"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x0102_1997, "9P"),
    (0x2003_0528, "OrangeFS"),
];

/// Refuses a directory on a network file system.
pub(super) fn check(directory: &Path, database: &Path) -> Result<(), OpenError> {
    let found = statfs(directory).map_err(|errno| OpenError::Io {
        what: "look at the file system of",
        path: directory.to_owned(),
        source: errno.into(),
    })?;
    // The magic numbers are 32 bits wide; the type that carries them differs between platforms.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let magic = found.filesystem_type().0 as u32;
    match network(magic) {
        Some(kind) => Err(OpenError::NetworkDisk { path: database.to_owned(), kind }),
        None => Ok(()),
    }
}

fn network(magic: u32) -> Option<&'static str> {
    NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_disks_are_known_and_local_ones_pass() {
        assert_eq!(network(0x6969), Some("NFS"));
        assert_eq!(network(0x0bd0_0bd0), Some("Lustre"));
        assert_eq!(network(0xff53_4d42), Some("SMB"));
        let (ext4, tmpfs, xfs, overlay) = (0xef53, 0x0102_1994, 0x5846_5342, 0x794c_7630);
        for local in [ext4, tmpfs, xfs, overlay] {
            assert_eq!(network(local), None);
        }
        let here = std::env::temp_dir();
        check(&here, &here.join("x.db")).unwrap();
    }
}
