//! One behaviour each.

use super::model::{Model, request, submission, worker};
use crate::child::TrialResult;
use crate::id::{ArtifactHash, Epoch, SweepId, TrialId, WorkerId};
use crate::metric::Number;
use crate::outcome::{FailureClass, Outcome, SweepStatus};
use crate::record::{CheckpointRef, SlotKind, SlotRecord};
use crate::scheduler::{
    Ack, Config, Effect, Event, Grant, LeaseKey, LeaseProgress, Now, Refusal, Reply, Report,
    ReportEnd, Scheduler, Stop, StopReason, TrialProgress,
};

/// A scheduler on a model store and a clock.
pub(super) struct Bench {
    pub(super) scheduler: Scheduler,
    pub(super) store: Model,
    pub(super) now: u64,
    pub(super) requests: u128,
    /// How often those who wait for trials were to ask again.
    pub(super) wakes: usize,
}

impl Bench {
    pub(super) fn new() -> Bench {
        let config = Config::default();
        let (scheduler, store) = (Scheduler::new(config), Model::default());
        Bench { scheduler, store, now: 0, requests: 0, wakes: 0 }
    }

    pub(super) fn send(&mut self, event: Event) -> Result<Reply, Refusal> {
        let now = Now { monotonic: self.now, wall: self.now as i64 };
        let mut step = self.scheduler.step(event, now);
        self.store.commit(&step.writes);
        let mut wakes = 0;
        let mut replies = step.effects.drain(..).filter_map(|effect| match effect {
            Effect::Reply(reply) => Some(reply),
            Effect::WorkAvailable => {
                wakes += 1;
                None
            }
        });
        let reply = replies.next().expect("every event has a reply");
        assert!(replies.next().is_none(), "and only one");
        self.wakes += wakes;
        reply
    }

    pub(super) fn restart(&mut self) {
        let now = Now { monotonic: self.now, wall: self.now as i64 };
        self.scheduler = Scheduler::restore(Config::default(), self.store.snapshot(), now).unwrap();
    }

