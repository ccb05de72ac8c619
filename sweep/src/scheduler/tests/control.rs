//! What people do to sweeps and trials.

use super::behaviour::{Bench, failure, success};
use super::model::{request, submission};
use crate::id::{ArtifactHash, RequestId, SweepId, TrialId};
use crate::outcome::{FailureClass, Outcome, SweepStatus};
use crate::record::SpaceText;
use crate::scheduler::{
    Ack, Changes, Config, Control, Event, Explanation, Now, Refusal, Reply, RestoreError,
    Scheduler, Stop, StopReason, Unplaced,
};
use crate::spec::Format;

/// As it comes over the wire: the content is a hash of the whole message.
pub(super) fn control(request_id: RequestId, sweep: SweepId, control: Control) -> Event {
    let content = ArtifactHash::of(format!("{sweep} {control:?}").as_bytes());
    Event::Control { request_id, content, sweep, control }
}

fn seeds(add_seeds: Vec<u64>) -> Control {
    Control::Change(Changes { add_seeds, ..Changes::default() })
}

fn deletion() -> Control {
    Control::Delete { answer: "as it was".to_owned() }
}

impl Bench {
    fn control(&mut self, sweep: SweepId, control: Control) -> Result<Reply, Refusal> {
        self.requests += 1;
        self.control_as(request(self.requests), sweep, control)
    }

    fn control_as(
        &mut self,
        request_id: RequestId,
        sweep: SweepId,
        control: Control,
    ) -> Result<Reply, Refusal> {
        let reply = self.send(self::control(request_id, sweep, control));
        let now = Now { monotonic: self.now, wall: 0 };
        assert_eq!(self.scheduler.audit(now), Ok(()));
        reply
    }

    pub(super) fn status(&self, sweep: SweepId) -> SweepStatus {
        self.store.sweeps[&sweep].status
    }

    /// Ends all trials that a worker can get, these failing for good.
    fn run_all(&mut self, failing: &[u64]) {
        let w = self.register(77, 1, vec![]);
        while let Some(grant) = self.exchange(w, vec![], vec![0]).1.pop() {
            let lease = grant.lease;
            let report = if failing.contains(&lease.trial.index) {
                failure(lease, FailureClass::Diverged)
            } else {
                success(lease)
            };
            assert_eq!(self.exchange(w, vec![report], vec![]).0, [Ack::Accepted]);
        }
    }
}

#[test]
fn a_paused_sweep_leases_nothing_until_it_is_resumed() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let w = bench.register(1, 2, vec![]);
    let held = bench.lease(w, 0).lease;
    bench.control(sweep, Control::Pause).unwrap();
    assert!(bench.exchange(w, vec![], vec![1]).1.is_empty());
    bench.restart();
    assert!(bench.exchange(w, vec![], vec![1]).1.is_empty());
    // What runs goes on to its end.
    assert!(bench.heartbeat(w, held, 5).is_empty());
    assert_eq!(bench.exchange(w, vec![success(held)], vec![0]), (vec![Ack::Accepted], vec![]));
    bench.control(sweep, Control::Resume).unwrap();
    assert_eq!(bench.exchange(w, vec![], vec![0, 1]).1.len(), 2);
    bench.run_all(&[]);
    bench.send(Event::Leave { worker: w }).unwrap();
    bench.run_all(&[]);
    assert_eq!(bench.status(sweep), SweepStatus::Finished);
    let refused = bench.control(sweep, Control::Pause);
    assert!(matches!(refused, Err(Refusal::NotNow { .. })), "{refused:?}");
}

#[test]
fn a_repeated_request_has_one_effect() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let pause = request(500);
    bench.control_as(pause, sweep, Control::Pause).unwrap();
    bench.control(sweep, Control::Resume).unwrap();
    bench.control_as(pause, sweep, Control::Pause).unwrap();
    assert_eq!(bench.status(sweep), SweepStatus::Running);
    bench.restart();
    bench.control_as(pause, sweep, Control::Pause).unwrap();
    assert_eq!(bench.status(sweep), SweepStatus::Running, "also after a restart");
    let other = bench.submit("");
    let submitted = bench.store.sweeps[&other].request_id;
    for (id, sweep, control) in [
        (pause, other, Control::Pause),
        (pause, sweep, Control::Cancel),
        (submitted, other, Control::Pause),
    ] {
        let reused = bench.control_as(id, sweep, control);
        assert_eq!(reused, Err(Refusal::RequestReused(id)));
    }
    let submission = submission("");
    let spec = Box::new(submission.parse().unwrap());
    let reused = bench.send(Event::Submit { request_id: pause, submission, spec });
    assert_eq!(reused, Err(Refusal::RequestReused(pause)));
}

