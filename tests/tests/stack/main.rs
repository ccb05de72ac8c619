//! The real services in a simulated network: the coordinator's own gRPC stack over the store in
//! memory, and clients with real channels, in one thread with simulated time, from one seed.
//!
//! One process per seed, because libraries keep state that a second world in the same process
//! would see: the tests start this program again for each of them. One seed by hand:
//!
//! ```sh
//! DEPTUNE_SEED=7 cargo test -p deptune-tests --test stack -- --ignored --exact world --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod dice;
mod ledger;
mod net;
mod person;
mod worker;
mod world;

use std::process::Command;

/// How the program for one seed is told which.
const SEED: &str = "DEPTUNE_SEED";

/// Worlds at the same time.
const AT_ONCE: u64 = 2;

#[test]
#[ignore = "the world of one seed, in DEPTUNE_SEED; the other tests start it"]
fn world() {
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    println!("{}", world::run(seed));
}

/// The last line that the world of a seed prints.
fn run(seed: u64) -> String {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "world", "--nocapture"])
        .env(SEED, seed.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "seed {seed} failed; again with: {SEED}={seed} cargo test -p deptune-tests --test stack -- \
         --ignored --exact world --nocapture\n{said}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let line = said.lines().find(|line| line.contains("trace "));
    line.unwrap_or_else(|| panic!("no result in\n{said}")).to_owned()
}

/// Runs the worlds of these seeds, a few at a time.
fn run_all(seeds: std::ops::Range<u64>) -> Vec<String> {
    let lanes = (0..AT_ONCE).map(|lane| {
        let seeds = seeds.clone().filter(move |seed| seed % AT_ONCE == lane);
        std::thread::spawn(move || seeds.map(run).collect::<Vec<_>>())
    });
    let lanes: Vec<_> = lanes.collect();
    lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
}

#[test]
fn every_world_ends_well() {
    let count = std::env::var("DEPTUNE_SEEDS").ok().and_then(|text| text.parse().ok());
    let count = count.unwrap_or(100);
    let ended = run_all(0..count);
    // The faults that the worlds are about did happen.
    for fault in ["crashes", "cuts", "holds", "retries", "stale"] {
        let happened = |line: &String| {
            let (_, rest) = line.split_once(&format!("{fault} ")).unwrap();
            rest.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let total: u64 = ended.iter().map(happened).sum();
        eprintln!("{fault}: {total} in {count} worlds");
        assert!(total > 0, "no {fault} in {count} worlds");
    }
}

#[test]
fn the_same_seed_gives_the_same_world_and_another_one_another() {
    let first = run_all(1000..1006);
    assert_eq!(first, run_all(1000..1006));
    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert_eq!(distinct.len(), first.len());
}