    /// Lets so many milliseconds pass, with ticks often enough that the coordinator is at work.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now = until.min(self.now + 5_000);
            self.send(Event::Tick).unwrap();
        }
    }

    pub(super) fn submit(&mut self, extra: &str) -> SweepId {
        self.requests += 1;
        let request_id = request(self.requests);
        let submission = submission(extra);
        let spec = Box::new(submission.parse().unwrap());
        match self.send(Event::Submit { request_id, submission, spec }).unwrap() {
            Reply::Sweep(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn register(&mut self, n: u128, slots: u32, lost: Vec<LeaseKey>) -> WorkerId {
        self.register_packing(n, slots, 1, lost)
    }

    /// The same, with slots that take packs of `max_pack` trials.
    pub(super) fn register_packing(
        &mut self,
        n: u128,
        slots: u32,
        max_pack: u32,
        lost: Vec<LeaseKey>,
    ) -> WorkerId {
        let slots = (0..slots).map(|n| SlotRecord { max_pack, ..slot(n) }).collect();
        self.register_slots(n, slots, &[], lost)
    }

    /// A worker with one slot of so many bytes of memory.
    pub(super) fn register_with_memory(&mut self, n: u128, max_pack: u32, memory: u64) -> WorkerId {
        let slot = SlotRecord { max_pack, memory: Some(memory), ..slot(0) };
        self.register_slots(n, vec![slot], &[], vec![])
    }

    /// A worker with these slots and labels.
    pub(super) fn register_slots(
        &mut self,
        n: u128,
        slots: Vec<SlotRecord>,
        labels: &[&str],
        lost: Vec<LeaseKey>,
    ) -> WorkerId {
        let worker = worker(n);
        let (name, version) = (format!("w{n}"), "0".to_owned());
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.send(Event::Register { worker, name, version, labels, slots, lost }).unwrap();
        worker
    }

    /// The scheduler's memory does not contradict itself.
    pub(super) fn audit(&self) {
        let now = Now { monotonic: self.now, wall: self.now as i64 };
        self.scheduler.audit(now).unwrap();
    }

    pub(super) fn exchange(
        &mut self,
        worker: WorkerId,
        reports: Vec<Report>,
        free_slots: Vec<u32>,
    ) -> (Vec<Ack>, Vec<Grant>) {
        self.requests += 1;
        let request_id = request(self.requests);
        match self.send(Event::Exchange { worker, request_id, reports, free_slots }).unwrap() {
            Reply::Exchanged { acks, grants } => (acks, grants),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn lease(&mut self, worker: WorkerId, slot: u32) -> Grant {
        self.exchange(worker, vec![], vec![slot]).1.pop().expect("a lease")
    }

    pub(super) fn heartbeat(&mut self, worker: WorkerId, lease: LeaseKey, step: u64) -> Vec<Stop> {
        let leases = vec![progress(lease, step)];
        match self.send(Event::Heartbeat { worker, leases }).unwrap() {
            Reply::Heard { stops, .. } => stops,
            other => panic!("{other:?}"),
        }
    }
}

/// What a heartbeat says of a trial that has come to this step.
pub(super) fn progress(lease: LeaseKey, step: u64) -> LeaseProgress {
    LeaseProgress { lease, step, loss: Number::from(1.0), steps_per_second: 2.0 }
}

/// A slot for one trial at a time.
pub(super) fn slot(slot: u32) -> SlotRecord {
    SlotRecord {
        slot,
        kind: SlotKind::Cpu,
        threads: 1,
        device: "cpu".into(),
        max_pack: 1,
        memory: None,
    }
}

pub(super) fn success(lease: LeaseKey) -> Report {
    let result = TrialResult {
        metric_name: "accuracy".into(),
        metric: Number::from(50.0 + lease.trial.index as f64),
        best_step: 75,
        test: None,
        constant_metric: Number::from(50.0),
        steps: 100,
        trainable_parameters: 544,
        train_seconds: 1.0,
        peak_memory_bytes: None,
        mean_utilization: None,
        mean_power_watts: None,
        stopped_early: false,
        predictions: Vec::new(),
    };
    let adapter = ArtifactHash::of(lease.trial.to_string().as_bytes());
    let end = ReportEnd::Succeeded { result, adapter };
    Report { lease, evaluations: vec![], last_step: 100, end }
}

pub(super) fn failure(lease: LeaseKey, class: FailureClass) -> Report {
    let end = ReportEnd::Failed { class, message: "why".into() };
    Report { lease, evaluations: vec![], last_step: 10, end }
}

#[test]
fn the_same_submit_twice_is_one_sweep() {
    let mut bench = Bench::new();
    let first = bench.submit("");
    bench.requests -= 1;
    assert_eq!(bench.submit(""), first);
    assert_eq!(bench.store.sweeps.len(), 1);
    let submission = submission("[limits]\nmax_parallel = 2\n");
    let spec = Box::new(submission.parse().unwrap());
    let request_id = request(1);
    let refused = bench.send(Event::Submit { request_id, submission, spec });
    assert_eq!(refused, Err(Refusal::RequestReused(request_id)));
}

#[test]
fn a_worker_runs_a_sweep_to_its_end() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let mut reports = vec![];
    for index in 0..12 {
        let (acks, mut grants) = bench.exchange(w, reports, vec![0]);
        assert!(acks.iter().all(|a| *a == Ack::Accepted));
        let grant = grants.pop().unwrap();
        assert_eq!(grant.lease.trial.index, index);
        reports = vec![success(grant.lease)];
    }
    let (_, grants) = bench.exchange(w, reports, vec![0]);
    assert!(grants.is_empty());
    assert_eq!(bench.store.outcomes.len(), 12);
    assert_eq!(bench.store.sweeps[&sweep].status, SweepStatus::Finished);
}

#[test]
fn a_repeated_exchange_gets_the_same_lease_and_records_nothing_twice() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let first = bench.lease(w, 0);
    let request_id = request(99);
    let again = |bench: &mut Bench| {
        let reports = vec![success(first.lease)];
        bench.send(Event::Exchange { worker: w, request_id, reports, free_slots: vec![0] })
    };
    let leases = |reply: Result<Reply, Refusal>| match reply.unwrap() {
        Reply::Exchanged { acks, grants } => (acks, grants[0].lease, grants.len()),
        other => panic!("{other:?}"),
    };
    let one = leases(again(&mut bench));
    assert_eq!(leases(again(&mut bench)), one);
    bench.restart();
    assert_eq!(leases(again(&mut bench)), one, "also after a restart of the coordinator");
    assert_eq!(bench.store.outcomes.len(), 1);
}

#[test]
fn a_late_report_counts_while_nobody_else_has_the_trial() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let grant = bench.lease(w, 0);
    bench.pass(30_000);
    let (acks, _) = bench.exchange(w, vec![success(grant.lease)], vec![]);
    assert_eq!(acks, [Ack::Accepted]);
    assert_eq!(bench.store.outcomes.len(), 1);
}

#[test]
fn a_late_report_is_stale_once_the_trial_was_leased_again() {
    let mut bench = Bench::new();
    bench.submit("");
    let (w1, w2) = (bench.register(1, 1, vec![]), bench.register(2, 1, vec![]));
    let old = bench.lease(w1, 0);
    bench.pass(30_000);
    let new = bench.lease(w2, 0);
    assert_eq!(new.lease.trial, old.lease.trial);
    assert!(new.lease.epoch > old.lease.epoch);
    let (acks, _) = bench.exchange(w1, vec![success(old.lease)], vec![]);
    assert!(matches!(acks[..], [Ack::Stale { reason: StopReason::Superseded, .. }]));
    assert_eq!(bench.heartbeat(w1, old.lease, 50).len(), 1);
    assert!(bench.store.outcomes.is_empty());
    assert_eq!(bench.store.stale, 1);
}

#[test]
fn a_heartbeat_revives_an_expired_lease_that_nobody_else_has() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let grant = bench.lease(w, 0);
    bench.pass(30_000);
    assert!(bench.heartbeat(w, grant.lease, 40).is_empty());
    let other = bench.register(2, 1, vec![]);
    assert_ne!(bench.lease(other, 0).lease.trial, grant.lease.trial);
    assert_eq!(bench.store.trials[&grant.lease.trial].losses, 0);
}

