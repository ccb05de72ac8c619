//! A sweep with the real trainer, while its trainer, its worker and its coordinator are killed one
//! after the other: it ends as if nothing had happened, to the last bit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test that calls them"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use deptune_tests::{Coordinator, Database, Process, Project, World, quickstart, trainer, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than each part of it may take.
const PATIENCE: Duration = Duration::from_secs(120);

const EVAL_EVERY: i64 = 5;
const STEPS: i64 = 30;

fn project(world: &World) -> Project {
    world
        .project("project")
        .with("seeds = [42]", "seeds = [42, 43]")
        .with("steps = 6", &format!("steps = {STEPS}"))
        .with("eval_every = 3", &format!("eval_every = {EVAL_EVERY}"))
}

fn worker(world: &World, trainer: &Path) -> Process {
    world.worker("node", trainer, &[&quickstart()], &[])
}

/// What a sweep ended with, without times and places.
fn results(database: &mut Database) -> Vec<Vec<Vec<String>>> {
    [
        "select trial_index, outcome, metric_name, metric, metric_state, best_step,
            constant_metric, test_metric, test_metric_state, test_constant, steps,
            trainable_parameters, adapter
         from outcomes order by trial_index",
        "select trial_index, step, split, loss, loss_state, train_loss, rows
         from evaluations order by trial_index, step, split",
        "select trial_index, step, split, source, position, name, value
         from evaluation_metrics order by trial_index, step, split, source, position",
    ]
    .map(|sql| database.rows(sql))
    .into()
}

/// The trainer ends around the renaming of every attempt's third file: the next one goes on from it,
/// or from the one before.
#[test]
fn a_trainer_that_ends_around_a_renaming_changes_nothing() {
    let Some(trainer): Option<PathBuf> = trainer() else { return };
    let expected = undisturbed(&trainer);
    for place in ["before-rename", "after-rename"] {
        let mut world = World::new();
        let coordinator = world.serve();
        world.set_variable("DEPTUNE_CRASH_AT", &format!("{place}:3"));
        let _node = worker(&world, &trainer);
        let project = project(&world).with(
            &format!("eval_every = {EVAL_EVERY}"),
            &format!("eval_every = {EVAL_EVERY}\n\n[limits]\nmax_attempts = 20"),
        );
        world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(0);
        let mut database = coordinator.database();
        let ended = database.number("select count(*) from attempts where ending = 'failed'");
        assert!(ended >= 2, "{place}: {ended} attempts failed");
        database.assert_sound();
        assert_eq!(results(&mut database), expected, "{place}");
    }
}

/// The results of a sweep that nobody disturbed.
fn undisturbed(trainer: &Path) -> Vec<Vec<Vec<String>>> {
    let world = World::new();
    let coordinator = world.serve();
    let _worker = worker(&world, trainer);
    world.run_within(PATIENCE, &["submit", &project(&world).spec(), "--wait"]).code(0);
    let mut database = coordinator.database();
    database.assert_sound();
    results(&mut database)
}

/// Waits until a trial runs whose attempt has made a checkpoint and has steps before it. Its trainer
/// stands still then.
fn until_amid(database: &mut Database, node: &Process) -> Pid {
    let mut amid = || {
        let amid = "select count(*) from trials t
             join attempts a on a.sweep = t.sweep and a.trial_index = t.trial_index
                and a.epoch = t.epoch
             where t.phase = 'leased' and t.checkpoint_step > a.first_step
                and t.checkpoint_step < t.steps";
        database.number(amid) > 0
    };
    until("an attempt is between its first checkpoint and its end", PATIENCE, || {
        if !amid() {
            return None;
        }
        assert!(node.children().len() <= 1, "one slot, one trainer");
        let child = node.freeze_child()?;
        // What it said before may have been its last word.
        if amid() {
            return Some(child);
        }
        kill(child, Signal::SIGCONT).ok()?;
        None
    })
}

#[test]
fn kills_change_nothing_but_the_time_it_takes() {
    let Some(trainer): Option<PathBuf> = trainer() else { return };
    let expected = undisturbed(&trainer);
    assert_eq!(expected[0].len(), 2, "two trials have outcomes");

    let world = World::new();
    let Coordinator { process: mut serve, address, .. } = world.serve();
    let mut node = worker(&world, &trainer);
    let spec = project(&world).spec();
    let sweep = world.run(&["submit", &spec]).code(0).stdout.trim().to_owned();
    let mut database = Database::open(&world.data_dir().join("deptune.db"));

    // The trainer.
    let child = until_amid(&mut database, &node);
    kill(child, Signal::SIGKILL).unwrap();
    until("the trainer's end is recorded", PATIENCE, || {
        let sql = "select count(*) from attempts where ending = 'failed'";
        (database.number(sql) == 1).then_some(())
    });

    // The worker, and with it its trainer.
    let orphan = until_amid(&mut database, &node);
    node.kill();
    let gone = || (!Path::new(&format!("/proc/{orphan}")).exists()).then_some(());
    until("the trainer died with its worker", PATIENCE, gone);
    // Until the new one is known, the trials look as if the old one had them.
    node = worker(&world, &trainer);
    until("the worker is known again", PATIENCE, || {
        (database.number("select count(*) from workers") == 2).then_some(())
    });

    // The coordinator.
    let child = until_amid(&mut database, &node);
    serve.kill();
    kill(child, Signal::SIGCONT).unwrap();
    let coordinator = world.serve_at(&address, &[]);

    let finished = world.run_within(PATIENCE, &["watch", &sweep]);
    finished.code(0);
    let kills = 3;
    let rows = database.rows(&format!(
        "select trial_index, count(*), sum(last_step - first_step) from attempts
         group by trial_index having sum(last_step - first_step) > {STEPS} + {kills} * {EVAL_EVERY}"
    ));
    assert!(rows.is_empty(), "more steps were made than the kills explain: {rows:?}");
    let attempts = database.number("select count(*) from attempts");
    assert!(attempts >= 4, "two kills cost an attempt each, there are only {attempts} attempts");
    database.assert_sound();
    let found = results(&mut database);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    drop((coordinator, node));
}
