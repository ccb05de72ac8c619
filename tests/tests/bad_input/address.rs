//! Coordinators that are not there, are there twice, or are not ours.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use deptune_tests::{PATIENCE, World, fake_trainer};

use super::{assert_untouched, fake_worker, wrong_token};

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_second_coordinator_on_the_same_database_names_the_first() {
    let world = World::new();
    let coordinator = world.serve();
    let pid = coordinator.process.pid().to_string();
    let (address, database) = (&coordinator.address, coordinator.database.display().to_string());
    world.run(&["serve", "--listen", "127.0.0.1:0"]).code(3).says(&[
        &database,
        "is in use by the coordinator with process id",
        &pid,
        address,
        "hint:",
        "--data-dir",
    ]);
    let trainer = fake_trainer().display().to_string();
    let up = ["up", "--trainer", &trainer];
    world.run(&up).code(3).says(&["is in use by the coordinator", &pid, address, "hint:"]);
    // The first one's address file is still the first one's.
    world.run(&["list"]).code(0);
    assert_untouched(&world, coordinator);
}

#[test]
fn a_worker_that_finds_no_coordinator_gives_up_in_time() {
    let world = World::new();
    let (address, token) = (nobody(), wrong_token(&world));
    let start = Instant::now();
    fake_worker(
        &world,
        &["--server", &address, "--token-file", &token, "--register-timeout", "1s"],
    )
    .wait(PATIENCE)
    .code(3)
    .says(&[&address, "hint:"]);
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
}

#[test]
fn commands_without_a_coordinator_say_how_to_get_one() {
    let world = World::new();
    let address = nobody();
    world.run(&["list"]).code(3).says(&["no coordinator is known", "hint:", "deptune serve"]);
    world.run(&["list", "--server", &address]).code(3).says(&["cannot", &address, "hint:"]);
    let project = world.project("project");
    let submit = ["submit", &project.spec(), "--server", &address];
    world.run(&submit).code(3).says(&["cannot", &address, "hint:"]);
}

#[test]
fn a_wrong_token_is_refused_with_the_file_it_came_from() {
    let world = World::new();
    let coordinator = world.serve();
    let project = world.project("project");
    let wrong = wrong_token(&world);
    for command in [vec!["list"], vec!["submit", &project.spec()], vec!["sql", "select 1"]] {
        let args = [command.as_slice(), &["--token-file", &wrong]].concat();
        world.run(&args).code(3).says(&["token", &wrong, "hint:", "--token-file"]);
    }
    let worker = fake_worker(&world, &["--token-file", &wrong, "--register-timeout", "5s"]);
    worker.wait(PATIENCE).code(3).says(&["token", "hint:", "--token-file"]);

    let empty = world.path("empty-token");
    std::fs::write(&empty, "\n").unwrap();
    let empty = empty.display().to_string();
    world.run(&["list", "--token-file", &empty]).code(3).says(&[&empty, "holds no token", "hint:"]);
    let absent = world.path("no-token").display().to_string();
    world.run(&["list", "--token-file", &absent]).code(3).says(&[&absent, "hint:"]);
    assert_untouched(&world, coordinator);
}