#[test]
fn a_restart_arms_every_lease_for_one_more_ttl() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let grant = bench.lease(w, 0);
    bench.now += 29_000;
    bench.restart();
    bench.pass(29_000);
    let other = bench.register(2, 1, vec![]);
    assert_ne!(bench.lease(other, 0).lease.trial, grant.lease.trial);
}

#[test]
fn failures_are_retried_by_class() {
    for (class, attempts) in [
        (FailureClass::Diverged, 1),
        (FailureClass::Data, 1),
        (FailureClass::UserError, 1),
        (FailureClass::Crashed, 3),
        (FailureClass::Oom, 3),
        (FailureClass::Timeout, 3),
        (FailureClass::Infra, 3),
        (FailureClass::WorkerLost, 5),
    ] {
        let mut bench = Bench::new();
        bench.submit("[limits]\nmax_parallel = 1\n");
        let w = bench.register(1, 1, vec![]);
        let first = bench.lease(w, 0);
        let mut lease = first.lease;
        for _ in 1..attempts {
            bench.exchange(w, vec![failure(lease, class)], vec![]);
            assert!(bench.store.outcomes.is_empty(), "{class}");
            bench.now += 60_000;
            lease = bench.lease(w, 0).lease;
            assert_eq!(lease.trial, first.lease.trial);
        }
        bench.exchange(w, vec![failure(lease, class)], vec![]);
        let outcome = &bench.store.outcomes[&lease.trial];
        assert_eq!((outcome.outcome, outcome.class), (Outcome::Failed, Some(class)));
    }
}

#[test]
fn an_attempts_end_says_how_far_it_came() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let failed = bench.lease(w, 0).lease;
    bench.exchange(w, vec![failure(failed, FailureClass::Crashed)], vec![]);
    bench.now += 60_000;
    let succeeded = bench.lease(w, 0).lease;
    bench.exchange(w, vec![success(succeeded)], vec![]);
    let over = bench.lease(w, 0).lease;
    bench.exchange(w, vec![failure(over, FailureClass::Diverged)], vec![]);
    let expected = [(failed, 10), (succeeded, 100), (over, 10)];
    assert_eq!(bench.store.steps, expected.into_iter().collect());
}

#[test]
fn handing_back_never_counts() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    for _ in 0..20 {
        let lease = bench.lease(w, 0).lease;
        let released = Report { end: ReportEnd::Released, ..success(lease) };
        bench.exchange(w, vec![released], vec![]);
    }
    assert!(bench.store.outcomes.is_empty());
    assert_eq!(bench.store.trials.len(), 1);
}

