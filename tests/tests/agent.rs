//! The worker as a process: told to go, killed, stopped, cut off, and what the next one inherits.
//! Its children only pretend to train, and write down every step that they make.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: what goes wrong here ends the test that asked for it"
)]

use std::fs;
use std::path::{Path, PathBuf};

use deptune_tests::{
    Coordinator, PATIENCE, Process, Project, World, fake_trainer, quickstart, until,
};
use nix::sys::signal::Signal;

const STEPS: usize = 100;
const EVAL_EVERY: usize = 3;
/// Steps of 30 ms: three seconds of training.
const SLOW: &str = "step_ms=30";

struct Scene {
    world: World,
    journal: PathBuf,
    spec: String,
}

impl Scene {
    fn new() -> Scene {
        let world = World::new();
        let project: Project = world.project("project").with("steps = 6", "steps = 100");
        let journal = world.path("journal");
        let spec = project.spec();
        Scene { world, journal, spec }
    }

    fn worker(&self, orders: &str, args: &[&str]) -> Process {
        self.named("node", orders, args)
    }

    fn named(&self, name: &str, orders: &str, args: &[&str]) -> Process {
        let orders = format!("{orders} journal={}", self.journal.display());
        self.world.worker_with(&orders, name, &fake_trainer(), &[&quickstart()], args)
    }

    fn submit(&self) -> String {
        self.world.run(&["submit", &self.spec]).code(0).stdout.trim().to_owned()
    }

    /// Steps made so far, over all attempts.
    fn steps(&self) -> usize {
        fs::read_to_string(&self.journal).unwrap_or_default().lines().count()
    }

    fn until_steps(&self, count: usize) {
        let made = || (self.steps() >= count).then_some(());
        until(&format!("{count} steps are made"), PATIENCE, made);
    }

    fn until_expired(&self, coordinator: &Coordinator) {
        until_one(coordinator, "the lease has expired", "from trials where phase = 'pending'");
    }

    fn watch(&self, sweep: &str) {
        self.world.run_within(PATIENCE, &["watch", sweep]).code(0);
    }

