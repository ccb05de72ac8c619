//! The network between workers and the coordinator stalls, breaks and delivers twice, while a sweep
//! of short trials runs: every trial ends with its one right result. The children only pretend to
//! train.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use deptune_tests::{
    Coordinator, Process, Proxy, Store, Twice, Weather, World, assert_whole, expected_metrics,
    fake_trainer, quickstart, until,
};

const TRIALS: i64 = 120;
const PATIENCE: Duration = Duration::from_secs(180);

/// Two workers behind `address`.
fn workers(world: &World, coordinator: &Coordinator, address: &str) -> Vec<Process> {
    let token = coordinator.token_file.display().to_string();
    let options = ["--slots", "2", "--server", address, "--token-file", token.as_str()];
    let start =
        |name| world.worker_with("step_ms=20", name, &fake_trainer(), &[&quickstart()], &options);
    ["one", "two"].map(start).into()
}

/// Runs a sweep; `trouble` goes on until it returns, or the sweep has ended.
fn through(store: &Store, link: impl FnOnce(&str) -> (String, Box<dyn FnMut(usize)>)) {
    let world = store.world();
    let coordinator = world.serve_at("127.0.0.1:0", &["--lease-ttl", "3s"]);
    let (address, mut trouble) = link(&coordinator.address);
    let _workers = workers(&world, &coordinator, &address);
    let seeds: Vec<i64> = (1..=TRIALS).collect();
    let project = world.project("project").with("seeds = [42]", &format!("seeds = {seeds:?}"));
    let mut waiting = world.start("submit", &["submit", &project.spec(), "--wait"]);
    until("something has ended", PATIENCE, || {
        assert!(waiting.is_running(), "{}", waiting.stderr());
        (store.number(&world, "select count(*) from outcomes") >= 10).then_some(())
    });
    for turn in 0.. {
        if !waiting.is_running() {
            break;
        }
        trouble(turn);
    }
    waiting.wait(PATIENCE).code(0);
    assert_eq!(store.metrics(&world, 1), expected_metrics(&project, TRIALS));
    assert_whole(|sql| store.number(&world, sql), TRIALS);
}

/// Bad weather now and then, for so many milliseconds at most.
fn changing(bad: Weather, longest: u64) -> impl FnOnce(&str) -> (String, Box<dyn FnMut(usize)>) {
    move |target| {
        let proxy = Proxy::start(target, || {});
        let address = proxy.address.clone();
        let trouble = move |turn: usize| {
            // Shorter and longer than a lease in turn, four times; then it stays fair.
            if turn < 4 {
                proxy.set(bad);
                let share = if turn.is_multiple_of(2) { 10 } else { 1 };
                std::thread::sleep(Duration::from_millis(longest / share));
                proxy.set(Weather::Fair);
            }
            std::thread::sleep(Duration::from_millis(300));
        };
        (address, Box::new(trouble))
    }
}

#[test]
fn a_network_that_stalls_beyond_the_leases_loses_nothing() {
    through(&Store::Sqlite, changing(Weather::Stalled, 6_000));
}

#[test]
fn a_network_that_breaks_beyond_the_leases_loses_nothing() {
    through(&Store::Sqlite, changing(Weather::Cut, 6_000));
}

#[test]
fn calls_that_arrive_twice_have_one_effect() {
    through(&Store::Sqlite, |target| {
        let twice = Twice::start(target);
        let address = twice.address.clone();
        let look = move |turn| {
            assert!(turn < 10 || twice.calls() > 0, "nothing went through the relay");
            std::thread::sleep(Duration::from_millis(100));
        };
        (address, Box::new(look))
    });
}
