//! Coordinators on a shared Postgres database: the leader is killed, stopped and told to go, the
//! database is restarted, while a sweep runs whose clients and workers know both addresses. What is
//! recorded is the grid, each point once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test that calls them"
)]

use std::time::{Duration, Instant};

use deptune_tests::{
    Coordinator, PASSWORD, Postgres, PostgresDatabase, Process, World, assert_whole, fake_trainer,
    quickstart, until,
};
use nix::sys::signal::Signal;

/// Far longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// Trials of the sweep: enough that all four slots are busy before, during and after a takeover.
const TRIALS: i64 = 200;

struct Scene<'s> {
    database: &'s PostgresDatabase<'s>,
    world: World,
    spec: String,
    /// Both coordinators' addresses, once they are known.
    servers: String,
}

impl<'s> Scene<'s> {
    fn new(database: &'s PostgresDatabase<'s>) -> Scene<'s> {
        let world = World::new().with_variable("DATABASE_URL", &database.url);
        let seeds: Vec<i64> = (1..=TRIALS).collect();
        let project = world.project("project").with("seeds = [42]", &format!("seeds = {seeds:?}"));
        let spec = project.spec();
        Scene { database, world, spec, servers: String::new() }
    }

    fn two(&mut self) -> (Coordinator, Coordinator) {
        let leader = self.world.serve();
        let standby = self.world.serve();
        self.servers = format!("{},{}", leader.address, standby.address);
        (leader, standby)
    }

    fn workers(&self) -> Vec<Process> {
        let args = ["--slots", "2", "--server", &self.servers];
        let worker = |name: &&str| {
            self.world.worker_with("step_ms=20", name, &fake_trainer(), &[&quickstart()], &args)
        };
        ["one", "two"].iter().map(worker).collect()
    }

    fn submit(&self) -> Process {
        let args = ["submit", &self.spec, "--wait", "--server", &self.servers];
        self.world.start("submit", &args)
    }

    fn number(&self, sql: &str) -> i64 {
        self.database.psql(sql).parse().unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn attempts(&self) -> i64 {
        self.number("select count(*) from attempts")
    }

    fn until_outcomes(&self, count: i64) {
        until(&format!("{count} trials have outcomes"), PATIENCE, || {
            (self.number("select count(*) from outcomes") >= count).then_some(())
        });
    }

    /// Waits until a lease is granted after the old leader's end, and says how long that took.
    fn until_granted(&self, what: &str, since: Instant, attempts: i64) {
        until("another coordinator grants a lease", PATIENCE, || {
            (self.attempts() > attempts).then_some(())
        });
        eprintln!("{what}: a lease from the other coordinator after {:?}", since.elapsed());
    }

    fn assert_whole(&self) {
        assert_whole(|sql| self.number(sql), TRIALS);
    }
}

#[test]
fn a_killed_leader_is_replaced_and_nothing_is_lost() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let mut scene = Scene::new(&database);
    let (mut leader, standby) = scene.two();
    // Who asks only the one that stands by hears where the leader is.
    let said = scene.world.run(&["list", "--server", &standby.address]).code(3);
    said.says(&[&format!("the one at {} leads", leader.address), "--server"]);

    let _workers = scene.workers();
    let waiting = scene.submit();
    scene.until_outcomes(20);
    leader.process.kill();
    let (killed, attempts) = (Instant::now(), scene.attempts());
    // A client that comes in between sees no more than a delay.
    scene.world.run(&["list", "--server", &scene.servers]).code(0);
    scene.until_granted("kill -9", killed, attempts);
    waiting.wait(PATIENCE).code(0);
    scene.assert_whole();
    assert!(scene.number("select generation from coordinator") >= 2, "the lead has changed");
    assert!(!leader.process.stderr().contains(PASSWORD));
    assert!(!standby.process.stderr().contains(PASSWORD));
}

