//! Trials that train together, with real processes: who is blamed when a pack's trainer dies, and
//! that neither company nor a kill changes what a trial ends with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use deptune_tests::{Database, Project, World, fake_trainer, quickstart, trainer, until};
use nix::sys::signal::{Signal, kill};

/// Longer than each part of it may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Four configurations with two seeds.
fn grid(world: &World) -> Project {
    world
        .project("grid")
        .with("prompt_lr = [0.3]", "prompt_lr = [0.1, 0.2, 0.3, 0.4]")
        .with("seeds = [42]", "seeds = [42, 43]")
}

/// The trials of each attempt's pack, by trial.
fn packs(database: &mut Database) -> Vec<Vec<String>> {
    database.rows(
        "select trial_index, epoch, pack_members, coalesce(ending, '') from attempts_history
         order by trial_index, epoch",
    )
}

#[test]
fn a_pack_that_crashes_blames_nobody_and_its_trials_run_alone() {
    let world = World::new();
    let project = grid(&world);
    // Once, trial 2 kills the trainer that it is in.
    let orders = format!("fault=segv index=2 at=2 once={}", world.path("once").display());
    let coordinator = world.serve();
    let args = ["--max-pack", "4"];
    let _worker = world.worker_with(&orders, "node", &fake_trainer(), &[&quickstart()], &args);
    world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(0);
    let shown = world.run(&["show", "1"]).code(0);
    assert!(shown.stdout.contains(" of at most 4 trials, "), "{shown}");
    assert!(!shown.stdout.contains("on average"), "no device was watched: {shown}");
    let mut database = coordinator.database();
    database.assert_sound();
    assert_eq!(database.number("select count(*) from trials where failures > 0"), 0);
    let rows = packs(&mut database);
    let of = |index: &str| -> Vec<(&str, &str)> {
        let rows = rows.iter().filter(|row| row[0] == index);
        rows.map(|row| (row[2].as_str(), row[3].as_str())).collect()
    };
    // Even indexes have the first seed.
    for index in ["0", "2", "4", "6"] {
        assert_eq!(of(index), [("4", "failed"), ("1", "succeeded")], "trial {index}");
    }
    for index in ["1", "3", "5", "7"] {
        assert_eq!(of(index), [("4", "succeeded")], "trial {index}");
    }
}

#[test]
fn what_a_device_did_comes_home_with_the_results() {
    let world = World::new();
    let project = grid(&world);
    let _coordinator = world.serve();
    let _worker = world.worker_with("watts=400", "node", &fake_trainer(), &[&quickstart()], &[]);
    world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(0);
    let shown = world.run(&["show", "1"]).code(0);
    let words = "at most 1.1 GB of memory, devices 75 % busy at 400 W on average";
    assert!(shown.stdout.contains(words), "{shown}");
    let trial = world.run(&["show", "1.0"]).code(0);
    assert!(trial.stdout.contains("75 % busy at 400 W on average"), "{trial}");
    let sweep = world.run(&["show", "1", "--json"]).code(0).json();
    let result = &sweep["trial_results"][0]["result"];
    for of in [&sweep["packs"], result] {
        assert_eq!(of["peak_memory_bytes"], 1 << 30, "{of}");
        assert_eq!(of["mean_utilization"], 0.75, "{of}");
        assert_eq!(of["mean_power_watts"], 400.0, "{of}");
    }
}

/// Metrics and losses of every evaluation, to the last bit, and the adapters.
fn results(database: &mut Database) -> Vec<Vec<Vec<String>>> {
    [
        "select trial_index, outcome, metric, best_step, test_metric, steps, adapter
         from outcomes order by trial_index",
        "select trial_index, step, split, loss, train_loss, rows
         from evaluations order by trial_index, step, split",
    ]
    .map(|sql| database.rows(sql))
    .into()
}

fn long(world: &World, limits: &str) -> Project {
    grid(world)
        .with("seeds = [42, 43]", "seeds = [42]")
        // Rates at which rounding is not blown up within a few steps.
        .with("[0.1, 0.2, 0.3, 0.4]", "[0.01, 0.02, 0.03, 0.04]")
        .with("steps = 6", "steps = 60")
        .with("eval_every = 3", &format!("eval_every = 10{limits}"))
}

#[test]
fn a_pack_whose_worker_dies_ends_as_if_nothing_had_happened() {
    let Some(trainer) = trainer() else { return };
    let undisturbed = |limits: &str| {
        let world = World::new();
        let coordinator = world.serve();
        let _worker = world.worker("node", &trainer, &[&quickstart()], &["--max-pack", "4"]);
        let spec = long(&world, limits).spec();
        world.run_within(PATIENCE, &["submit", &spec, "--wait"]).code(0);
        let mut database = coordinator.database();
        database.assert_sound();
        let members = database.rows("select distinct pack_members from attempts_history");
        (results(&mut database), members)
    };
    let (expected, members) = undisturbed("");
    assert_eq!(members, [["4"]], "four trials of a seed train together");

    let world = World::new();
    let coordinator = world.serve();
    let start = || world.worker("node", &trainer, &[&quickstart()], &["--max-pack", "4"]);
    let mut worker = start();
    let spec = long(&world, "").spec();
    let sweep = world.run(&["submit", &spec]).code(0).stdout.trim().to_owned();
    let mut database = Database::open(&world.data_dir().join("deptune.db"));
    until("all of a pack have a checkpoint", PATIENCE, || {
        let sql = "select count(*) from trials
             where phase = 'leased' and checkpoint_step between 10 and 40
             group by checkpoint_step";
        if database.rows(sql) != [["4"]] {
            return None;
        }
        // Checkpoints of the next step may be on their way: they would go on from different ones.
        let child = worker.freeze_child()?;
        if database.rows(sql) == [["4"]] {
            return Some(());
        }
        kill(child, Signal::SIGCONT).ok()?;
        None
    });
    worker.kill();
    worker = start();
    world.run_within(PATIENCE, &["watch", &sweep]).code(0);
    assert_eq!(results(&mut database), expected);
    let resumed = "select count(*) from attempts where first_step > 0 and members = 4";
    assert_eq!(database.number(resumed), 4, "the four went on together");
    let most = "select max(made) from (
             select sum(last_step - first_step) as made from attempts group by trial_index
         )";
    assert!(database.number(most) <= 60 + 10, "more was repeated than since the last checkpoint");
    drop((coordinator, worker));

    // Alone: the same up to rounding, which grows with the steps.
    let (alone, members) = undisturbed("\n[limits]\nmax_pack = 1");
    assert_eq!(members, [["1"]]);
    let first = |rows: &[Vec<String>]| -> Vec<(String, f64)> {
        let rows = rows.iter().filter(|row| row[1] == "10" && row[2] == "validation");
        rows.map(|row| (row[0].clone(), row[4].parse().unwrap())).collect()
    };
    let (alone, together) = (first(&alone[1]), first(&expected[1]));
    assert_eq!(alone.len(), 4);
    for ((trial, alone), (_, together)) in alone.iter().zip(&together) {
        let off = (alone - together).abs() / alone;
        assert!(off <= 1e-4, "trial {trial}: {alone} alone, {together} together");
    }
}
