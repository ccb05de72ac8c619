//! Whether the worker's disk has room for trials. A trial on a full disk only uses up its attempts,
//! so none is taken before there is room again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use tokio::sync::mpsc;

use crate::protocol::Event;

/// Bytes that a trial may want of the disk: what a pack leaves while the coordinator is away.
const WANTED: i64 = 64 << 20;

/// Bytes that are written where room cannot be taken without.
const SAMPLE: usize = 1 << 20;

/// Time between two looks.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// How to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// At what the file system says.
    Briefly,
    /// By taking the room for a moment, since something could not be written: a quota does not
    /// show otherwise.
    Closely,
}

/// The directory that trials write to, and what was last seen.
pub(super) struct Room {
    directory: PathBuf,
    short: Mutex<bool>,
}

impl Room {
    pub(super) fn new(directory: PathBuf) -> Room {
        Room { directory, short: Mutex::new(false) }
    }

    /// Looks, and tells the agent. Waits for the disk, and for a look that is under way: the agent
    /// hears of them in their order.
    pub(super) fn tell(&self, look: Look, events: &mpsc::Sender<Event>) {
        let mut short = self.short.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = self.has_enough(look, *short);
        match (*short, enough) {
            (false, false) => tracing::warn!(
                directory = %self.directory.display(),
                wanted_bytes = WANTED,
                "the disk is full: no trial is taken until there is room"
            ),
            (true, true) => tracing::info!("the disk has room again"),
            _ => {}
        }
        *short = !enough;
        // The agent may have ended.
        let _ = events.blocking_send(Event::Room { enough });
    }

    fn has_enough(&self, look: Look, short: bool) -> bool {
        // What a close look has found, only a close look takes back.
        let closely = look == Look::Closely || short;
        says_enough(&self.directory) && (!closely || gives_enough(&self.directory))
    }
}

/// What cannot be measured is taken for enough: what is tried there fails by itself.
fn says_enough(directory: &Path) -> bool {
    statvfs(directory).map_or(true, |disk| {
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        disk.blocks() == 0 || free >= WANTED.unsigned_abs()
    })
}

fn gives_enough(directory: &Path) -> bool {
    let taken = tempfile::tempfile_in(directory).and_then(|mut file| {
        match fallocate(&file, FallocateFlags::empty(), 0, WANTED) {
            Err(Errno::EOPNOTSUPP) => {
                file.write_all(&vec![1; SAMPLE]).and_then(|()| file.sync_all())
            }
            taken => taken.map_err(io::Error::from),
        }
    });
    let refusal = taken.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw);
    !matches!(refusal, Some(Errno::ENOSPC | Errno::EDQUOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(room: &Room, look: Look) -> bool {
        let (events, mut received) = mpsc::channel(1);
        room.tell(look, &events);
        matches!(received.try_recv(), Ok(Event::Room { enough: true }))
    }

    #[test]
    fn a_disk_with_room_has_it_in_every_way_of_looking() {
        let directory = tempfile::tempdir().unwrap();
        let room = Room::new(directory.path().to_owned());
        assert!(told(&room, Look::Briefly) && told(&room, Look::Closely));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(told(&Room::new(directory.path().join("missing")), Look::Closely));
    }
}