#[test]
fn a_change_that_is_refused_changes_nothing_of_it() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let before = bench.store.clone();
    let weight = Some(5);
    let changes = [
        Changes { weight, add_seeds: vec![7, 1 << 63], ..Changes::default() },
        Changes { weight, max_parallel: Some(Some(1_000_001)), ..Changes::default() },
        Changes { weight, add_seeds: (1_000..31_000).collect(), ..Changes::default() },
    ];
    for changes in changes {
        bench.control(sweep, Control::Change(changes)).unwrap_err();
        assert_eq!(bench.store.sweeps, before.sweeps);
        assert_eq!(bench.store.requests, before.requests);
    }
    let both = Changes { weight, add_seeds: vec![7], ..Changes::default() };
    bench.control(sweep, Control::Change(both)).unwrap();
    let record = &bench.store.sweeps[&sweep];
    assert_eq!((record.controls.unwrap().weight, record.total), (5, 16));
    assert_eq!(bench.store.requests.len(), 1, "one request");
}

fn space(text: &str) -> Control {
    let add_space = Some(SpaceText { text: format!("[space]\n{text}\n"), format: Format::Toml });
    Control::Change(Changes { add_space, ..Changes::default() })
}

/// Rates and seeds of all trials that a worker gets.
fn run_to_the_end(bench: &mut Bench, worker: u128) -> Vec<(f64, u64)> {
    let w = bench.register(worker, 1, vec![]);
    let mut got = Vec::new();
    while let Some(grant) = bench.exchange(w, vec![], vec![0]).1.pop() {
        got.push((grant.settings.prompt_lr.unwrap(), grant.settings.seed));
        bench.exchange(w, vec![success(grant.lease)], vec![]);
    }
    got
}

#[test]
fn an_added_space_gives_the_points_that_are_new() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let rates = |bench: &Bench| {
        let spec = bench.store.sweeps[&sweep].submission.parse().unwrap();
        (spec.total(), spec.space.prompt_lr.clone(), spec.space.seeds.clone())
    };
    let (grid, known, seeds_of_grid) = rates(&bench);
    let per_rate = grid / known.len() as u64;
    let text = format!("prompt_lr = [{}, 7.5]", known[0]);
    bench.control(sweep, space(&text)).unwrap();
    let total = |bench: &Bench| bench.store.sweeps[&sweep].total;
    assert_eq!(total(&bench), grid + per_rate, "the known rate's points are there already");
    // The same space again has nothing new, and is not kept.
    bench.control(sweep, space(&text)).unwrap();
    assert_eq!((total(&bench), bench.store.spaces.len()), (grid + per_rate, 1));
    let told = bench.scheduler.spaces(sweep);
    assert_eq!(told.len(), 1);
    bench.restart();
    assert_eq!(bench.scheduler.spaces(sweep), told);
    // More seeds are for all configurations, those of the added space too.
    let configurations = (grid + per_rate) / seeds_of_grid.len() as u64;
    bench.control(sweep, seeds(vec![77])).unwrap();
    assert_eq!(total(&bench), grid + per_rate + configurations);
    bench.control(sweep, space("prompt_lr = [7.5, 8.5]\nseeds = 77")).unwrap();
    let more = per_rate / seeds_of_grid.len() as u64;
    assert_eq!(total(&bench), grid + per_rate + configurations + more);
    bench.restart();
    let got = run_to_the_end(&mut bench, 1);
    assert_eq!(got.len() as u64, total(&bench));
    let of = |rate: f64| got.iter().filter(|(r, _)| *r == rate).count() as u64;
    assert_eq!((of(7.5), of(8.5)), (per_rate + more, more));
    assert_eq!(bench.status(sweep), SweepStatus::Finished);
    // It goes on when it gets more.
    bench.control(sweep, space("prompt_lr = 9.5\nseeds = 1")).unwrap();
    assert_eq!(bench.status(sweep), SweepStatus::Running);
    assert_eq!(run_to_the_end(&mut bench, 1), vec![(9.5, 1); usize::try_from(more).unwrap()]);
}

