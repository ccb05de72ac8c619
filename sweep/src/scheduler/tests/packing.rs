//! Trials that train together. The sweep of these tests has four configurations with three seeds:
//! trial i has seed i mod 3.

use super::behaviour::{Bench, failure, success};
use super::model::{request, worker};
use crate::id::{ArtifactHash, SweepId, TrialId, WorkerId};
use crate::metric::Number;
use crate::outcome::{FailureClass, Outcome};
use crate::record::CheckpointRef;
use crate::scheduler::{
    Ack, Event, Grant, LeaseKey, LeaseProgress, Reply, Report, ReportEnd, TrialProgress,
};

fn indexes(grants: &[Grant]) -> Vec<u64> {
    grants.iter().map(|grant| grant.lease.trial.index).collect()
}

fn leases(grants: &[Grant]) -> Vec<LeaseKey> {
    grants.iter().map(|grant| grant.lease).collect()
}

/// The exchange of a request for slot 0.
fn ask(bench: &mut Bench, worker: WorkerId, n: u128) -> Vec<LeaseKey> {
    let (request_id, free_slots) = (request(n), vec![0]);
    match bench.send(Event::Exchange { worker, request_id, reports: vec![], free_slots }) {
        Ok(Reply::Exchanged { grants, .. }) => leases(&grants),
        other => panic!("{other:?}"),
    }
}

fn trial(index: u64) -> TrialId {
    TrialId { sweep: SweepId(1), index }
}

#[test]
fn a_pack_has_one_seed_and_packs_come_out_even() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 3, vec![]);
    // Four trials of a seed make two packs of two, not one of three and one of one.
    let (_, first) = bench.exchange(id, vec![], vec![0]);
    assert_eq!(indexes(&first), [0, 3]);
    assert!(first.iter().all(|grant| grant.settings.seed == 1 && grant.slot == 0));
    let reports = leases(&first).into_iter().map(success).collect();
    let (_, second) = bench.exchange(id, reports, vec![0]);
    assert_eq!(indexes(&second), [1, 4], "in the grid's order, the trials of the next seed");
    bench.audit();
}

#[test]
fn every_trial_of_the_grid_is_leased_once() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 8, vec![]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (_, grants) = bench.exchange(id, vec![], vec![0]);
        assert_eq!(grants.len(), 4);
        seen.extend(indexes(&grants));
        let reports = leases(&grants).into_iter().map(success).collect();
        bench.exchange(id, reports, vec![]);
        bench.audit();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..12).collect::<Vec<_>>());
    assert!(bench.scheduler.running_sweeps().is_empty());
}

#[test]
fn slots_share_the_work() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 6, 8, vec![]);
    let (_, grants) = bench.exchange(id, vec![], (0..6).collect());
    let of = |slot| grants.iter().filter(|grant| grant.slot == slot).count();
    assert_eq!((0..6).map(of).collect::<Vec<_>>(), [2; 6]);
}

#[test]
fn bounds_hold_for_packs() {
    for (limits, most) in [("max_parallel = 3", 3), ("max_pack = 2", 2), ("max_pack = 1", 1)] {
        let mut bench = Bench::new();
        bench.submit(&format!("[limits]\n{limits}"));
        let id = bench.register_packing(1, 1, 8, vec![]);
        let (_, grants) = bench.exchange(id, vec![], vec![0]);
        assert!(grants.len() <= most, "{limits}: {} trials", grants.len());
        assert!(grants.len() * 2 > most, "{limits}: {} trials", grants.len());
    }
}

#[test]
fn memory_bounds_packs() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_with_memory(1, 8, 1 << 20);
    assert_eq!(bench.exchange(id, vec![], vec![0]).1.len(), 1, "one is tried in any case");
    let id = bench.register_with_memory(2, 8, 1 << 30);
    assert_eq!(bench.exchange(id, vec![], vec![0]).1.len(), 4, "all of a seed");
}

#[test]
fn a_lost_answer_is_given_again_as_a_whole() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 4, vec![]);
    let first = ask(&mut bench, id, 77);
    assert_eq!(first.len(), 4);
    assert_eq!(ask(&mut bench, id, 77), first);
    bench.restart();
    assert_eq!(ask(&mut bench, id, 77), first);
}