#[test]
fn the_next_attempt_starts_from_the_latest_checkpoint() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let lease = bench.lease(w, 0).lease;
    for step in [25, 50, 25] {
        let hash = ArtifactHash::of(&[step as u8]);
        let checkpoint = Some(CheckpointRef { step, hash });
        let trials = vec![TrialProgress { lease, evaluations: vec![], checkpoint }];
        bench.send(Event::Progress { worker: w, trials }).unwrap();
    }
    let w = bench.register(2, 1, vec![lease]);
    let grant = bench.lease(w, 0);
    assert_eq!(grant.lease.trial, lease.trial);
    assert_eq!(grant.checkpoint.map(|c| c.step), Some(50));
}

#[test]
fn a_cancelled_sweep_has_an_outcome_for_every_trial_and_stops_its_workers() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let lease = bench.lease(w, 0).lease;
    bench
        .send(super::control::control(request(900), sweep, crate::scheduler::Control::Cancel))
        .unwrap();
    assert_eq!(bench.store.outcomes.len(), 12);
    assert!(bench.store.outcomes.values().all(|o| o.outcome == Outcome::Cancelled));
    let stops = bench.heartbeat(w, lease, 5);
    assert_eq!(stops, [Stop { lease, reason: StopReason::Cancelled }]);
    let (acks, grants) = bench.exchange(w, vec![success(lease)], vec![0]);
    assert!(matches!(acks[..], [Ack::Stale { reason: StopReason::Cancelled, .. }]));
    assert!(grants.is_empty());
}

#[test]
fn max_parallel_bounds_live_leases() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_parallel = 2\n");
    let w = bench.register(1, 4, vec![]);
    assert_eq!(bench.exchange(w, vec![], vec![0, 1, 2, 3]).1.len(), 2);
}

#[test]
fn a_trial_that_fails_for_good_frees_one_lease_of_max_parallel() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_parallel = 2\n");
    let w = bench.register(1, 4, vec![]);
    let held = bench.exchange(w, vec![], vec![0, 1]).1;
    bench.exchange(w, vec![failure(held[0].lease, FailureClass::Diverged)], vec![]);
    let now = Now { monotonic: bench.now, wall: 0 };
    assert_eq!(bench.scheduler.audit(now), Ok(()));
    assert_eq!(bench.exchange(w, vec![], vec![0, 2, 3]).1.len(), 1);
}

#[test]
fn who_waits_asks_again_when_there_is_something_that_was_not_there() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 2, vec![]);
    let held = bench.exchange(w, vec![], vec![0, 1]).1;
    bench.wakes = 0;
    // Trials were there all along: who waits has no use for them.
    bench.exchange(w, vec![success(held[0].lease)], vec![]);
    assert_eq!(bench.wakes, 0);
    let released = Report { end: ReportEnd::Released, ..failure(held[1].lease, FailureClass::Oom) };
    bench.exchange(w, vec![released.clone()], vec![]);
    assert_eq!(bench.wakes, 0);

    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_parallel = 2\n");
    let w = bench.register(1, 3, vec![]);
    let held = bench.exchange(w, vec![], vec![0, 1, 2]).1;
    bench.wakes = 0;
    bench.exchange(w, vec![success(held[0].lease)], vec![]);
    assert_eq!(bench.wakes, 1);
    // Another may run already.
    bench.exchange(w, vec![released], vec![]);
    assert_eq!(bench.wakes, 1);

    // The worker asks for its slot before the report of what ran there has arrived.
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let lease = bench.lease(w, 0).lease;
    assert!(bench.exchange(w, vec![], vec![0]).1.is_empty());
    bench.wakes = 0;
    bench.exchange(w, vec![success(lease)], vec![]);
    assert_eq!(bench.wakes, 1);

    // The last trial comes back.
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 64, vec![]);
    let held = bench.exchange(w, vec![], (0..64).collect()).1;
    assert!(held.len() < 64);
    bench.wakes = 0;
    let released = Report { end: ReportEnd::Released, ..failure(held[0].lease, FailureClass::Oom) };
    bench.exchange(w, vec![released], vec![]);
    assert_eq!(bench.wakes, 1);
}

#[test]
fn a_success_that_is_not_recorded_is_not_accepted() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let lease = bench.lease(w, 0).lease;
    // The agent's next run found no report of it; the old run's message comes after that.
    bench.register(2, 1, vec![lease]);
    let (acks, _) = bench.exchange(w, vec![success(lease)], vec![]);
    assert!(matches!(acks[..], [Ack::Stale { .. }]), "{acks:?}");
    assert_eq!((bench.store.outcomes.len(), bench.store.stale), (0, 1));
}

