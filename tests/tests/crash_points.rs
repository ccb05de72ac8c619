//! Every process is killed at every place where it could matter, on SQLite and on Postgres, and
//! started again: the sweep ends with every trial's one right result.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test that calls them"
)]

use std::time::Duration;

use deptune_sweep::crash::Point;
use deptune_tests::{
    Coordinator, Process, Project, Store, World, assert_whole, expected_metrics, fake_trainer,
    quickstart, until,
};
use nix::sys::signal::Signal;

/// Far longer than one of it takes.
const PATIENCE: Duration = Duration::from_secs(120);

const TRIALS: i64 = 10;

fn project(world: &World) -> Project {
    let seeds: Vec<i64> = (1..=TRIALS).collect();
    world.project("project").with("seeds = [42]", &format!("seeds = {seeds:?}"))
}

/// A worker whose children take a little time.
fn worker(world: &World, orders: &str) -> Process {
    let orders = format!("step_ms=5 {orders}");
    world.worker_with(&orders, "node", &fake_trainer(), &[&quickstart()], &["--slots", "2"])
}

/// Waits until the process has killed itself at this place; any other end fails the test.
fn until_killed(point: &str, process: &mut Process) {
    until(&format!("{point} is reached"), PATIENCE, || (!process.is_running()).then_some(()));
    let said = process.stderr();
    assert_eq!(process.ended_by(), Some(Signal::SIGKILL), "{point}: it ended otherwise\n{said}");
    assert!(said.contains(&format!("killed at {point}")), "{point}: killed elsewhere\n{said}");
}

/// How often a place is passed before the kill: amid the sweep.
fn count(store: &Store, point: Point) -> u32 {
    match point {
        // Most commits to Postgres are one statement.
        Point::BeforeWrite | Point::AfterWrite => match store {
            Store::Sqlite => 60,
            Store::Postgres(_) => 24,
        },
        Point::BeforeOutbox | Point::AfterOutbox | Point::BeforeReport | Point::AfterReport => 4,
        // Turns that only look at the time count, too.
        Point::BeforeReply | Point::AfterReply => 24,
        _ => 12,
    }
}

fn is_of_worker(point: Point) -> bool {
    matches!(
        point,
        Point::BeforeOutbox | Point::AfterOutbox | Point::BeforeReport | Point::AfterReport
    )
}

fn is_of_trainer(point: Point) -> bool {
    matches!(point, Point::BeforeRename | Point::AfterRename)
}

/// One sweep with one kill.
fn killed_at(store: &Store, point: Point) {
    let name = point.as_str();
    let mut world = store.world();
    let project = project(&world);
    let armed = format!("{name}:{}", count(store, point));
    let arm = |world: &mut World, here: bool| {
        world.set_variable("DEPTUNE_CRASH_AT", if here { &armed } else { "" });
    };
    arm(&mut world, !is_of_worker(point));
    let Coordinator { process: mut serve, address, .. } = world.serve();
    arm(&mut world, is_of_worker(point));
    let mut node = worker(&world, "");
    arm(&mut world, false);
    let waiting = world.start("submit", &["submit", &project.spec(), "--wait"]);
    let killed = if is_of_worker(point) { &mut node } else { &mut serve };
    until_killed(name, killed);
    let _again = if is_of_worker(point) {
        worker(&world, "")
    } else {
        world.serve_at(&address, &[]).process
    };
    waiting.wait(PATIENCE).code(0);
    check(store, &world, &project);
}

/// One sweep whose child dies around the renaming of a checkpoint.
fn child_killed(store: &Store, when: &str) {
    let world = store.world();
    let project = project(&world);
    let _coordinator = world.serve();
    let once = world.path("once");
    let orders = format!("rename={when} at=3 index=4 once={}", once.display());
    let _node = worker(&world, &orders);
    world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(0);
    assert!(once.exists(), "the child died");
    check(store, &world, &project);
}

fn check(store: &Store, world: &World, project: &Project) {
    assert_whole(|sql| store.number(world, sql), TRIALS);
    assert_eq!(store.metrics(world, 1), expected_metrics(project, TRIALS));
}

fn every_place(new: impl Fn() -> Store) {
    for point in Point::ALL.iter().filter(|point| !is_of_trainer(**point)) {
        eprintln!("{}", point.as_str());
        killed_at(&new(), *point);
    }
    for when in ["before", "after"] {
        eprintln!("{when} the renaming of a checkpoint");
        child_killed(&new(), when);
    }
}

#[test]
fn on_sqlite() {
    every_place(|| Store::Sqlite);
}

#[test]
fn on_postgres() {
    if Store::postgres().is_some() {
        every_place(|| Store::postgres().expect("it was there"));
    }
}