#[test]
fn a_request_that_comes_again_after_its_leases_expired_makes_no_second_pack() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 2, vec![]);
    let first = ask(&mut bench, id, 77);
    assert_eq!(first.len(), 2);
    for restarts in [false, true] {
        bench.pass(31_000);
        if restarts {
            bench.restart();
        }
        // A copy of the request that was under way all the time.
        assert_eq!(ask(&mut bench, id, 77), []);
        // The answer to the first was under way just as long: the worker trains those.
        assert_eq!(bench.heartbeat(id, first[0], 5), []);
        assert_eq!(bench.heartbeat(id, first[1], 5), []);
        bench.audit();
        assert_eq!(ask(&mut bench, id, 77), first);
    }
    // When it comes for others it is given others.
    bench.pass(31_000);
    assert_eq!(ask(&mut bench, id, 78).len(), 2);
    bench.audit();
}

#[test]
fn a_slot_is_busy_until_its_last_trial_ends() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 4, vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    let mut held = leases(&grants);
    let last = held.pop().unwrap();
    let reports = held.into_iter().map(success).collect();
    assert!(bench.exchange(id, reports, vec![0]).1.is_empty());
    bench.audit();
    let (_, next) = bench.exchange(id, vec![success(last)], vec![0]);
    assert_eq!(indexes(&next), [1, 4, 7, 10]);
}

#[test]
fn a_member_that_fails_leaves_the_others_alone() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 4, vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    let held = leases(&grants);
    bench.exchange(id, vec![failure(held[0], FailureClass::Diverged)], vec![]);
    assert_eq!(bench.store.outcomes[&held[0].trial].outcome, Outcome::Failed);
    let reports = held[1..].iter().copied().map(success).collect();
    bench.exchange(id, reports, vec![]);
    for lease in &held[1..] {
        assert_eq!(bench.store.outcomes[&lease.trial].outcome, Outcome::Succeeded);
    }
}

#[test]
fn after_a_crash_the_members_run_alone_and_only_a_crash_alone_counts() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 4, vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    let crashed = |lease| failure(lease, FailureClass::Crashed);
    let reports = leases(&grants).into_iter().map(crashed).collect();
    let (_, next) = bench.exchange(id, reports, vec![0]);
    assert_eq!(indexes(&next), [0], "alone, without a wait");
    for grant in &grants {
        let trial = &bench.store.trials[&grant.lease.trial];
        assert_eq!((trial.failures, trial.alone), (0, true));
    }
    bench.restart();
    bench.exchange(id, vec![crashed(next[0].lease)], vec![]);
    assert_eq!(bench.store.trials[&trial(0)].failures, 1);
    let (_, next) = bench.exchange(id, vec![], vec![0]);
    assert_eq!(indexes(&next), [3], "the first waits now, the next one runs alone too");
}

#[test]
fn packs_that_ran_out_of_memory_are_halved_there_and_stay_so() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 4, vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    assert_eq!(grants.len(), 4);
    let oom = |lease| failure(lease, FailureClass::Oom);
    bench.exchange(id, leases(&grants).into_iter().map(oom).collect(), vec![]);
    assert_eq!(bench.store.trials[&trial(0)].failures, 0);
    bench.restart();
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    assert_eq!(indexes(&grants), [0, 3]);
    bench.exchange(id, leases(&grants).into_iter().map(oom).collect(), vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    assert_eq!(indexes(&grants), [0]);
    bench.exchange(id, vec![oom(grants[0].lease)], vec![]);
    assert_eq!(bench.store.trials[&trial(0)].failures, 1, "alone it counts");
}

#[test]
fn a_pack_that_was_cut_off_comes_back_as_one() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 2, 4, vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    let held = leases(&grants);
    bench.pass(31_000);
    assert_eq!(bench.scheduler.progress(SweepId(1)).unwrap().running.len(), 0);
    let beat = |lease: &LeaseKey| LeaseProgress {
        lease: *lease,
        step: 1,
        loss: Number::from(1.0),
        steps_per_second: 1.0,
    };
    let leases = held.iter().map(beat).collect();
    match bench.send(Event::Heartbeat { worker: id, leases }).unwrap() {
        Reply::Heard { stops, .. } => assert!(stops.is_empty(), "{stops:?}"),
        other => panic!("{other:?}"),
    }
    bench.audit();
    let running = bench.scheduler.progress(SweepId(1)).unwrap().running.len();
    assert_eq!(running, held.len());
    let losses = held.iter().map(|lease| bench.store.trials[&lease.trial].losses);
    assert_eq!(losses.sum::<u32>(), 0);
}

