//! Time for the scheduler.

use std::time::{SystemTime, UNIX_EPOCH};

use deptune_sweep::record::WallMillis;
use deptune_sweep::scheduler::Now;
use tokio::time::Instant;

/// A clock that starts at 0 with the coordinator and never jumps. It is the runtime's, so that a
/// simulated runtime has simulated leases.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The time of an event.
    pub(super) fn now(&self) -> Now {
        let monotonic = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { monotonic, wall: wall() }
    }
}

/// Milliseconds since 1970-01-01 UTC; 0 on a machine whose clock stands before that.
pub(crate) fn wall() -> WallMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMillis::try_from(since.as_millis()).unwrap_or(WallMillis::MAX)
}
