//! What the agent decides: a synchronous, deterministic state machine. Events go in, actions come
//! out; no clock, no IO, no randomness but what the seed gives.
//!
//! ```text
//!            Event (with the time)                    Action
//! gRPC answers ─┐                                ┌─> calls to the coordinator
//! child's lines ─┼─> Agent::step ─> plan ────────┼─> start, ask, end children
//! disk done ─────┤     (state)    (what is due)  ├─> outbox: keep, save, forget
//! timers, SIGTERM┘                               └─> exit
//! ```
//!
//! Handlers (`on_*.rs`) only change the state; `plan` (`plan*.rs`) looks at the whole state after
//! every event and emits whatever is due. So nothing depends on the order in which answers,
//! failures and deaths come, and an action that failed is simply due again.
//!
//! What holds at all times:
//! - A report leaves only after it is in the outbox, its adapter after it is kept, and the outbox
//!   forgets only what the coordinator acknowledged or refused for good.
//! - An exchange that brought no answer is repeated with the same request id and content.
//! - A failed attempt is reported after its last checkpoint, so that the next one starts there.
//! - What an earlier agent left is delivered under that agent's id, before its unfinished leases
//!   are declared lost under the new one.

mod dice;
mod event;
mod held;
mod on_answer;
mod on_child;
mod on_disk;
mod plan;
mod plan_calls;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use deptune_sweep::child::Evaluation;
use deptune_sweep::id::{RequestId, WorkerId};
use deptune_sweep::record::SlotRecord;
use deptune_sweep::scheduler::{LeaseKey, Report};

use dice::Dice;
use held::{Ending, Held, Pack, Parcel};

pub use event::{
    Action, Answer, Call, CallError, CallKind, ChildNews, Event, FileKind, Kept, Millis, StopHow,
};

/// Times and the seed. All times in milliseconds.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long to look for the coordinator at first.
    pub register_timeout: Millis,
    /// How long to hold no lease and not reach the coordinator.
    pub idle_timeout: Millis,
    /// How long a child may get nowhere.
    pub hang_timeout: Millis,
    /// How long draining may take.
    pub drain_timeout: Millis,
    /// When to begin to drain by itself.
    pub drain_at: Option<Millis>,
    /// Longest wait between two tries to reach the coordinator: well below a lease's life, so that
    /// a restart costs none; short where another coordinator takes over within seconds.
    pub longest_wait: Millis,
    /// Seed of request ids and jitter; must differ between agents.
    pub seed: [u64; 2],
}

/// One run of an agent, as the coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub worker: WorkerId,
    /// Its slots.
    pub slots: Vec<SlotRecord>,
}

/// What an earlier agent left in the same outbox.
#[derive(Debug, Clone)]
pub struct Estate {
    /// That agent.
    pub identity: Identity,
    /// Its leases.
    pub trials: Vec<EstateTrial>,
}

/// A lease of an earlier agent.
#[derive(Debug, Clone)]
pub struct EstateTrial {
    /// The lease.
    pub lease: LeaseKey,
    /// Its report, if the attempt had ended.
    pub report: Option<Report>,
    /// The adapter that goes with the report.
    pub adapter: Option<Kept>,
    /// Its newest checkpoint that may not have been delivered.
    pub checkpoint: Option<Kept>,
    /// The evaluations that may not have been delivered.
    pub evaluations: Vec<Evaluation>,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    dice: Dice,
    started: Millis,
    /// Who it is, from the moment when the estate is settled.
    me: Identity,
    /// Whose estate is being delivered.
    estate: Option<Identity>,
    /// Leases of the estate to be declared lost at the registration.
    lost: Vec<LeaseKey>,
    /// The earlier agent, to be signed off after that.
    goodbye: Option<WorkerId>,
    link: Link,
    /// At most two are open: one that reports, and one that only asks, because the coordinator
    /// lets the latter wait for work and a report must not wait with it.
    exchanges: BTreeMap<RequestId, Exchange>,
    /// Reports go one by one since a batch was refused.
    one_by_one: bool,
    /// When to ask again for slots that got nothing.
    ask_at: Millis,
    /// What the progress call in flight carries.
    progress: Option<Vec<Delivery>>,
    progress_at: Millis,
    trials: BTreeMap<LeaseKey, Held>,
    packs: BTreeMap<u32, Pack>,
    runs: u64,
    /// The leases as last written down.
    noted: Option<Vec<LeaseKey>>,
    /// When they may be written down again, after that failed.
    note_at: Millis,
    /// Whether the disk has room for trials.
    room: bool,
    mode: Mode,
    wake: Option<Millis>,
}

/// The connection to the coordinator.
#[derive(Debug)]
struct Link {
    /// Whether the coordinator knows us, as far as we know.
    registered: bool,
    /// Whether it ever did.
    ever: bool,
    /// When it was last heard.
    heard: Millis,
    /// Failures in a row.
    failures: u32,
    /// No call before this.
    not_before: Millis,
    registering: bool,
    heartbeating: bool,
    leaving: Option<WorkerId>,
    heartbeat: u64,
    heartbeat_at: Millis,
}

