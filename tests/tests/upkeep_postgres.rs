//! `deptune backup` and `deptune doctor` where the results are in Postgres: neither looks at a file
//! that an earlier coordinator left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use deptune_tests::{PASSWORD, Postgres, World, fake_trainer, quickstart};
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn results_in_postgres_are_not_taken_for_a_file() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let mut world = World::new();
    // A file that is well, and empty, from before.
    let earlier = world.serve();
    earlier.process.signal(Signal::SIGTERM);
    earlier.process.wait(PATIENCE).code(0);
    std::fs::remove_file(world.data_dir().join("database")).unwrap();
    assert!(world.data_dir().join("deptune.db").is_file());

    world.set_variable("DATABASE_URL", &database.url);
    let project = world.project("project");
    let coordinator = world.serve();
    let worker = world.worker("node", &fake_trainer(), &[&quickstart()], &[]);
    world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(0);
    drop(worker);

    let shown = database.url.replace(&format!(":{PASSWORD}"), "");
    let to = world.path("backup").display().to_string();
    let said = world.run(&["backup", &to]).code(2);
    said.says(&[&shown, "pg_dump", "artifacts"]);
    assert!(!world.path("backup").join("backup.json").exists());
    let well = world.run(&["doctor", "--deep"]).code(0);
    let answers = format!("{shown} answers");
    for text in [&answers, &format!("the coordinator at {} leads", coordinator.address)] {
        assert!(well.stdout.contains(text.as_str()), "no '{text}' in\n{}", well.stdout);
    }

    // Without the variable, the data directory says where its results are.
    world.set_variable("DATABASE_URL", "");
    world.set_variable("PGPASSWORD", PASSWORD);
    world.run(&["backup", &to]).code(2).says(&[&shown]);
    assert!(world.run(&["doctor"]).code(0).stdout.contains(&answers));

    coordinator.process.signal(Signal::SIGTERM);
    coordinator.process.wait(PATIENCE).code(0);
    let found = world.run(&["doctor"]).code(0);
    assert!(found.stdout.contains("no coordinator leads"), "{}", found.stdout);
    for shard in std::fs::read_dir(world.data_dir().join("artifacts")).unwrap() {
        let shard = shard.unwrap();
        if shard.file_name() != "incoming" {
            std::fs::remove_dir_all(shard.path()).unwrap();
        }
    }
    let found = world.run(&["doctor"]).code(1);
    assert!(found.stdout.contains("which is not there"), "{}", found.stdout);
    // A database that is not there is not well.
    world.set_variable("PGPASSWORD", "wrong");
    let found = world.run(&["doctor"]).code(1);
    assert!(found.stdout.contains("cannot connect to the database"), "{}", found.stdout);
    // A file that is named is looked at.
    let file = world.data_dir().join("deptune.db").display().to_string();
    world.run(&["backup", &to, "--database", &file]).code(0);
}
