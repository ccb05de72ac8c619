//! The scheduler: a deterministic state machine that owns every trial's fate.
//!
//! ```text
//!   events ──► Scheduler::step(event, now) ──► Step { writes, effects }
//!                                                │         └─ released after the commit
//!                                                └─ one transaction in the store
//! ```
//!
//! The same events in the same order give the same steps. It never reads a clock and never
//! panics on what comes from outside. A trial goes through
//!
//! ```text
//!   (no row) ─lease─► Leased ─report─► Ended            epoch + 1 at each lease
//!                       │ ▲   failed, released, expired
//!                       ▼ │ lease
//!                     Pending ─ late report, nobody else has it ─► Ended
//! ```
//!
//! and its outcome is recorded once, by the holder of its current epoch. When a commit fails the
//! owner drops the scheduler and restores it from the store with [`Scheduler::restore`].

mod audit;
mod event;
mod explain;
mod forecast;
mod memory;
mod on_added;
mod on_cancel;
mod on_control;
mod on_exchange;
mod on_heartbeat;
mod on_submit;
mod on_tick;
mod on_worker;
mod packing;
mod placement;
mod quarantine;
mod request;
mod restore;
mod retry;
mod share;
mod state;
mod usage;
mod view;
mod waiting;

#[cfg(test)]
mod tests;

pub use audit::{Contradiction, Standing};
pub use event::{
    Ack, Changes, Control, Effect, Event, Grant, LeaseKey, LeaseProgress, Now, Refusal, Reply,
    Report, ReportEnd, Step, Stop, StopReason, TrialProgress, Write,
};
pub use explain::Explanation;
pub use forecast::{Forecast, forecast};
pub use placement::Unplaced;
pub use restore::{RestoreError, Snapshot};
pub use state::{Config, Scheduler};
pub use view::{RunningTrial, SweepProgress, WorkerStatus};

impl Scheduler {
    /// Takes one event and says what to store and what to answer.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Now) -> Step {
        self.now = now.monotonic;
        let mut step = Step::default();
        let reply = match event {
            Event::Submit { request_id, submission, spec } => {
                self.on_submit(request_id, submission, *spec, now, &mut step)
            }
            Event::Control { request_id, content, sweep, control } => {
                self.on_control(request_id, content, sweep, control, now, &mut step)
            }
            Event::Register { worker, name, version, labels, slots, lost } => {
                self.on_register(worker, name, version, labels, slots, &lost, now, &mut step)
            }
            Event::Exchange { worker, request_id, reports, free_slots } => {
                self.on_exchange(worker, request_id, reports, &free_slots, now, &mut step)
            }
            Event::Heartbeat { worker, leases } => {
                self.on_heartbeat(worker, &leases, now, &mut step)
            }
            Event::Progress { worker, trials } => self.on_progress(worker, trials, now, &mut step),
            Event::Leave { worker } => self.on_leave(worker, now, &mut step),
            Event::Drain { worker } => self.on_drain(worker, &mut step),
            Event::Tick => self.on_tick(now, &mut step),
        };
        step.effects.push(Effect::Reply(reply));
        step
    }
}