#[test]
fn a_stopped_leader_is_replaced_and_cannot_commit_when_it_wakes() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let mut scene = Scene::new(&database);
    let (mut leader, _standby) = scene.two();
    let _workers = scene.workers();
    let waiting = scene.submit();
    scene.until_outcomes(20);
    leader.process.signal(Signal::SIGSTOP);
    let (stopped, attempts) = (Instant::now(), scene.attempts());
    scene.until_granted("SIGSTOP", stopped, attempts);
    // What waits for it when it wakes: somebody who knows no other coordinator pauses the sweep.
    let pausing = scene.world.start("pause", &["pause", "1", "--server", &leader.address]);
    std::thread::sleep(Duration::from_secs(1));
    leader.process.signal(Signal::SIGCONT);
    leader.process.wait_for("standing by");
    // How it is kept from committing depends on when it was stopped: between two commits its
    // generation is refused, amid one its transaction was ended for it, and it may find its lease
    // over before it tries.
    let said = leader.process.stderr();
    let ways = [
        "taken over the store (generation",
        "terminating connection due to idle-in-transaction timeout",
        "could not be renewed in time",
    ];
    assert!(ways.iter().any(|way| said.contains(way)), "{said}");
    let refused = pausing.wait(PATIENCE);
    assert_ne!(refused.code, Some(0), "paused by one that does not lead: {}", refused.stderr);
    // Had it been paused, this would never end.
    waiting.wait(PATIENCE).code(0);
    scene.assert_whole();
    assert!(scene.number("select generation from coordinator") >= 2, "the lead has changed");
}

#[test]
fn a_leader_that_is_told_to_go_hands_over_at_once() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let mut scene = Scene::new(&database);
    let (leader, _standby) = scene.two();
    let _workers = scene.workers();
    let waiting = scene.submit();
    scene.until_outcomes(20);
    let told = Instant::now();
    leader.process.signal(Signal::SIGTERM);
    leader.process.wait(PATIENCE).code(0);
    scene.until_granted("SIGTERM", told, scene.attempts());
    waiting.wait(PATIENCE).code(0);
    scene.assert_whole();
}

#[test]
fn a_leader_that_is_told_to_go_resigns() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let scene = Scene::new(&database);
    let leader = scene.world.serve();
    assert_eq!(database.psql("select leads_until > clock_timestamp() from lease"), "t");
    leader.process.signal(Signal::SIGTERM);
    leader.process.wait(PATIENCE).code(0);
    // Not a lease that has run out meanwhile: one that was given up.
    assert_eq!(database.psql("select leads_until is null from lease"), "t");
}

/// Longer than all that a coordinator waits for at its end, by what a busy machine adds.
const END: Duration = Duration::from_secs(20);

#[test]
fn a_leader_ends_when_it_is_told_to_although_the_database_hangs() {
    let Some(server) = Postgres::start(&[]) else { return };
    let database = server.database();
    let mut scene = Scene::new(&database);
    let leader = scene.world.serve();
    scene.servers.clone_from(&leader.address);
    let _workers = scene.workers();
    let _waiting = scene.submit();
    scene.until_outcomes(10);
    // At once, so that it is amid its work; and once it has noticed.
    let frozen = server.freeze();
    leader.process.signal(Signal::SIGTERM);
    leader.process.wait(END).code(0);
    drop(frozen);

    let mut leader = scene.world.serve_at(&scene.servers, &[]);
    scene.until_outcomes(20);
    let frozen = server.freeze();
    leader.process.wait_for("could not be renewed in time");
    leader.process.signal(Signal::SIGTERM);
    leader.process.wait(END).code(0);

    // One that has not even begun.
    let starting = scene.world.start("serve", &["serve", "--listen", "127.0.0.1:0"]);
    std::thread::sleep(Duration::from_secs(1));
    starting.signal(Signal::SIGTERM);
    starting.wait(END).code(0);
    drop(frozen);
}

#[test]
fn a_leader_ends_when_it_is_told_to_although_the_database_is_gone() {
    let Some(server) = Postgres::start(&[]) else { return };
    let database = server.database();
    let mut scene = Scene::new(&database);
    let mut leader = scene.world.serve();
    scene.servers.clone_from(&leader.address);
    let _workers = scene.workers();
    let _waiting = scene.submit();
    scene.until_outcomes(10);
    server.crash();
    leader.process.wait_for("cannot load the store");
    leader.process.signal(Signal::SIGTERM);
    leader.process.wait(END).code(0);
    server.restart();
}

#[test]
fn a_database_that_restarts_costs_no_acknowledged_result() {
    let Some(server) = Postgres::start(&[]) else { return };
    let database = server.database();
    let mut scene = Scene::new(&database);
    let coordinator = scene.world.serve();
    scene.servers.clone_from(&coordinator.address);
    let _workers = scene.workers();
    let waiting = scene.submit();
    scene.until_outcomes(20);
    server.crash_and_restart();
    scene.until_outcomes(60);
    for _ in 0..5 {
        server.terminate(&database);
        scene.until_outcomes(scene.number("select count(*) from outcomes").min(TRIALS - 5) + 5);
    }
    waiting.wait(PATIENCE).code(0);
    scene.assert_whole();
}
