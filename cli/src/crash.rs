//! `DEPTUNE_CRASH_AT=NAME:COUNT` kills this process when it reaches the place NAME
//! (`deptune_sweep::crash`) for the COUNT-th time, as `kill -9` would. In debug builds only.

use deptune_sweep::crash::{self, VARIABLE};
use nix::sys::signal::{Signal, raise};

use crate::output::say;

/// Looks for the variable.
pub(crate) fn arm() {
    if let Ok(asked) = std::env::var(VARIABLE) {
        crash::arm(&asked, |name| {
            // So that a test tells this end from any other.
            say(&format!("killed at {name}"));
            // There is nothing to do when it fails: the test says that the process lives.
            let _ = raise(Signal::SIGKILL);
        });
    }
}
