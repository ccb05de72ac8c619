//! Results are read where they lie, also when no coordinator runs any more.

use std::time::Duration;

use deptune_tests::{World, fake_trainer, quickstart};

#[test]
fn results_are_read_without_a_running_coordinator() {
    let world = World::new();
    let project = world.project("offline").with("seeds = [42]", "seeds = [42, 43]");
    let coordinator = world.serve();
    let worker = world.worker("node", &fake_trainer(), &[&quickstart()], &[]);
    world.run_within(Duration::from_secs(60), &["submit", &project.spec(), "--wait"]).code(0);
    for process in [worker, coordinator.process] {
        process.signal(nix::sys::signal::Signal::SIGTERM);
        process.wait(Duration::from_secs(30)).code(0);
    }

    let trials = "select count(*) as trials from trial_results where outcome = 'succeeded'";
    let answer = world.run(&["sql", trials, "--json"]).code(0).json();
    assert_eq!(answer, serde_json::json!({ "trials": 2 }));
    let best = world.run(&["best", "1", "--json"]).code(0).json();
    assert_eq!(best["seeds"], 2, "{best}");
    // It has gone again, and what changes something still asks for a coordinator.
    let refused = world.run(&["cancel", "1"]).code(3);
    assert!(refused.stderr.contains("deptune serve"), "{}", refused.stderr);
}