#[test]
fn a_trial_of_an_added_space_is_run_again_with_its_settings() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let before = bench.store.sweeps[&sweep].total;
    bench.run_all(&[]);
    bench.control(sweep, space("prompt_lr = 7.5\nsteps = 60")).unwrap();
    let after = bench.store.sweeps[&sweep].total;
    bench.run_all(&[before]);
    bench.restart();
    bench.control(sweep, Control::Retry(vec![])).unwrap();
    let w = bench.register(5, 1, vec![]);
    let grant = bench.exchange(w, vec![], vec![0]).1.pop().unwrap();
    assert_eq!((grant.lease.trial.index, grant.settings.prompt_lr), (after, Some(7.5)));
    assert_eq!(grant.settings.train.steps, 60);
}

#[test]
fn a_space_that_is_refused_changes_nothing() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let before = bench.store.clone();
    let refused = bench.control(sweep, space("rank = 100000"));
    assert!(matches!(refused, Err(Refusal::Space(_))), "{refused:?}");
    let refused = bench.control(sweep, space("source = [\"a.safetensors\"]"));
    let Err(Refusal::Space(found)) = refused else { panic!("{refused:?}") };
    assert!(found.render("s").contains("was not submitted with the sweep"), "{found:?}");
    let many: Vec<String> = (0..10_000).map(|seed| seed.to_string()).collect();
    let rates: Vec<String> = (1..12).map(|n| format!("1.{n:02}")).collect();
    let text = format!("seeds = [{}]\nprompt_lr = [{}]", many.join(","), rates.join(","));
    let refused = bench.control(sweep, space(&text));
    assert!(matches!(refused, Err(Refusal::TooMany { .. })), "{refused:?}");
    assert_eq!((&bench.store.spaces, &bench.store.sweeps), (&before.spaces, &before.sweeps));
    // A space that no sweep has, or one before which another is missing, is no store's content.
    bench.control(sweep, space("prompt_lr = 7.5")).unwrap();
    let mut snapshot = bench.store.snapshot();
    snapshot.spaces[0].number = 2;
    let restored = Scheduler::restore(Config::default(), snapshot, Now { monotonic: 0, wall: 0 });
    assert!(matches!(restored, Err(RestoreError::StraySpace { .. })), "{restored:?}");
    let mut snapshot = bench.store.snapshot();
    snapshot.spaces.clear();
    let restored = Scheduler::restore(Config::default(), snapshot, Now { monotonic: 0, wall: 0 });
    assert!(matches!(restored, Err(RestoreError::StrayTrial(_))), "{restored:?}");
}

#[test]
fn a_used_up_budget_is_raised_before_trials_are_added() {
    let mut bench = Bench::new();
    let sweep = bench.submit("[limits]\nbudget_gpu_hours = 0.01\n");
    let w = bench.register(1, 1, vec![]);
    let held = bench.lease(w, 0);
    bench.now += 20_000;
    bench.heartbeat(w, held.lease, 5);
    bench.now += 16_000;
    bench.send(Event::Tick).unwrap();
    assert_eq!(bench.status(sweep), SweepStatus::Cancelled);
    for control in [Control::Retry(vec![]), Control::Retry(vec![3]), seeds(vec![9])] {
        let refused = bench.control(sweep, control);
        assert_eq!(refused, Err(Refusal::BudgetSpent(sweep)));
    }
    let budget = Some(Some(3_600_000));
    let raised = Changes { budget, add_seeds: vec![9], ..Changes::default() };
    bench.control(sweep, Control::Change(raised)).unwrap();
    bench.control(sweep, Control::Retry(vec![])).unwrap();
    assert_eq!(bench.status(sweep), SweepStatus::Running);
    assert_eq!(bench.store.sweeps[&sweep].total, 12 + 4 + 12);
}

#[test]
fn a_retry_is_a_new_trial_and_the_old_outcome_stays() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    bench.run_all(&[3, 7]);
    assert_eq!(bench.status(sweep), SweepStatus::Finished);
    let retry = request(500);
    bench.control_as(retry, sweep, Control::Retry(vec![])).unwrap();
    bench.control_as(retry, sweep, Control::Retry(vec![])).unwrap();
    assert_eq!((bench.status(sweep), bench.store.sweeps[&sweep].total), (SweepStatus::Running, 14));
    bench.restart();
    let w = bench.register(1, 1, vec![]);
    let grant = bench.lease(w, 0);
    assert_eq!((grant.lease.trial.index, grant.settings.seed), (12, 1));
    bench.exchange(w, vec![success(grant.lease)], vec![]);
    bench.run_all(&[]);
    assert_eq!(bench.status(sweep), SweepStatus::Finished);
    let of = |index| &bench.store.outcomes[&TrialId { sweep, index }];
    assert_eq!(of(3).outcome, Outcome::Failed);
    assert_eq!((of(12).outcome, of(13).outcome), (Outcome::Succeeded, Outcome::Succeeded));
    let added = bench.store.trials[&TrialId { sweep, index: 13 }].added.unwrap();
    assert_eq!((added.origin, added.retry_of), (7, Some(7)));
    for (index, why) in [(0, "it succeeded"), (3, "done before")] {
        let Err(refusal) = bench.control(sweep, Control::Retry(vec![index])) else { panic!() };
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
    let unknown = bench.control(sweep, Control::Retry(vec![14]));
    assert!(matches!(unknown, Err(Refusal::UnknownTrial(_))), "{unknown:?}");
}

