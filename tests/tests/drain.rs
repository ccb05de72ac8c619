//! Workers that are asked to end from afar, and sweeps that ask for workers. The children only
//! pretend to train.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use deptune_tests::{World, fake_trainer, quickstart, until};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_drained_worker_hands_its_trial_to_another() {
    let world = World::new();
    // Heartbeats every second, far more often than the trial lasts.
    let coordinator = world.serve_at("127.0.0.1:0", &["--lease-ttl", "3s"]);
    let mut database = coordinator.database();
    let roots = quickstart();
    let first = world.worker_with("step_ms=500", "one", &fake_trainer(), &[&roots], &[]);
    let project = world
        .project("handed-over")
        .with("steps = 6", "steps = 100")
        .with("eval_every = 3", "eval_every = 10");
    world.run(&["submit", &project.spec()]).code(0);
    until("it trains", PATIENCE, || {
        (database.number("select count(*) from evaluations") > 0).then_some(())
    });
    let second = world.worker("two", &fake_trainer(), &[&roots], &[]);
    until("both are here", PATIENCE, || {
        (database.number("select count(*) from workers") == 2).then_some(())
    });

    world.run(&["drain", "nobody"]).code(2).says(&["no worker 'nobody' is registered"]);
    world.run(&["drain", "one", "--wait"]).code(0).says(&["handed back 1 trial"]);
    first.wait(PATIENCE).code(0);
    let list = world.run(&["workers", "--json"]).code(0).json();
    assert_eq!(list["name"], "two");

    world.run_within(PATIENCE, &["watch", "1"]).code(0);
    let attempts = database.rows(
        "select worker, ending, first_step > 0 from attempts_history order by trial_index, epoch
         limit 2",
    );
    assert_eq!(attempts, [["one", "released", "0"], ["two", "succeeded", "1"]]);
    drop(second);
}

#[test]
fn a_sweep_waits_for_a_worker_that_fits_and_says_so() {
    let world = World::new();
    let coordinator = world.serve();
    let roots = quickstart();
    let _plain = world.worker("plain", &fake_trainer(), &[&roots], &[]);
    until("it is here", PATIENCE, || {
        (coordinator.database().number("select count(*) from workers") == 1).then_some(())
    });
    let project =
        world.project("picky").with("[train]", "[requires]\nlabels = [\"pool=a\"]\n[train]");
    let why = "no worker can take it: plain lacks the label 'pool=a'";
    world.run(&["submit", &project.spec()]).code(0).says(&["warning: its trials wait", why]);
    let explained = world.run(&["explain", "1.0"]).code(0);
    assert!(explained.stdout.contains(why), "{explained}");
    let options = ["--label", "x", "--label", "pool=a"];
    let _fitting = world.worker("fitting", &fake_trainer(), &[&roots], &options);
    world.run_within(PATIENCE, &["watch", "1"]).code(0);
    let sql = "select distinct worker from trial_results";
    let workers = world.run(&["sql", sql, "--json"]).code(0).json();
    assert_eq!(workers["worker"], "fitting");
}
