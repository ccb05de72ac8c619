//! Simulated worlds, in every run of the tests. The program `sim` runs many more.

use deptune_tests::sim::mutations::ALL;
use deptune_tests::sim::{self, Counters, Size};

fn small(seed: u64) -> sim::Outcome {
    sim::run(seed, Size::Small, false)
}

/// The worlds of these seeds.
fn worlds(seeds: std::ops::RangeInclusive<u64>) -> Counters {
    let mut counters = Counters::default();
    for seed in seeds {
        let outcome = small(seed);
        assert_eq!(
            outcome.broken, None,
            "again: cargo run --release -p deptune-tests --bin sim -- --seeds 1 --first {seed} \
             --small --trace"
        );
        counters.add(&outcome.counters);
    }
    counters
}

#[test]
fn no_invariant_breaks_in_a_thousand_small_worlds_where_everything_goes_wrong() {
    let counters = std::thread::scope(|scope| {
        let other = scope.spawn(|| worlds(501..=1_000));
        let mut counters = worlds(1..=500);
        counters.add(&other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        counters
    });
    assert_eq!(counters.zeros(), [""; 0], "kinds of faults and transitions that never happened");
}

#[test]
fn the_same_seed_is_the_same_world_and_another_seed_another() {
    let first: Vec<_> = (1..=20).map(|seed| small(seed).hash).collect();
    let again: Vec<_> = (1..=20).map(|seed| small(seed).hash).collect();
    assert_eq!(first, again);
    let mut different: Vec<_> = first.iter().map(blake3::Hash::to_hex).collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), first.len());
}

#[test]
fn every_deliberate_bug_is_where_its_name_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for bug in ALL {
        let text = std::fs::read_to_string(root.join(bug.path)).unwrap();
        let asked = format!("mutation::on(\"{}\")", bug.name);
        assert!(text.contains(&asked), "{} has no {asked}", bug.path);
    }
}