#[test]
fn more_seeds_are_more_trials_of_the_same_configurations() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    bench.control(sweep, seeds(vec![3, 9, 9])).unwrap();
    assert_eq!(bench.store.sweeps[&sweep].total, 16, "seed 3 was there, 9 is new");
    bench.restart();
    bench.run_all(&[]);
    assert_eq!((bench.status(sweep), bench.store.outcomes.len()), (SweepStatus::Finished, 16));
    let seeds = (12..16).map(|index| bench.store.trials[&TrialId { sweep, index }].added.unwrap());
    assert!(seeds.eq((0..4).map(|c| crate::record::Added {
        origin: 3 * c,
        seed: 9,
        retry_of: None
    })));
}

#[test]
fn one_trial_is_cancelled_whether_it_runs_or_never_ran() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let held = bench.lease(w, 0).lease;
    for index in [0, 1, 5] {
        bench.control(sweep, Control::CancelTrial(index)).unwrap();
    }
    bench.restart();
    let now = Now { monotonic: bench.now, wall: 0 };
    assert_eq!(bench.scheduler.audit(now), Ok(()));
    let stops = bench.heartbeat(w, held, 3);
    assert_eq!(stops, [Stop { lease: held, reason: StopReason::Cancelled }]);
    assert_eq!(bench.lease(w, 0).lease.trial.index, 2, "1 was cancelled before its turn");
    bench.send(Event::Leave { worker: w }).unwrap();
    bench.run_all(&[]);
    let cancelled = bench.store.outcomes.values().filter(|o| o.outcome == Outcome::Cancelled);
    assert_eq!(cancelled.map(|o| o.id.index).collect::<Vec<_>>(), [0, 1, 5]);
    assert_eq!((bench.store.outcomes.len(), bench.status(sweep)), (12, SweepStatus::Finished));
}

#[test]
fn a_deleted_sweep_is_gone_and_its_id_is_not_given_again() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let held = bench.lease(w, 0).lease;
    let running = bench.control(sweep, deletion());
    assert!(matches!(running, Err(Refusal::NotNow { .. })), "{running:?}");
    bench.control(sweep, Control::Cancel).unwrap();
    let request_id = request(700);
    let told = Ok(Reply::Deleted { sweep, answer: "as it was".to_owned() });
    assert_eq!(bench.control_as(request_id, sweep, deletion()), told);
    assert!(bench.store.sweeps.is_empty() && bench.store.trials.is_empty());
    assert_eq!(bench.control_as(request_id, sweep, deletion()), told);
    bench.restart();
    assert_eq!(bench.control_as(request_id, sweep, deletion()), told);
    assert_eq!(bench.control(sweep, deletion()), Err(Refusal::Deleted(sweep)));
    assert_eq!(bench.control(sweep, Control::Pause), Err(Refusal::Deleted(sweep)));
    let again = submission("");
    let spec = Box::new(again.parse().unwrap());
    let again = Event::Submit { request_id: request(1), submission: again, spec };
    assert_eq!(bench.send(again), Err(Refusal::Deleted(sweep)));
    assert!(bench.submit("") > sweep);
    let (acks, _) = bench.exchange(w, vec![success(held)], vec![]);
    assert!(matches!(acks[..], [Ack::Rejected { .. }]), "{acks:?}");
}

