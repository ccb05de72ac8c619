//! The process group of a child: signals that can never reach anybody else.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long a child may take from SIGTERM to its end.
const GRACE: Duration = Duration::from_secs(5);

/// A process group, led by the child.
#[derive(Debug)]
pub(super) struct Group {
    state: Mutex<State>,
    gone: Condvar,
}

#[derive(Debug)]
struct State {
    /// The leader, until it is reaped: from then on its number may be somebody else's.
    leader: Option<Pid>,
    /// Whether we sent SIGKILL.
    killed: bool,
    ending: bool,
}

impl Group {
    pub(super) fn new(leader: Pid) -> Arc<Group> {
        let state = State { leader: Some(leader), killed: false, ending: false };
        Arc::new(Group { state: Mutex::new(state), gone: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every process of the group to stop.
    pub(super) fn ask(&self) {
        if let Some(leader) = self.lock().leader {
            // A group that is gone needs no signal.
            let _ = killpg(leader, Signal::SIGTERM);
        }
    }

    /// Asks, waits, kills. Returns at once.
    pub(super) fn end(self: &Arc<Group>) {
        let mut state = self.lock();
        if state.ending || state.leader.is_none() {
            return;
        }
        state.ending = true;
        drop(state);
        self.ask();
        let group = Arc::clone(self);
        let name = "deptune-kill".to_owned();
        let waiter = std::thread::Builder::new().name(name).spawn(move || {
            let state = group.lock();
            let wait = group.gone.wait_timeout_while(state, GRACE, |s| s.leader.is_some());
            drop(wait);
            group.kill();
        });
        if waiter.is_err() {
            self.kill();
        }
    }

    /// Kills every process of the group now.
    pub(super) fn kill(&self) {
        let mut state = self.lock();
        if let Some(leader) = state.leader {
            state.killed = true;
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }

    pub(super) fn was_killed(&self) -> bool {
        self.lock().killed
    }

    /// Kills what the leader left behind, and reaps the leader. To be called when the leader has
    /// exited but still holds its number.
    pub(super) fn bury<T>(&self, reap: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        if let Some(leader) = state.leader.take() {
            let _ = killpg(leader, Signal::SIGKILL);
        }
        let reaped = reap();
        drop(state);
        self.gone.notify_all();
        reaped
    }
}
