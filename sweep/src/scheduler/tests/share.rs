//! Fair shares and priorities.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::behaviour::{Bench, success};
use super::control::control;
use crate::id::{SweepId, WorkerId};
use crate::scheduler::{Changes, Control, LeaseKey};

/// Submits sweeps with these `[limits]`; more seeds make them long enough.
fn fill(bench: &mut Bench, limits: &[String]) {
    let seeds: Vec<u64> = (100..300).collect();
    for limits in limits {
        let sweep = bench.submit(limits);
        let request_id = super::model::request(10_000 + u128::from(sweep.0));
        let changes = Changes { add_seeds: seeds.clone(), ..Changes::default() };
        bench.send(control(request_id, sweep, Control::Change(changes))).unwrap();
    }
}

/// Submits sweeps with these `[limits]`, and says to which of them the leases of a worker go that
/// ends each of its trials at once.
fn leases(bench: &mut Bench, limits: &[String], count: usize) -> Vec<SweepId> {
    fill(bench, limits);
    let w = bench.register(bench.requests + 1, 1, vec![]);
    take_turns(bench, &[w], count)
}

/// To which sweeps the trials go that these workers start, one pack each by turns, all of whose
/// trials have ended when its worker comes again.
fn take_turns(bench: &mut Bench, workers: &[WorkerId], count: usize) -> Vec<SweepId> {
    let mut held: Vec<Vec<LeaseKey>> = vec![vec![]; workers.len()];
    let mut served = vec![];
    while served.len() < count {
        for (&worker, held) in workers.iter().zip(&mut held) {
            let reports = held.drain(..).map(success).collect();
            let (_, grants) = bench.exchange(worker, reports, vec![0]);
            held.extend(grants.iter().map(|grant| grant.lease));
            served.extend(grants.iter().map(|grant| grant.lease.trial.sweep));
        }
    }
    served
}

fn weight(weight: u32) -> String {
    format!("[limits]\nweight = {weight}\n")
}

#[test]
fn weights_of_one_to_three_share_any_200_leases_25_to_75() {
    let mut bench = Bench::new();
    let served = leases(&mut bench, &[weight(1), weight(3)], 500);
    for window in served.windows(200) {
        let first = window.iter().filter(|sweep| sweep.0 == 1).count();
        assert!((40..=60).contains(&first), "{first} of 200");
    }
}

#[test]
fn packs_on_several_workers_share_any_200_leases_by_weight_too() {
    for max_pack in [2, 4, 8] {
        let mut bench = Bench::new();
        fill(&mut bench, &[weight(1), weight(3)]);
        let workers = [1, 2, 3].map(|n| bench.register_packing(n, 1, max_pack, vec![]));
        let served = take_turns(&mut bench, &workers, 600);
        for window in served.windows(200) {
            let first = window.iter().filter(|sweep| sweep.0 == 1).count();
            assert!((40..=60).contains(&first), "{first} of 200 in packs of {max_pack}");
        }
    }
}

#[test]
fn lower_priorities_do_not_starve_for_packs_of_any_size() {
    for max_pack in 1..=4 {
        let mut bench = Bench::new();
        fill(&mut bench, &["".to_owned(), "[limits]\npriority = 5\n".to_owned()]);
        let w = bench.register_packing(1, 1, max_pack, vec![]);
        let served = take_turns(&mut bench, &[w], 640);
        let lower = served.iter().filter(|sweep| sweep.0 == 1).count();
        assert!((32..=44).contains(&lower), "{lower} of 640 in packs of {max_pack}");
    }
}

#[test]
fn a_lower_priority_that_fits_one_of_two_workers_is_not_passed_over_there() {
    let picky = "[limits]\npriority = -1\n[requires]\nlabels = [\"x\"]\n".to_owned();
    for order in [[1, 2], [2, 1]] {
        let mut bench = Bench::new();
        fill(&mut bench, &[picky.clone(), String::new()]);
        let workers = order.map(|n| {
            let labels: &[&str] = if n == 1 { &["x"] } else { &[] };
            bench.register_slots(n, vec![super::behaviour::slot(0)], labels, vec![])
        });
        let served = take_turns(&mut bench, &workers, 320);
        let lower = served.iter().filter(|sweep| sweep.0 == 1).count();
        assert!((18..=21).contains(&lower), "{lower} of 320");
    }
}

#[test]
fn a_sweep_that_comes_later_takes_its_share_and_no_more() {
    let mut bench = Bench::new();
    leases(&mut bench, &[weight(1)], 100);
    let served = leases(&mut bench, &[weight(1)], 200);
    let second = served.iter().filter(|sweep| sweep.0 == 2).count();
    assert!((95..=105).contains(&second), "{second} of 200");
}