    fn outbox(&self) -> Vec<String> {
        let entries = fs::read_dir(self.world.path("state-node/outbox")).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// How the attempts of the only trial ended.
    fn endings(&self, coordinator: &Coordinator) -> Vec<String> {
        let mut database = coordinator.database();
        database.assert_sound();
        let sql = "select ending from attempts order by epoch";
        database.rows(sql).into_iter().map(|mut row| row.remove(0)).collect()
    }

    /// Has the worker, which woke up after the other one was given its trial, run another one alone.
    /// Until then it has said all that it had to say of the first, and nothing of that counts.
    fn assert_superseded(&self, coordinator: &Coordinator, mut worker: Process, other: Process) {
        assert_eq!(self.endings(coordinator), ["expired", "succeeded"]);
        other.signal(Signal::SIGTERM);
        other.wait(PATIENCE).code(0);
        self.watch(&self.submit());
        assert!(worker.is_running());
        until("the outbox is empty", PATIENCE, || self.outbox().is_empty().then_some(()));
        let mut database = coordinator.database();
        database.assert_sound();
        let attempts = "select sweep, epoch, name, ending from attempts
                        join workers on workers.id = attempts.worker order by sweep, epoch";
        assert_eq!(
            database.rows(attempts),
            [
                ["1", "1", "node", "expired"],
                ["1", "2", "other", "succeeded"],
                ["2", "1", "node", "succeeded"],
            ]
        );
        let outcomes = "select sweep, epoch, name, outcome from outcomes
                        join workers on workers.id = outcomes.worker order by sweep";
        assert_eq!(
            database.rows(outcomes),
            [["1", "2", "other", "succeeded"], ["2", "1", "node", "succeeded"]]
        );
        let late = "select count(*) from evaluations e
                    join attempts a on a.sweep = e.sweep and a.trial_index = e.trial_index
                    where e.sweep = 1 and e.epoch = 1 and a.epoch = 2 and e.step > a.first_step";
        assert_eq!(database.number(late), 0, "late evaluations are recorded");
    }
}

/// Waits until there is one row of that kind.
fn until_one(coordinator: &Coordinator, what: &str, rows: &str) {
    let mut database = coordinator.database();
    let sql = format!("select count(*) {rows}");
    until(what, PATIENCE, || (database.number(&sql) == 1).then_some(()));
}

#[test]
fn told_to_go_it_hands_its_trial_back_and_no_step_is_lost() {
    let scene = Scene::new();
    let coordinator = scene.world.serve();
    let worker = scene.worker(SLOW, &[]);
    let sweep = scene.submit();
    scene.until_steps(10);
    worker.signal(Signal::SIGTERM);
    worker.wait(PATIENCE).code(0);
    assert_eq!(scene.endings(&coordinator), ["released"]);
    assert!(scene.steps() < STEPS);
    let _worker = scene.worker("", &[]);
    scene.watch(&sweep);
    assert_eq!(scene.endings(&coordinator), ["released", "succeeded"]);
    assert_eq!(scene.steps(), STEPS);
}

#[test]
fn before_its_walltime_ends_it_goes_by_itself() {
    let scene = Scene::new();
    let coordinator = scene.world.serve();
    let _sweep = scene.submit();
    let times = ["--walltime", "5s", "--walltime-margin", "3s"];
    scene.worker("step_ms=200", &times).wait(PATIENCE).code(0);
    assert_eq!(scene.endings(&coordinator), ["released"]);
}

#[test]
fn a_result_made_while_the_coordinator_was_away_survives_the_worker() {
    let scene = Scene::new();
    let Coordinator { process: mut serve, address, .. } = scene.world.serve();
    let mut worker = scene.worker(SLOW, &[]);
    let sweep = scene.submit();
    scene.until_steps(10);
    serve.kill();
    until("the report is in the outbox", PATIENCE, || {
        scene.outbox().iter().any(|name| name.starts_with("report-")).then_some(())
    });
    worker.kill();

    let coordinator = scene.world.serve_at(&address, &[]);
    let _worker = scene.worker("", &[]);
    scene.watch(&sweep);
    assert_eq!(scene.endings(&coordinator), ["succeeded"]);
    assert_eq!(scene.steps(), STEPS);
    until("the outbox is empty", PATIENCE, || scene.outbox().is_empty().then_some(()));
    let set_aside = fs::read_dir(scene.world.path("state-node/set-aside")).unwrap().count();
    assert_eq!(set_aside, 0);
}

#[test]
fn a_checkpoint_made_while_the_coordinator_was_away_survives_the_worker() {
    let scene = Scene::new();
    let Coordinator { process: mut serve, address, .. } = scene.world.serve();
    let mut worker = scene.worker(SLOW, &[]);
    let sweep = scene.submit();
    scene.until_steps(10);
    serve.kill();
    scene.until_steps(50);
    worker.freeze_child().expect("a trainer");
    worker.kill();

    let coordinator = scene.world.serve_at(&address, &[]);
    let _worker = scene.worker("", &[]);
    scene.watch(&sweep);
    assert_eq!(scene.endings(&coordinator), ["failed", "succeeded"]);
    let steps = scene.steps();
    // A step more: the one under way when the worker died.
    assert!(steps <= STEPS + EVAL_EVERY + 1, "{steps} steps");
}

#[test]
fn a_hanging_trial_is_ended_and_goes_on_from_its_checkpoint() {
    let scene = Scene::new();
    let coordinator = scene.world.serve();
    let once = scene.world.path("once");
    let orders = format!("fault=hang at=50 once={}", once.display());
    let _worker = scene.worker(&orders, &["--hang-timeout", "2s"]);
    let sweep = scene.submit();
    scene.watch(&sweep);
    assert_eq!(scene.endings(&coordinator), ["failed", "succeeded"]);
    let class = "select failure_class from attempts order by epoch limit 1";
    assert_eq!(coordinator.database().rows(class), [["timeout"]]);
    assert!(scene.steps() <= STEPS + EVAL_EVERY);
}

#[test]
fn a_crash_costs_one_attempt_and_its_words_reach_the_log() {
    let scene = Scene::new();
    let coordinator = scene.world.serve();
    let once = scene.world.path("once");
    let orders = format!("fault=exit3 at=50 once={}", once.display());
    let mut worker = scene.worker(&orders, &[]);
    let sweep = scene.submit();
    scene.watch(&sweep);
    assert_eq!(scene.endings(&coordinator), ["failed", "succeeded"]);
    let why = "select failure_class, message from attempts order by epoch limit 1";
    let why = coordinator.database().rows(why).remove(0);
    assert_eq!(why[0], "crashed");
    assert!(why[1].contains("code 3") && why[1].contains("the disk is on fire"), "{}", why[1]);
    assert!(scene.steps() <= STEPS + EVAL_EVERY);
    let trial = format!("{sweep}.0");
    until("the log has arrived", PATIENCE, || {
        let log = scene.world.run(&["logs", &trial]);
        log.stdout.contains("the disk is on fire").then_some(())
    });
    assert!(worker.is_running());
}

#[test]
fn stopped_for_longer_than_its_lease_it_is_still_right() {
    let scene = Scene::new();
    let coordinator = scene.world.serve_at("127.0.0.1:0", &["--lease-ttl", "2s"]);
    let worker = scene.worker("step_ms=60", &[]);
    let sweep = scene.submit();
    scene.until_steps(10);
    worker.signal(Signal::SIGSTOP);
    scene.until_expired(&coordinator);
    worker.signal(Signal::SIGCONT);
    scene.watch(&sweep);
    assert_eq!(scene.steps(), STEPS);
    assert_eq!(scene.endings(&coordinator), ["succeeded"]);
}

#[test]
fn stopped_while_another_one_gets_its_trial_it_ends_its_child() {
    let scene = Scene::new();
    let coordinator = scene.world.serve_at("127.0.0.1:0", &["--lease-ttl", "2s"]);
    // The child goes on without the worker, but never comes to the end of this trial.
    let once = scene.world.path("once");
    let orders = format!("{SLOW} fault=hang at=50 once={}", once.display());
    let worker = scene.worker(&orders, &[]);
    let sweep = scene.submit();
    scene.until_steps(10);
    worker.signal(Signal::SIGSTOP);
    scene.until_steps(49);
    scene.until_expired(&coordinator);
    let other = scene.named("other", SLOW, &[]);
    let given = "from attempts join workers on workers.id = attempts.worker
                 where epoch = 2 and name = 'other'";
    until_one(&coordinator, "the other one has the trial", given);
    assert_eq!(worker.children().len(), 1);
    worker.signal(Signal::SIGCONT);
    until("the child is gone", PATIENCE, || worker.children().is_empty().then_some(()));
    scene.watch(&sweep);
    scene.assert_superseded(&coordinator, worker, other);
}

#[test]
fn what_its_child_finished_after_another_one_got_the_trial_comes_too_late() {
    let scene = Scene::new();
    let coordinator = scene.world.serve_at("127.0.0.1:0", &["--lease-ttl", "2s"]);
    let worker = scene.worker(SLOW, &[]);
    let sweep = scene.submit();
    scene.until_steps(10);
    worker.signal(Signal::SIGSTOP);
    scene.until_steps(STEPS);
    scene.until_expired(&coordinator);
    let other = scene.named("other", "", &[]);
    scene.watch(&sweep);
    worker.signal(Signal::SIGCONT);
    scene.assert_superseded(&coordinator, worker, other);
}

#[test]
fn a_cancelled_sweep_stops_its_children() {
    let scene = Scene::new();
    let coordinator = scene.world.serve_at("127.0.0.1:0", &["--lease-ttl", "3s"]);
    let mut worker = scene.worker("step_ms=200", &[]);
    let sweep = scene.submit();
    scene.until_steps(3);
    scene.world.run(&["cancel", &sweep]).code(0);
    until("the child is gone", PATIENCE, || worker.children().is_empty().then_some(()));
    assert!(worker.is_running());
    let outcome = "select outcome from outcomes";
    assert_eq!(coordinator.database().rows(outcome), [["cancelled"]]);
    until("the outbox is empty", PATIENCE, || scene.outbox().is_empty().then_some(()));
}

#[test]
fn two_workers_do_not_share_a_state_directory() {
    let scene = Scene::new();
    let _coordinator = scene.world.serve();
    let mut first = scene.worker("", &[]);
    let lock = scene.world.path("state-node/lock");
    let held = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.contains("process"));
    until("the first holds it", PATIENCE, || held(&lock).then_some(()));
    let pid = first.pid().to_string();
    scene.worker("", &[]).wait(PATIENCE).says(&["is used by another worker", &pid]);
    assert!(first.is_running());
}

#[test]
fn an_idle_worker_that_is_cut_off_ends() {
    let scene = Scene::new();
    let mut coordinator = scene.world.serve();
    let mut worker = scene.worker("", &["--idle-timeout", "2s"]);
    worker.wait_for("the worker starts");
    until_one(&coordinator, "it is registered", "from workers");
    coordinator.process.kill();
    worker.wait(PATIENCE).code(0);
}
