//! `DEPTUNE_CRASH_AT=NAME:COUNT` kills this process when it reaches the place NAME
//! (`deptune_sweep::crash`) for the COUNT-th time, as `kill -9` would. In debug builds only.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use deptune_sweep::crash::{Point, at_points};
use nix::sys::signal::{Signal, raise};

use crate::output::say;

/// The place's name and how often it was still to be reached.
static ARMED: OnceLock<(String, AtomicU64)> = OnceLock::new();

/// Looks for the variable.
pub(crate) fn arm() {
    let asked = std::env::var("DEPTUNE_CRASH_AT").ok();
    let armed = asked.as_deref().and_then(|text| {
        let (name, count) = text.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(count.parse().ok()?)))
    });
    if let Some(armed) = armed {
        // Called once.
        let _ = ARMED.set(armed);
        at_points(reached);
    }
}

fn reached(point: Point) {
    let Some((name, left)) = ARMED.get() else { return };
    if name == point.as_str() && left.fetch_sub(1, Ordering::SeqCst) == 1 {
        // So that a test tells this end from any other.
        say(&format!("killed at {name}"));
        // There is nothing to do when it fails: the test says that the process lives.
        let _ = raise(Signal::SIGKILL);
    }
}
