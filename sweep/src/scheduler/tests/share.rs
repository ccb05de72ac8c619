//! Fair shares and priorities.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::behaviour::{Bench, success};
use crate::id::SweepId;
use crate::scheduler::Event;

/// Submits sweeps with these `[limits]`, and says to which of them the leases of a worker go that
/// ends each of its trials at once. More seeds make the sweeps long enough.
fn leases(bench: &mut Bench, limits: &[String], count: usize) -> Vec<SweepId> {
    let seeds: Vec<u64> = (100..200).collect();
    for limits in limits {
        let sweep = bench.submit(limits);
        let request_id = super::model::request(10_000 + u128::from(sweep.0));
        let control = crate::scheduler::Control::AddSeeds(seeds.clone());
        bench.send(Event::Control { request_id, sweep, control }).unwrap();
    }
    let w = bench.register(bench.requests + 1, 1, vec![]);
    let mut reports = vec![];
    let mut served = vec![];
    for _ in 0..count {
        let grant = bench.exchange(w, reports, vec![0]).1.pop().unwrap();
        served.push(grant.lease.trial.sweep);
        reports = vec![success(grant.lease)];
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
}
