//! Simulated worlds, in every run of the tests. The program `sim` runs many more.

use deptune_tests::sim::mutations::ALL;
use deptune_tests::sim::{self, Size};

fn small(seed: u64) -> sim::Outcome {
    sim::run(seed, Size::Small, false)
}

#[test]
fn no_invariant_breaks_in_a_hundred_small_worlds() {
    let mut events = 0;
    for seed in 1..=100 {
        let outcome = small(seed);
        assert_eq!(
            outcome.broken, None,
            "again: cargo run --release -p deptune-tests --bin sim -- --seeds 1 --first {seed} \
             --small --trace"
        );
        events += outcome.events;
    }
    assert!(events > 100_000, "the worlds are empty: {events} events");
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