#[test]
fn limits_change_while_a_sweep_runs_and_stay_changed() {
    let mut bench = Bench::new();
    let sweep = bench.submit("[limits]\nmax_parallel = 1\n");
    let w = bench.register(1, 4, vec![]);
    assert_eq!(bench.exchange(w, vec![], vec![0, 1, 2]).1.len(), 1);
    let change = Changes { max_parallel: Some(Some(3)), ..Changes::default() };
    bench.control(sweep, Control::Change(change)).unwrap();
    bench.restart();
    assert_eq!(bench.exchange(w, vec![], vec![1, 2, 3]).1.len(), 2);
    let wrong = Changes { weight: Some(0), ..Changes::default() };
    let refused = bench.control(sweep, Control::Change(wrong));
    assert!(matches!(refused, Err(Refusal::OutOfRange { .. })), "{refused:?}");
}

#[test]
fn a_budget_ends_the_sweep_and_an_attempt_counts_once() {
    let mut bench = Bench::new();
    // A hundredth of an hour: 36 seconds.
    let sweep = bench.submit("[limits]\nbudget_gpu_hours = 0.01\n");
    let w = bench.register(1, 2, vec![]);
    let mut held: Vec<_> = bench.exchange(w, vec![], vec![0, 1]).1;
    for _ in 0..3 {
        bench.now += 4_000;
        assert!(bench.heartbeat(w, held[0].lease, 5).is_empty());
    }
    // 12 s counted for each slot by its end.
    bench.exchange(w, vec![failure(held[0].lease, FailureClass::Crashed)], vec![]);
    bench.exchange(w, vec![success(held[1].lease)], vec![]);
    assert_eq!(bench.store.sweeps[&sweep].used, 24_000);
    bench.restart();
    held = bench.exchange(w, vec![], vec![0]).1;
    bench.now += 11_900;
    bench.send(Event::Tick).unwrap();
    assert_eq!(bench.status(sweep), SweepStatus::Running);
    bench.now += 100;
    bench.send(Event::Tick).unwrap();
    assert_eq!(bench.status(sweep), SweepStatus::Cancelled);
    assert_eq!(bench.store.sweeps[&sweep].used, 36_000);
    let stops = bench.heartbeat(w, held[0].lease, 9);
    assert_eq!(stops, [Stop { lease: held[0].lease, reason: StopReason::Cancelled }]);
    let said = &bench.store.outcomes[&held[0].lease.trial].message;
    assert!(said.contains("budget of 0.01 GPU-hours"), "{said}");
}

#[test]
fn a_result_that_was_cut_off_counts_although_its_slot_was_filled_again() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 1, vec![]);
    let finished = bench.lease(w, 0).lease;
    bench.pass(30_000);
    // The worker is back. Its result is not delivered yet, so its slot asks for more.
    let next = bench.lease(w, 0).lease;
    assert_ne!(next.trial, finished.trial);
    assert!(bench.heartbeat(w, finished, 100).is_empty());
    let (acks, _) = bench.exchange(w, vec![success(finished)], vec![]);
    assert_eq!(acks, [Ack::Accepted]);
    assert_eq!(bench.store.outcomes.len(), 1);
}

#[test]
fn why_a_trial_waits_is_explained() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let why = |bench: &Bench, index| bench.scheduler.explain(TrialId { sweep, index });
    assert_eq!(why(&bench, 3), Some(Explanation::Unplaced(Unplaced::NoWorker)));
    assert_eq!(why(&bench, 12), None);
    let w = bench.register(1, 2, vec![]);
    assert_eq!(why(&bench, 3), Some(Explanation::Soon { before: 3 }));
    let held = bench.exchange(w, vec![], vec![0, 1]).1;
    assert_eq!(
        why(&bench, 1),
        Some(Explanation::Running { worker: "w1".into(), slot: 1, others: 0 })
    );
    assert_eq!(why(&bench, 3), Some(Explanation::NoFreeSlot { slots: 2, before: 1 }));
    bench.exchange(w, vec![failure(held[0].lease, FailureClass::Crashed)], vec![]);
    let backoff = Explanation::Backoff { failures: 1, max_attempts: 3, left: 1_000 };
    assert_eq!(why(&bench, 0), Some(backoff));
    bench.exchange(w, vec![success(held[1].lease)], vec![]);
    assert_eq!(why(&bench, 1), Some(Explanation::Ended(Outcome::Succeeded)));
    let change = Changes { max_parallel: Some(Some(1)), ..Changes::default() };
    bench.control(sweep, Control::Change(change)).unwrap();
    bench.lease(w, 0);
    assert_eq!(why(&bench, 7), Some(Explanation::MaxParallel(1)));
    bench.control(sweep, Control::Pause).unwrap();
    assert_eq!(why(&bench, 7), Some(Explanation::Paused));
}