/// A trial whose worker is lost so many times in a row; its last lease, whose holder is silent.
fn lose(bench: &mut Bench, times: u32) -> (WorkerId, LeaseKey) {
    let mut last = None;
    for n in 0..times {
        let w = bench.register(1 + u128::from(n), 1, vec![]);
        // Longer than any wait after a failure.
        bench.pass(60_000);
        last = Some((w, bench.lease(w, 0).lease));
        bench.pass(30_000);
    }
    last.unwrap()
}

#[test]
fn losses_count_as_failures_from_the_third_on() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_parallel = 1\nmax_attempts = 3\n");
    let counted = |bench: &Bench, id: &TrialId| {
        let trial = &bench.store.trials[id];
        (trial.losses, trial.failures)
    };
    let (_, lease) = lose(&mut bench, 2);
    assert_eq!(counted(&bench, &lease.trial), (2, 0));
    let (w, lease) = lose(&mut bench, 1);
    assert_eq!(counted(&bench, &lease.trial), (3, 1));
    // It was not lost after all.
    assert!(bench.heartbeat(w, lease, 40).is_empty());
    assert_eq!(counted(&bench, &lease.trial), (2, 0));
    bench.pass(30_000);
    assert_eq!(counted(&bench, &lease.trial), (3, 1));
    let (_, lease) = lose(&mut bench, 2);
    assert_eq!(bench.store.outcomes[&lease.trial].outcome, Outcome::Failed);
    assert_eq!((lease.epoch, counted(&bench, &lease.trial)), (Epoch(5), (5, 3)));
}

#[test]
fn a_success_after_the_last_loss_is_not_accepted() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_parallel = 1\nmax_attempts = 1\n");
    let (w, lease) = lose(&mut bench, 3);
    let (acks, _) = bench.exchange(w, vec![success(lease)], vec![]);
    assert!(matches!(acks[..], [Ack::Stale { .. }]), "{acks:?}");
    assert_eq!(bench.store.outcomes[&lease.trial].outcome, Outcome::Failed);
}

#[test]
fn a_coordinator_that_stood_still_does_not_take_that_for_silence() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let lease = bench.lease(w, 0).lease;
    bench.pass(20_000);
    bench.now += 600_000;
    bench.send(Event::Tick).unwrap();
    bench.audit();
    assert_eq!(bench.store.trials[&lease.trial].losses, 0);
    // What was said meanwhile is heard now; whoever said nothing is lost.
    let other = bench.register(2, 1, vec![]);
    assert_ne!(bench.lease(other, 0).lease.trial, lease.trial);
    bench.pass(4_000);
    assert_eq!(bench.store.trials[&lease.trial].losses, 0);
    bench.pass(1_000);
    assert_eq!(bench.store.trials[&lease.trial].losses, 1);
}

#[test]
fn a_restart_does_not_shorten_the_wait_after_a_failure() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_parallel = 1\n");
    let w = bench.register(1, 1, vec![]);
    let first = bench.lease(w, 0).lease;
    bench.exchange(w, vec![failure(first, FailureClass::Crashed)], vec![]);
    bench.now += 100;
    bench.restart();
    bench.now += 900;
    assert_ne!(bench.lease(w, 0).lease.trial, first.trial);
}

#[test]
fn unknown_slots_and_workers_get_nothing() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    assert!(bench.exchange(w, vec![], vec![7]).1.is_empty());
    let unknown = worker(9);
    let reply = bench.send(Event::Heartbeat { worker: unknown, leases: vec![] });
    assert_eq!(reply, Err(Refusal::UnknownWorker(unknown)));
}

#[test]
fn a_leaving_worker_hands_its_trials_back_at_once() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 2, vec![]);
    let held = bench.exchange(w, vec![], vec![0, 1]).1;
    bench.send(Event::Leave { worker: w }).unwrap();
    let other = bench.register(2, 2, vec![]);
    let again = bench.exchange(other, vec![], vec![0, 1]).1;
    let trials = |grants: &[Grant]| grants.iter().map(|g| g.lease.trial).collect::<Vec<_>>();
    assert_eq!(trials(&again), trials(&held));
}
