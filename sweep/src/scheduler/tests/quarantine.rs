//! Workers on which everything fails.

use super::behaviour::{Bench, failure, slot, success};
use crate::id::{SweepId, WorkerId};
use crate::outcome::{FailureClass, Outcome};
use crate::record::LogEntry;

/// A trial fails on a worker; whether it had got one.
fn fails(bench: &mut Bench, worker: WorkerId, class: FailureClass) -> bool {
    let (_, grants) = bench.exchange(worker, vec![], vec![0]);
    let Some(grant) = grants.first() else { return false };
    bench.exchange(worker, vec![failure(grant.lease, class)], vec![]);
    true
}

fn quarantines(bench: &Bench) -> usize {
    let entries = bench.store.log.iter();
    entries.filter(|entry| matches!(entry, LogEntry::Quarantined { .. })).count()
}

#[test]
fn a_worker_on_which_three_trials_fail_in_a_row_waits_while_another_is_well() {
    let mut bench = Bench::new();
    bench.submit("");
    let (bad, good) = (bench.register(1, 1, vec![]), bench.register(2, 1, vec![]));
    for _ in 0..3 {
        assert!(fails(&mut bench, bad, FailureClass::Crashed));
    }
    assert!(!fails(&mut bench, bad, FailureClass::Crashed));
    assert_eq!(quarantines(&bench), 1);
    let (_, grants) = bench.exchange(good, vec![], vec![0]);
    assert_eq!(grants.len(), 1, "the other one works on");
    // It is tried again after a minute; the next time after two.
    bench.now += 60_000;
    bench.exchange(good, vec![success(grants[0].lease)], vec![]);
    for _ in 0..3 {
        assert!(fails(&mut bench, bad, FailureClass::Infra));
    }
    assert_eq!(quarantines(&bench), 2);
    bench.now += 61_000;
    bench.exchange(good, vec![], vec![]);
    assert!(!fails(&mut bench, bad, FailureClass::Infra));
    bench.now += 60_000;
    bench.exchange(good, vec![], vec![]);
    let (_, grants) = bench.exchange(bad, vec![], vec![0]);
    bench.exchange(bad, vec![success(grants[0].lease)], vec![]);
    for _ in 0..2 {
        assert!(fails(&mut bench, bad, FailureClass::Crashed), "a success clears it");
    }
}

#[test]
fn a_success_that_ends_a_quarantine_lets_the_worker_ask_at_once() {
    let mut bench = Bench::new();
    bench.submit("");
    let (bad, _good) = (bench.register(1, 2, vec![]), bench.register(2, 1, vec![]));
    let late = bench.lease(bad, 1).lease;
    for _ in 0..3 {
        assert!(fails(&mut bench, bad, FailureClass::Crashed));
    }
    assert!(!fails(&mut bench, bad, FailureClass::Crashed));
    bench.wakes = 0;
    bench.exchange(bad, vec![success(late)], vec![]);
    assert_eq!(bench.wakes, 1);
    bench.lease(bad, 0);
}

#[test]
fn where_no_other_worker_fits_the_sweep_it_goes_on_to_its_end() {
    let mut bench = Bench::new();
    bench.submit("[requires]\nlabels = [\"x\"]\n");
    let only = bench.register_slots(1, vec![slot(0)], &["x"], vec![]);
    bench.register(2, 1, vec![]);
    for _ in 0..4 {
        assert!(fails(&mut bench, only, FailureClass::Crashed));
    }
    assert_eq!(quarantines(&bench), 0);
}

#[test]
fn an_agent_s_earlier_run_is_no_other_worker() {
    let mut bench = Bench::new();
    bench.submit("");
    let earlier = bench.register(1, 1, vec![]);
    let lost = bench.lease(earlier, 0).lease;
    let only = bench.register(2, 1, vec![lost]);
    for _ in 0..4 {
        assert!(fails(&mut bench, only, FailureClass::Crashed));
    }
    assert_eq!(quarantines(&bench), 0);
}

#[test]
fn where_no_other_worker_is_well_the_sweep_goes_on_to_its_end() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_attempts = 1\n");
    let (only, gone) = (bench.register(1, 1, vec![]), bench.register(2, 1, vec![]));
    for _ in 0..3 {
        assert!(fails(&mut bench, only, FailureClass::Crashed));
    }
    assert!(!fails(&mut bench, only, FailureClass::Crashed));
    bench.send(crate::scheduler::Event::Leave { worker: gone }).unwrap();
    for _ in 3..12 {
        assert!(fails(&mut bench, only, FailureClass::Crashed));
    }
    let outcomes = bench.store.outcomes.values().map(|it| it.outcome);
    assert_eq!(outcomes.collect::<Vec<_>>(), [Outcome::Failed; 12]);
    assert!(bench.scheduler.progress(SweepId(1)).unwrap().running.is_empty());
}

#[test]
fn one_trial_that_fails_again_and_again_is_not_the_workers_fault() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_parallel = 1\n");
    let (worker, other) = (bench.register(1, 1, vec![]), bench.register(2, 1, vec![]));
    for _ in 0..3 {
        assert!(fails(&mut bench, worker, FailureClass::Crashed));
        bench.now += 61_000;
        bench.exchange(other, vec![], vec![]);
    }
    assert_eq!(bench.store.outcomes.len(), 1);
    assert_eq!(quarantines(&bench), 0);
    for class in [FailureClass::Diverged, FailureClass::Data, FailureClass::UserError] {
        assert!(fails(&mut bench, worker, class));
    }
    assert!(fails(&mut bench, worker, FailureClass::Diverged), "nor are these");
}
