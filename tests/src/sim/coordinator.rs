//! A coordinator process: the product's turns over the product's store in memory, with commits
//! that fail or whose result nobody learns, kills between any two steps, pauses, and a rival.

use std::collections::{BTreeMap, VecDeque};

use deptune_coordinator::artifact::Retention;
use deptune_coordinator::runtime::{BatchSize, Error, Fence, Next, Setbacks, Turn};
use deptune_coordinator::store::{CommitError, LoadError, MemoryStore, Store};
use deptune_sweep::scheduler::{Config, Event, Now, Reply, Scheduler};
use futures::FutureExt;

use super::clock::{Clock, TRUE};
use super::front::{Caller, Parked};
use super::invariants::{Broken, Commit};
use super::profile::Size;
use super::world::{Happening, World};

/// Milliseconds between two looks for expired leases.
const TICK: u64 = 250;

/// Where a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// Requests have arrived, nothing was stepped.
    BeforeStep,
    /// Stepped, and nothing written.
    BeforeCommit,
    /// Written, and nobody told.
    AfterCommit,
    /// Written, and half of the callers told.
    AmidReplies,
}

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Busy,
    Full,
    UnknownApplied,
    UnknownLost,
}

/// A commit under way.
#[derive(Debug)]
struct Flight {
    turn: Turn<Caller>,
    fate: Fate,
    result: Option<Result<(), CommitError>>,
    /// When it was decided, on the coordinator's clocks and in the world.
    now: Now,
    decided: u64,
    /// For how long the coordinator's clock had stalled by then.
    stood: u64,
}

/// A coordinator process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Counts its starts.
    pub(crate) run: u64,
    /// Whether it runs.
    pub(crate) up: bool,
    /// Whether it is stopped by a signal.
    pub(crate) paused: bool,
    /// Its clocks.
    pub(crate) clock: Clock,
    /// Its opening of the database.
    pub(crate) store: Option<MemoryStore>,
    /// Generation of that opening.
    pub(crate) generation: i64,
    /// `None` while it restores.
    pub(crate) scheduler: Option<Scheduler>,
    /// Where the next kill strikes.
    pub(crate) crash_at: Option<CrashPoint>,
    /// What happened to it while it was paused.
    pub(crate) deferred: Vec<Happening>,
    /// Requests for trials that wait for some.
    pub(crate) parked: BTreeMap<u64, Parked>,
    /// The product's memory of superseded checkpoints.
    pub(crate) retention: Retention,
    /// Whether it answers from memory alone while another one has the store.
    pub(crate) unfenced: bool,
    commands: VecDeque<(Event, Caller)>,
    flight: Option<Flight>,
    planned: bool,
    batch: BatchSize,
    setbacks: Setbacks,
    fence: Fence,
}

impl Process {
    /// A process that was never started.
    #[must_use]
    pub(crate) fn new() -> Process {
        Process {
            run: 0,
            up: false,
            paused: false,
            clock: Clock::new(0, TRUE),
            store: None,
            generation: 0,
            scheduler: None,
            crash_at: None,
            deferred: Vec::new(),
            parked: BTreeMap::new(),
            retention: Retention::default(),
            unfenced: false,
            commands: VecDeque::new(),
            flight: None,
            planned: false,
            batch: BatchSize::default(),
            setbacks: Setbacks::default(),
            fence: Fence::default(),
        }
    }
}

impl Default for Process {
    fn default() -> Process {
        Process::new()
    }
}

impl World {
    /// Starts a process, unless another one holds the store and would refuse it.
    pub(crate) fn start_coordinator(&mut self, c: usize) {
        let rival = self.processes.iter().enumerate().any(|(i, p)| i != c && p.up && !p.paused);
        if self.processes[c].up || rival {
            return;
        }
        let at = self.queue.now();
        if self.store_fault(self.profile.refused * 5) {
            self.counters.count("store: load failed");
            self.queue.after(1_000, Happening::StartCoordinator(c));
            return;
        }
        let rate = self.draw_rate();
        let store = MemoryStore::open(&self.database);
        self.generation += 1;
        let generation = self.generation;
        let process = &mut self.processes[c];
        let run = process.run + 1;
        *process = Process::new();
        process.run = run;
        process.up = true;
        process.clock = Clock::new(at, rate);
        process.generation = generation;
        process.store = Some(store);
        self.load(c);
        let run = self.processes[c].run;
        self.queue.after(TICK, Happening::CoordinatorTick(c, run));
    }