/// An exchange that was not answered yet.
#[derive(Debug)]
struct Exchange {
    reports: Vec<Report>,
    free_slots: Vec<u32>,
    in_flight: bool,
}

/// What a progress call carries of one trial.
#[derive(Debug)]
struct Delivery {
    lease: LeaseKey,
    evaluations: Vec<Evaluation>,
    checkpoint: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Working,
    Draining { deadline: Millis },
    Ended,
}

/// First wait after a failure to reach the coordinator.
const BACKOFF_BASE: Millis = 250;

impl Agent {
    /// An agent that has not reached the coordinator yet.
    #[must_use]
    pub fn new(config: Config, me: Identity, estate: Option<Estate>, now: Millis) -> Agent {
        let mut trials = BTreeMap::new();
        let mut lost = Vec::new();
        let goodbye = estate.as_ref().map(|e| e.identity.worker);
        let estate = estate.and_then(|estate| {
            for trial in estate.trials {
                if trial.is_empty() {
                    lost.push(trial.lease);
                } else {
                    trials.insert(trial.lease, trial.into_held());
                }
            }
            // Nothing to deliver under the earlier agent's name: only its leases to declare lost.
            (!trials.is_empty()).then_some(estate.identity)
        });
        Agent {
            dice: Dice::new(config.seed),
            config,
            started: now,
            me,
            estate,
            lost,
            goodbye,
            link: Link {
                registered: false,
                ever: false,
                heard: now,
                failures: 0,
                not_before: now,
                registering: false,
                heartbeating: false,
                leaving: None,
                heartbeat: 10_000,
                heartbeat_at: now,
            },
            exchanges: BTreeMap::new(),
            one_by_one: false,
            ask_at: now,
            progress: None,
            progress_at: now,
            trials,
            packs: BTreeMap::new(),
            runs: 0,
            noted: None,
            note_at: now,
            room: true,
            mode: Mode::Working,
            wake: Some(now),
        }
    }

    /// Takes one event and says what to do. `now` never decreases.
    pub fn step(&mut self, event: Event, now: Millis) -> Vec<Action> {
        let mut out = Vec::new();
        if self.mode == Mode::Ended {
            return out;
        }
        match event {
            Event::Tick => {}
            Event::Drain => self.begin_drain(now),
            Event::Answered(answer) => self.on_answer(answer, now, &mut out),
            Event::CallFailed { call, error } => self.on_failure(call, error, now, &mut out),
            Event::Child { slot, run, news } => self.on_child(slot, run, *news, now, &mut out),
            Event::Kept { lease, file, kept } => self.on_kept(lease, file, kept, &mut out),
            Event::Room { enough } => self.room = enough,
            Event::LeasesSaved { durable } => self.on_leases_saved(durable, now),
            Event::ReportSaved { lease, durable } => self.on_saved(lease, durable),
        }
        self.plan(now, &mut out);
        out
    }

    /// When to send [`Event::Tick`] at the latest.
    #[must_use]
    pub fn wake(&self) -> Option<Millis> {
        self.wake
    }

    /// The id that calls carry.
    fn worker(&self) -> WorkerId {
        self.estate.as_ref().unwrap_or(&self.me).worker
    }

    /// Whether nothing is held that the coordinator should hear of.
    fn is_empty_handed(&self) -> bool {
        self.trials.is_empty() && self.packs.is_empty() && self.lost.is_empty()
    }

    fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    /// The coordinator did not answer: wait, longer each time.
    fn back_off(&mut self, now: Millis) {
        // Several calls that fail together are one failure.
        if now < self.link.not_before {
            return;
        }
        self.link.failures = self.link.failures.saturating_add(1);
        self.link.not_before = now + self.delay(self.link.failures);
    }

    fn delay(&mut self, failures: u32) -> Millis {
        let doubled = BACKOFF_BASE << failures.saturating_sub(1).min(16);
        self.dice.jitter(doubled.min(self.config.longest_wait))
    }

    /// Drops a lease that is no longer ours, or is done with.
    fn discard(&mut self, lease: LeaseKey, out: &mut Vec<Action>) {
        if self.trials.remove(&lease).is_some() {
            out.push(Action::Forget(lease));
        }
        self.lost.retain(|&l| l != lease);
    }
}

impl EstateTrial {
    fn is_empty(&self) -> bool {
        self.report.is_none() && self.checkpoint.is_none() && self.evaluations.is_empty()
    }

    fn into_held(self) -> Held {
        let step = self.report.as_ref().map_or(0, |r| r.last_step);
        let mut held = Held::new(step.max(self.checkpoint.as_ref().map_or(0, |c| c.step)));
        let reported = self.report.iter().flat_map(|r| r.evaluations.iter().cloned());
        for evaluation in self.evaluations.into_iter().chain(reported) {
            held.evaluations.insert((evaluation.step, evaluation.split.clone()), evaluation);
        }
        held.checkpoint = self.checkpoint.map(Parcel::new);
        let adapter = self.adapter.map(Parcel::new);
        held.end = self.report.map(|report| Ending::Saved { report, adapter });
        held
    }
}
