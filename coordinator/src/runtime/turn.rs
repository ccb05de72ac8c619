//! What a commit holds together: events stepped one after the other, and what follows from them
//! once their writes are durable.
//!
//! ```text
//!   take, take, take … ──► writes() ──► Store::commit ──► settle(result) ──► answers, what next
//! ```
//!
//! No clock, no task, no channel: the owner loop drives it over a real store, and so does the
//! simulator over one that fails, forgets to answer, or belongs to somebody else by now.

use deptune_sweep::mutation;
use deptune_sweep::scheduler::{Ack, Effect, Event, Now, Refusal, Reply, Scheduler, Write};

use super::handle::Error;
use crate::store::CommitError;

/// Events committed together at most.
const MAX_BATCH: usize = 1024;
/// Milliseconds after which a coordinator that wrote nothing looks whether the store is its own.
const FENCE_EVERY: u64 = 1_000;
/// The second and the longest wait before a rebuild, in milliseconds.
const SETBACK_WAITS: (u64, u64) = (100, 5_000);

/// Events of one commit. `C` is how a caller is answered.
#[derive(Debug)]
pub struct Turn<C> {
    writes: Vec<Write>,
    answers: Vec<(C, Result<Reply, Refusal>)>,
    wakes: bool,
    /// Whether the store must say first that it is still ours.
    fenced: bool,
}

/// What follows from a turn.
#[derive(Debug)]
pub struct Settled<C> {
    /// What each caller hears, in the order of the events.
    pub answers: Vec<(C, Result<Reply, Error>)>,
    /// Cursor of the last log entry that became durable.
    pub cursor: Option<u64>,
    /// Whether trials may have become available.
    pub wakes: bool,
    /// What the coordinator does now.
    pub next: Next,
}

/// What the coordinator does after a turn.
#[derive(Debug)]
pub enum Next {
    /// It takes the next events.
    GoOn,
    /// Its memory is ahead of the store: it drops the scheduler and restores it.
    Recover(CommitError),
    /// Another coordinator has the store: it ends.
    End(CommitError),
}

impl<C> Default for Turn<C> {
    fn default() -> Turn<C> {
        Turn { writes: Vec::new(), answers: Vec::new(), wakes: false, fenced: false }
    }
}

impl<C> Turn<C> {
    /// Steps one event. Where its caller is gone already, what it reports is still recorded, but
    /// nothing is leased to nobody.
    pub fn take(
        &mut self,
        scheduler: &mut Scheduler,
        event: Event,
        caller: C,
        gone: bool,
        now: Now,
    ) {
        let event = if gone { without_absent_caller(event) } else { Some(event) };
        let Some(event) = event else { return };
        let step = scheduler.step(event, now);
        self.writes.extend(step.writes);
        let mut caller = Some(caller);
        for effect in step.effects {
            match effect {
                Effect::WorkAvailable => self.wakes = true,
                Effect::Reply(answer) => {
                    self.fenced |=
                        takes_away(&answer) && !mutation::on("deposed answers from memory");
                    self.answers.extend(caller.take().map(|caller| (caller, answer)));
                }
            }
        }
    }

    /// Has the store say, whatever is written and answered, that it is still ours.
    pub fn fence(&mut self) {
        self.fenced = true;
    }

    /// Whether the callers are answered only after a commit: because something is written, or
    /// because the answer would be wrong if another coordinator had taken over. Then even an empty
    /// transaction is refused.
    #[must_use]
    pub fn needs_commit(&self) -> bool {
        self.fenced || !self.writes.is_empty()
    }