#[test]
fn a_higher_priority_goes_first_and_the_rest_does_not_starve() {
    let mut bench = Bench::new();
    let limits = ["", "[limits]\npriority = 5\n", ""].map(String::from);
    let served = leases(&mut bench, &limits, 320);
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for sweep in served {
        *counts.entry(sweep.0).or_default() += 1;
    }
    assert_eq!((counts[&1], counts[&2], counts[&3]), (10, 300, 10));
}

#[test]
fn a_higher_priority_that_leases_in_between_takes_nobody_s_turn() {
    let mut bench = Bench::new();
    let limits = ["", "", "[limits]\npriority = 5\nmax_parallel = 1\n"].map(String::from);
    fill(&mut bench, &limits);
    let w = bench.register(bench.requests + 1, 2, vec![]);
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    let mut held: [Option<LeaseKey>; 2] = [None, None];
    // Two slots end in turns. The higher priority holds one of them, the others share the other.
    for turn in 0..400 {
        let slot = turn % 2;
        let reports = held[slot].take().map(success).into_iter().collect();
        let grant = bench.exchange(w, reports, vec![slot as u32]).1.pop().unwrap();
        held[slot] = Some(grant.lease);
        *counts.entry(grant.lease.trial.sweep.0).or_default() += 1;
    }
    let (first, second) = (counts[&1], counts[&2]);
    assert!(first.abs_diff(second) * 20 <= first + second, "{first} and {second}");
    assert!(counts[&3] > 150, "{counts:?}");
}

#[test]
fn the_turns_below_the_highest_priority_follow_weights_too() {
    let mut bench = Bench::new();
    let limits = ["[limits]\nweight = 3\n", "[limits]\npriority = 5\n", ""].map(String::from);
    let served = leases(&mut bench, &limits, 640);
    let count = |sweep| served.iter().filter(|id| id.0 == sweep).count();
    assert_eq!((count(1), count(2), count(3)), (30, 600, 10));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Between saturated sweeps of one priority the shares of any window follow the weights, off
    /// by less than one lease per sweep at each of its two ends.
    #[test]
    fn shares_follow_weights(weights in prop::collection::vec(1..8u32, 2..5), from in 0..50usize) {
        let mut bench = Bench::new();
        let limits: Vec<String> = weights.iter().map(|&w| weight(w)).collect();
        let served = leases(&mut bench, &limits, 250);
        let window = &served[from..from + 200];
        let all: u32 = weights.iter().sum();
        for (id, &weight) in (1..).zip(&weights) {
            let got = window.iter().filter(|sweep| sweep.0 == id).count() as f64;
            let due = 200.0 * f64::from(weight) / f64::from(all);
            let off = (got - due).abs();
            prop_assert!(off <= weights.len() as f64 + 2.0, "{got} of {due} for {weight}");
        }
    }

    /// Between saturated sweeps of any weights and priorities: of sixteen leases fifteen go to the
    /// highest priority and one to all below it, both shared by weight.
    #[test]
    fn shares_follow_weights_and_priorities(
        sweeps in prop::collection::vec((1..6u32, 0..3i32), 2..6),
    ) {
        let limits: Vec<String> = sweeps
            .iter()
            .map(|(weight, priority)| {
                format!("[limits]\nweight = {weight}\npriority = {priority}\n")
            })
            .collect();
        let served = leases(&mut Bench::new(), &limits, 640);
        let highest = sweeps.iter().map(|(_, priority)| *priority).max().unwrap();
        let weights = |of_highest: bool| -> f64 {
            let of = sweeps.iter().filter(|(_, priority)| (*priority == highest) == of_highest);
            of.map(|(weight, _)| f64::from(*weight)).sum()
        };
        let turns = |of_highest| match (of_highest, weights(false) > 0.0) {
            (true, true) => 600.0,
            (true, false) => 640.0,
            (false, _) => 40.0,
        };
        for (id, &(weight, priority)) in (1..).zip(&sweeps) {
            let of_highest = priority == highest;
            let due = turns(of_highest) * f64::from(weight) / weights(of_highest);
            let got = served.iter().filter(|sweep| sweep.0 == id).count() as f64;
            prop_assert!((got - due).abs() <= 2.0, "{got} of {due} for {weight} at {priority}");
        }
    }
}

#[test]
fn a_sweep_that_fits_every_other_slot_is_served_on_those() {
    let mut bench = Bench::new();
    fill(&mut bench, &[weight(1), weight(1), "[requires]\nlabels = [\"x\"]".to_owned()]);
    let any = bench.register(1, 1, vec![]);
    let fitting = bench.register_slots(2, vec![super::behaviour::slot(0)], &["x"], vec![]);
    let mut picky = 0;
    for _ in 0..60 {
        for worker in [any, fitting] {
            let lease = bench.lease(worker, 0).lease;
            picky += u32::from(lease.trial.sweep == SweepId(3));
            bench.exchange(worker, vec![success(lease)], vec![]);
        }
    }
    assert!(picky >= 20, "{picky} of 60");
}