#[test]
fn slot_time_counts_once_for_a_pack() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nbudget_gpu_hours = 1.0");
    let id = bench.register_packing(1, 1, 4, vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    bench.now += 10_000;
    let reports = leases(&grants).into_iter().map(success).collect();
    bench.exchange(id, reports, vec![]);
    assert_eq!(bench.store.sweeps[&SweepId(1)].used, 10_000);
}

#[test]
fn trials_train_together_from_one_step_only() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 1, 4, vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    let held = leases(&grants);
    let hash = ArtifactHash::of(b"state");
    let checkpoint = |lease: &LeaseKey, step| TrialProgress {
        lease: *lease,
        evaluations: vec![],
        checkpoint: Some(CheckpointRef { step, hash: hash.clone() }),
    };
    let trials = vec![checkpoint(&held[0], 25), checkpoint(&held[1], 50), checkpoint(&held[2], 25)];
    bench.send(Event::Progress { worker: id, trials }).unwrap();
    bench.send(Event::Leave { worker: worker(1) }).unwrap();
    let id = bench.register_packing(2, 1, 4, vec![]);
    let (_, grants) = bench.exchange(id, vec![], vec![0]);
    assert_eq!(indexes(&grants), [0, 6]);
    let steps = grants.iter().map(|grant| grant.checkpoint.as_ref().map_or(0, |c| c.step));
    assert_eq!(steps.collect::<Vec<_>>(), [25, 25]);
}

#[test]
fn an_agent_that_was_started_again_is_not_counted_twice() {
    let mut bench = Bench::new();
    bench.submit("[limits]\nmax_parallel = 4");
    let id = bench.register_packing(1, 1, 4, vec![]);
    let held = leases(&bench.exchange(id, vec![], vec![0]).1);
    assert_eq!(held.len(), 4);
    let again = bench.register_packing(2, 1, 4, held);
    assert_eq!(bench.exchange(again, vec![], vec![0]).1.len(), 4, "not two, for two slots");
}

#[test]
fn a_trial_that_is_to_run_alone_joins_no_other() {
    let mut bench = Bench::new();
    bench.submit("");
    let id = bench.register_packing(1, 2, 4, vec![]);
    let (_, first) = bench.exchange(id, vec![], vec![0]);
    assert_eq!(indexes(&first), [0, 3]);
    // The packs of the other seeds succeed; the rest of the first seed's crashes.
    let mut reports = Vec::new();
    loop {
        let (_, grants) = bench.exchange(id, std::mem::take(&mut reports), vec![1]);
        if grants[0].settings.seed == 1 {
            assert_eq!(indexes(&grants), [6, 9]);
            let crashed = |lease| failure(lease, FailureClass::Crashed);
            bench.exchange(id, leases(&grants).into_iter().map(crashed).collect(), vec![]);
            break;
        }
        reports.extend(leases(&grants).into_iter().map(success));
    }
    let released =
        |lease| Report { lease, evaluations: vec![], last_step: 0, end: ReportEnd::Released };
    let reports = leases(&first).into_iter().map(released).collect();
    let (_, again) = bench.exchange(id, reports, vec![0]);
    assert_eq!(indexes(&again), [0, 3], "all four wait, two of them alone");
}

#[test]
fn what_is_left_of_running_trials_follows_their_leases() {
    let mut bench = Bench::new();
    let sweep = bench.submit("");
    let w = bench.register(1, 2, vec![]);
    let left = |bench: &Bench| bench.scheduler.sweeps[&sweep].under_way.unwrap().1;
    let held = bench.lease(w, 0).lease;
    assert_eq!(left(&bench), 1000);
    bench.lease(w, 1);
    assert_eq!(left(&bench), 2000);
    assert_eq!(bench.exchange(w, vec![success(held)], vec![]).0, [Ack::Accepted]);
    assert_eq!(left(&bench), 1000);
}