    /// Rebuilds the scheduler from the store.
    pub(crate) fn load(&mut self, c: usize) {
        let at = self.queue.now();
        let run = self.processes[c].run;
        if self.store_fault(self.profile.refused * 5) {
            self.counters.count("store: load failed");
            self.queue.after(500, Happening::Reload(c, run));
            return;
        }
        let process = &mut self.processes[c];
        let Some(store) = &process.store else { return };
        let loaded: Option<Result<_, LoadError>> = store.load().now_or_never();
        let now = process.clock.now(at);
        let restored = match loaded {
            Some(Ok(snapshot)) => Scheduler::restore(Config::default(), snapshot, now)
                .map_err(|error| format!("the store cannot be restored: {error}")),
            Some(Err(error)) => Err(format!("the store in memory cannot be loaded: {error}")),
            None => Err("the store in memory does not answer at once".to_owned()),
        };
        match restored {
            Ok(scheduler) => {
                self.counters.count("coordinator: restored");
                let checked = self.checks.restored(&scheduler, now);
                process.scheduler = Some(scheduler);
                self.verdict(checked);
            }
            Err(words) => self.violation("I10", words),
        }
    }

    /// Kills a process: its memory is gone, the store and the files stay.
    pub(crate) fn kill_coordinator(&mut self, c: usize) {
        let process = &mut self.processes[c];
        process.up = false;
        process.paused = false;
        process.scheduler = None;
        process.store = None;
        process.commands.clear();
        process.flight = None;
        process.parked.clear();
        process.deferred.clear();
        self.reset_callers(c);
    }

    /// Hands an event to the owner.
    pub(crate) fn command(&mut self, c: usize, event: Event, caller: Caller) {
        if self.processes[c].scheduler.is_none() {
            self.answered(c, caller, Err(Error::Unavailable));
            return;
        }
        let process = &mut self.processes[c];
        process.commands.push_back((event, caller));
        let words = self.checks.queue_length(process.commands.len());
        self.verdict(words);
        self.pump(c);
    }

    fn pump(&mut self, c: usize) {
        let wait = self.chance.store.within(0, 2);
        let process = &mut self.processes[c];
        let idle = process.flight.is_none() && !process.planned && process.scheduler.is_some();
        if process.up && idle && !process.commands.is_empty() {
            process.planned = true;
            self.queue.after(wait, Happening::Turn(c, process.run));
        }
    }

    /// Time passes for the owner.
    pub(crate) fn coordinator_tick(&mut self, c: usize) {
        let run = self.processes[c].run;
        if self.processes[c].scheduler.is_some() && self.processes[c].clock.rate() > 0 {
            self.command(c, Event::Tick, Caller::tick());
        }
        self.queue.after(TICK, Happening::CoordinatorTick(c, run));
    }

    fn crashes(&mut self, c: usize, point: CrashPoint) -> bool {
        if self.processes[c].crash_at != Some(point) {
            return false;
        }
        self.counters.count(match point {
            CrashPoint::BeforeStep => "coordinator: killed before step",
            CrashPoint::BeforeCommit => "coordinator: killed before commit",
            CrashPoint::AfterCommit => "coordinator: killed after commit",
            CrashPoint::AmidReplies => "coordinator: killed amid replies",
        });
        self.kill_coordinator(c);
        self.restart_soon(c);
        true
    }

    /// Steps what waits and begins the commit.
    pub(crate) fn turn(&mut self, c: usize) {
        self.processes[c].planned = false;
        if self.processes[c].scheduler.is_none() || self.crashes(c, CrashPoint::BeforeStep) {
            return;
        }
        let at = self.queue.now();
        let fate = self.draw_fate();
        let process = &mut self.processes[c];
        let Some(scheduler) = &mut process.scheduler else { return };
        let now = process.clock.now(at);
        let count = process.commands.len().min(process.batch.get());
        let mut turn = Turn::default();
        for (event, caller) in process.commands.drain(..count) {
            let gone = caller.until < at;
            turn.take(scheduler, event, caller, gone, now);
        }
        if process.fence.is_due(now.monotonic) {
            turn.fence();
        }
        let commits = turn.needs_commit();
        let result = (!commits).then_some(Ok(()));
        let stood = process.clock.stood(at);
        process.flight = Some(Flight { turn, fate, result, now, decided: at, stood });
        let run = process.run;
        if !commits {
            self.commit_done(c);
            return;
        }
        if self.crashes(c, CrashPoint::BeforeCommit) {
            return;
        }
        let slow = self.store_fault(self.profile.slow);
        let wait = if slow {
            self.counters.count("store: slow commit");
            self.chance.store.within(200, 20_000)
        } else {
            self.chance.store.within(0, 6)
        };
        self.queue.after(wait, Happening::Commit(c, run));
        let more = self.chance.store.within(0, 2);
        self.queue.after(wait + more, Happening::CommitDone(c, run));
    }

