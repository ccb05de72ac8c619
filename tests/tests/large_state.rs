//! Checkpoints too large for the coordinator: a trial moves to another worker all the same when
//! the workers share a directory, and starts anew when they do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use deptune_tests::{World, fake_trainer, quickstart, until};

const PATIENCE: Duration = Duration::from_secs(180);

/// Steps of the second attempt's start, after the first worker was killed amid the trial.
fn first_step_after_a_kill(sharing: bool) -> i64 {
    let world = World::new();
    let project = world
        .project("project")
        .with("steps = 6", "steps = 60")
        .with("eval_every = 3", "eval_every = 10\nsave_predictions = true");
    let coordinator = world.serve_at("127.0.0.1:0", &["--lease-ttl", "5s"]);
    let shared = world.path("shared").display().to_string();
    let args: &[&str] = if sharing { &["--artifact-dir", &shared] } else { &[] };
    let orders = format!("step_ms=100 pad={}", 17 << 20);
    let (roots, trainer) = (quickstart(), fake_trainer());
    let worker = |name| world.worker_with(&orders, name, &trainer, &[&roots], args);
    let mut first = worker("one");
    let waiting = world.start("submit", &["submit", &project.spec(), "--wait"]);
    let mut database = coordinator.database();
    until("a checkpoint is recorded", PATIENCE, || {
        let step = database.number("select coalesce(max(checkpoint_step), 0) from trials");
        (step >= 20).then_some(())
    });
    first.kill();
    let second = worker("two");
    waiting.wait(PATIENCE).code(0);
    let rows = database.rows("select first_step from attempts order by epoch");
    assert_eq!(rows.len(), 2, "{rows:?}");
    // The second worker removes its own; what the first one left may stay.
    until("at most two checkpoints are left", PATIENCE, || {
        (kept(&world.path("shared")) <= 2).then_some(())
    });
    if !sharing {
        assert!(second.stderr().contains("the trial starts anew"), "{}", second.stderr());
    }
    let said = world.run(&["predictions", "1.0"]).code(0);
    assert_eq!(said.stdout, "{\"row\":0,\"answer\":\"positive\"}\n");
    let shown = world.run(&["show", "1.0"]).code(0);
    assert!(shown.stdout.contains("negative"), "{shown}");
    let made = database.number("select steps from outcomes");
    assert_eq!(made, 60);
    if sharing {
        let journal = second.stderr();
        assert!(!journal.contains("the trial starts anew"), "{journal}");
    }
    rows[1][0].parse().unwrap()
}

/// Whole checkpoints in the shared directory.
fn kept(shared: &Path) -> usize {
    let Ok(trials) = std::fs::read_dir(shared) else { return 0 };
    let files = trials.flat_map(|trial| std::fs::read_dir(trial.unwrap().path()).unwrap());
    let partial = |name: &OsStr| name.to_string_lossy().starts_with("partial-");
    files.filter(|file| !partial(&file.as_ref().unwrap().file_name())).count()
}

#[test]
fn workers_that_share_a_directory_go_on() {
    assert!(first_step_after_a_kill(true) >= 20);
}

#[test]
fn another_worker_starts_anew_without_one() {
    // The lease names the checkpoint; the worker finds that it is elsewhere.
    first_step_after_a_kill(false);
}
