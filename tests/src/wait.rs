//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// How long anything that should take a moment may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks.
const STEP: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers, at most for `timeout`; fails the test with `what` after that.
#[track_caller]
pub fn until<T>(what: &str, timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + timeout;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "gave up after {timeout:?} waiting until {what}");
        std::thread::sleep(STEP);
    }
}