    /// Whether the store misbehaves now. Large worlds commit a thousand times as often.
    fn store_fault(&mut self, p: u64) -> bool {
        self.faulty
            && self.chance.store.per_mille(p)
            && (self.profile.size != Size::Large || self.chance.store.per_mille(10))
    }

    fn draw_fate(&mut self) -> Fate {
        if self.disk_full {
            return Fate::Full;
        }
        if !self.faulty {
            return Fate::Done;
        }
        if self.store_fault(self.profile.refused) {
            return Fate::Busy;
        }
        if !self.store_fault(self.profile.unknown) {
            return Fate::Done;
        }
        let applied = self.chance.store.per_mille(500);
        if applied { Fate::UnknownApplied } else { Fate::UnknownLost }
    }

    /// The store takes the commit, or does not.
    pub(crate) fn commit(&mut self, c: usize) {
        let process = &mut self.processes[c];
        let (Some(flight), Some(store)) = (&mut process.flight, &process.store) else { return };
        if flight.result.is_some() {
            return;
        }
        let trouble = || sqlx::Error::WorkerCrashed;
        let applied = match flight.fate {
            Fate::Done | Fate::UnknownApplied => store.commit(flight.turn.writes()).now_or_never(),
            Fate::Busy => Some(Err(CommitError::Busy(trouble()))),
            Fate::Full => Some(Err(CommitError::Full(trouble()))),
            Fate::UnknownLost => Some(Err(CommitError::Unknown(trouble()))),
        };
        let applied = applied.unwrap_or_else(|| Err(CommitError::Unknown(trouble())));
        self.counters.count(match flight.fate {
            Fate::Done => "store: commits",
            Fate::Busy => "store: commit refused",
            Fate::Full => "store: disk full",
            Fate::UnknownApplied => "store: commit unknown, applied",
            Fate::UnknownLost => "store: commit unknown, lost",
        });
        let (decided, stood) = (flight.decided, flight.stood);
        let checked = match (&applied, &process.scheduler) {
            (Ok(()), Some(scheduler)) => {
                let (ours, newest) = (process.generation, self.generation);
                let writes = flight.turn.writes();
                self.trace.writes(writes);
                let artifacts = &self.artifacts;
                let seen = Commit { ours, newest, writes, scheduler, decided, stood, artifacts };
                self.checks.committed(&seen, &mut self.counters)
            }
            (Err(error @ (CommitError::Fenced { .. } | CommitError::Inconsistent { .. })), _) => {
                let words = format!("the store refuses what the scheduler writes: {error}");
                Err(Broken::new("I8", words))
            }
            _ => Ok(()),
        };
        let unknown = flight.fate == Fate::UnknownApplied && applied.is_ok();
        flight.result = Some(if unknown { Err(CommitError::Unknown(trouble())) } else { applied });
        self.verdict(checked);
    }

    /// The process learns what became of its commit, and answers.
    pub(crate) fn commit_done(&mut self, c: usize) {
        let process = &mut self.processes[c];
        let Some(flight) = process.flight.take() else { return };
        if flight.turn.needs_commit() && self.crashes(c, CrashPoint::AfterCommit) {
            return;
        }
        let process = &mut self.processes[c];
        let commits = flight.turn.needs_commit();
        process.unfenced = !commits && process.generation != self.generation;
        let result = flight.result.unwrap_or(Ok(()));
        let settled = flight.turn.settle(result);
        if commits && matches!(settled.next, Next::GoOn) {
            process.fence.passed(flight.now.monotonic);
            process.setbacks.end();
        }
        process.batch.learn(matches!(settled.next, Next::GoOn));
        let amid = process.crash_at == Some(CrashPoint::AmidReplies) && settled.answers.len() > 1;
        let told = if amid { settled.answers.len() / 2 } else { settled.answers.len() };
        for (caller, answer) in settled.answers.into_iter().take(told) {
            self.answered(c, caller, answer);
        }
        if amid && self.crashes(c, CrashPoint::AmidReplies) {
            return;
        }
        if settled.wakes {
            self.wake_parked(c);
        }
        match settled.next {
            Next::GoOn => self.pump(c),
            Next::End(_) => {
                self.counters.count("coordinator: deposed");
                self.kill_coordinator(c);
                self.restart_soon(c);
            }
            Next::Recover(_) => {
                let process = &mut self.processes[c];
                process.scheduler = None;
                let waiting: Vec<(Event, Caller)> = process.commands.drain(..).collect();
                for (_, caller) in waiting {
                    self.answered(c, caller, Err::<Reply, _>(Error::Unavailable));
                }
                let process = &mut self.processes[c];
                let (wait, run) = (process.setbacks.next_wait(), process.run);
                self.queue.after(wait, Happening::Reload(c, run));
            }
        }
    }
}
