//! Bad input on the real programs: each kind ends in an error that names the file, the line or the
//! field and the next step, with the right exit code, without a panic or a hang, and leaves the
//! database whole.
//!
//! That no program panicked is checked by the harness whenever one ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod address;
mod files;
mod moving;
mod run;
mod spec;

use std::path::PathBuf;

use deptune_tests::{Coordinator, Process, Project, World, fake_trainer};

/// A file with a well-formed token that is nobody's.
fn wrong_token(world: &World) -> String {
    let file = world.path("wrong-token");
    std::fs::write(&file, "0".repeat(64)).unwrap();
    file.display().to_string()
}

/// A worker with the child that only pretends to train.
fn fake_worker(world: &World, args: &[&str]) -> Process {
    world.worker("fake", &fake_trainer(), &[&deptune_tests::quickstart()], args)
}

/// Fails the test unless both `check` and `submit` refuse the project with exit code 2 and these
/// words; `extra` are arguments for `submit`.
#[track_caller]
fn refused(world: &World, project: &Project, extra: &[&str], says: &[&str]) {
    let spec = project.spec();
    world.run(&["check", &spec]).code(2).says(says);
    let submit = [&["submit", &spec], extra].concat();
    world.run(&submit).code(2).says(says);
}

/// Fails the test unless the coordinator still answers and knows of no sweep, its database is
/// whole, and no file was kept.
#[track_caller]
fn assert_untouched(world: &World, mut coordinator: Coordinator) {
    assert!(coordinator.process.is_running());
    let listed = world.run(&["list", "--json"]).code(0);
    assert_eq!(listed.stdout.trim(), "", "{listed}");
    let mut database = coordinator.database();
    for table in ["sweeps", "sweep_files", "trials", "outcomes", "log"] {
        assert_eq!(database.number(&format!("select count(*) from {table}")), 0, "{table}");
    }
    database.assert_sound();
    assert_eq!(stored_files(world), Vec::<PathBuf>::new());
}

/// The files that the coordinator holds, unfinished ones too.
fn stored_files(world: &World) -> Vec<PathBuf> {
    let mut waiting = vec![world.data_dir().join("artifacts")];
    let mut files = Vec::new();
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let list = if entry.file_type().unwrap().is_dir() { &mut waiting } else { &mut files };
            list.push(entry.path());
        }
    }
    files
}
