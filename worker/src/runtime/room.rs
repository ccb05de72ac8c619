//! Whether the worker's disks have room for trials. A trial on a full disk only uses up its
//! attempts, so none is taken before there is room again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use crate::protocol::Event;

/// Bytes that a trial may want of a disk: what a pack leaves while the coordinator is away.
const WANTED: i64 = 64 << 20;

/// Time between two looks.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// The directories that trials write to, and what was last seen.
pub(super) struct Room {
    directories: [PathBuf; 2],
    short: AtomicBool,
}

impl Room {
    pub(super) fn new(directories: [PathBuf; 2]) -> Room {
        Room { directories, short: AtomicBool::new(false) }
    }

    /// Looks as far as costs nothing. May wait for the disk.
    pub(super) fn look(&self) -> Event {
        // A quota is no property of the disk: that there is room again only a try tells.
        if self.short.load(Ordering::Relaxed) {
            return self.try_out();
        }
        self.conclude(self.directories.iter().find(|directory| !says_enough(directory)))
    }

    /// Looks by taking the room for a moment, since something could not be written.
    pub(super) fn try_out(&self) -> Event {
        self.conclude(self.directories.iter().find(|directory| !has_enough(directory)))
    }

    fn conclude(&self, short: Option<&PathBuf>) -> Event {
        let before = self.short.swap(short.is_some(), Ordering::Relaxed);
        match short {
            Some(directory) if !before => tracing::warn!(
                directory = %directory.display(),
                wanted_bytes = WANTED,
                "the disk is full: no trial is taken until there is room"
            ),
            None if before => tracing::info!("the disk has room again"),
            _ => {}
        }
        Event::Room { enough: short.is_none() }
    }
}

/// What cannot be measured is taken for enough: what is tried there fails by itself.
fn says_enough(directory: &Path) -> bool {
    statvfs(directory).map_or(true, |disk| {
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        free >= WANTED.unsigned_abs()
    })
}

fn has_enough(directory: &Path) -> bool {
    let taken = tempfile::tempfile_in(directory).and_then(|file| {
        fallocate(&file, FallocateFlags::empty(), 0, WANTED).map_err(io::Error::from)
    });
    match taken.as_ref().err().and_then(io::Error::raw_os_error).map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => false,
        // Not every file system can.
        Some(_) => says_enough(directory),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_room_has_it_in_every_way_of_looking() {
        let directory = tempfile::tempdir().unwrap();
        let room = Room::new([directory.path().to_owned(), directory.path().join("missing")]);
        for event in [room.look(), room.try_out(), room.look()] {
            assert!(matches!(event, Event::Room { enough: true }));
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