    /// What is to be made durable, in one transaction, before anybody is answered.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// What follows, now that the commit succeeded or did not.
    #[must_use]
    pub fn settle(self, committed: Result<(), CommitError>) -> Settled<C> {
        let failure = committed.as_ref().err().map(Error::from);
        let next = match committed {
            Ok(()) => Next::GoOn,
            Err(error @ CommitError::Deposed { .. }) => Next::End(error),
            Err(error) => Next::Recover(error),
        };
        if let Some(failure) = failure.filter(|_| !mutation::on("ack before commit")) {
            let certain = mutation::on("unknown commit treated as failed")
                && matches!(next, Next::Recover(CommitError::Unknown(_)));
            let error = if certain { Error::Busy } else { failure };
            let refused = |(caller, _)| (caller, Err(error.clone()));
            let answers = self.answers.into_iter().map(refused).collect();
            return Settled { answers, cursor: None, wakes: false, next };
        }
        let answer = |(caller, answer): (C, Result<Reply, Refusal>)| {
            (caller, answer.map_err(Error::Refused))
        };
        Settled {
            answers: self.answers.into_iter().map(answer).collect(),
            cursor: last_cursor(&self.writes),
            wakes: self.wakes,
            next,
        }
    }
}

/// How many events are committed together: 1 after a failure, doubled by each success, so that a
/// write that the store refuses fails alone and not with a thousand others again and again.
#[derive(Debug, Clone, Copy)]
pub struct BatchSize(usize);

impl Default for BatchSize {
    fn default() -> BatchSize {
        BatchSize(MAX_BATCH)
    }
}

impl BatchSize {
    /// Events that the next turn may take.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }

    /// A commit succeeded, or did not.
    pub fn learn(&mut self, succeeded: bool) {
        self.0 = if succeeded { (self.0 * 2).min(MAX_BATCH) } else { 1 };
    }
}

/// How long to let the store alone after commits that failed one after the other. Each costs a
/// rebuild that reads every trial, and a full disk is full for a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setbacks(u32);

impl Setbacks {
    /// A commit succeeded.
    pub fn end(&mut self) {
        self.0 = 0;
    }

    /// A commit failed. Milliseconds to wait before the rebuild: none after the first, then
    /// twice as long each time.
    pub fn next_wait(&mut self) -> u64 {
        let wait = match self.0 {
            0 => 0,
            before => (SETBACK_WAITS.0 << (before - 1).min(16)).min(SETBACK_WAITS.1),
        };
        self.0 = self.0.saturating_add(1);
        wait
    }
}

/// When the store last said that it is ours. A coordinator that writes nothing for a while asks,
/// so that one that was replaced does not keep its workers waiting for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fence {
    last: u64,
}

impl Fence {
    /// Whether to ask now, on the monotonic clock.
    #[must_use]
    pub fn is_due(self, now: u64) -> bool {
        now.saturating_sub(self.last) >= FENCE_EVERY
    }

    /// The store took a commit that was decided at this time.
    pub fn passed(&mut self, now: u64) {
        self.last = now;
    }
}

/// Whether the caller gives something up because of the answer, so that it must not come from a
/// memory that is out of date.
fn takes_away(answer: &Result<Reply, Refusal>) -> bool {
    match answer {
        Ok(Reply::Heard { stops, drain }) => *drain || !stops.is_empty(),
        Ok(Reply::Exchanged { acks, .. }) => acks.iter().any(|ack| *ack != Ack::Accepted),
        // That nothing had to be done for it: perhaps the other one has undone it since.
        Ok(Reply::Sweep(_) | Reply::Deleted { .. }) => true,
        Ok(Reply::Registered | Reply::Done) => false,
        Err(_) => true,
    }
}

/// Takes the request for trials out of an exchange whose caller has gone.
fn without_absent_caller(event: Event) -> Option<Event> {
    match event {
        Event::Exchange { reports, .. } if reports.is_empty() => None,
        Event::Exchange { worker, request_id, reports, .. } => {
            Some(Event::Exchange { worker, request_id, reports, free_slots: Vec::new() })
        }
        event => Some(event),
    }
}

fn last_cursor(writes: &[Write]) -> Option<u64> {
    writes.iter().rev().find_map(|write| match write {
        Write::Log(record) => Some(record.cursor),
        _ => None,
    })
}
