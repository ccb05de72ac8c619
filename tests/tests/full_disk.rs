//! A worker's disk is full for a while, then the coordinator's, while a sweep runs: what was
//! acknowledged stays, and with room again every trial ends with its one right result.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test that calls them"
)]

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use deptune_tests::{
    Coordinator, PATIENCE, Process, Store, World, assert_whole, expected_metrics, fake_trainer,
    quickstart, until,
};

const TRIALS: i64 = 240;

/// More than the coordinator keeps free for its database.
const DISK_MB: u32 = 320;

/// Runs [`on_full_disks`] with two file systems of its own.
#[test]
fn a_disk_that_is_full_for_a_while_costs_no_result() {
    let directory = tempfile::tempdir().unwrap();
    for part in ["coordinator", "worker"] {
        fs::create_dir(directory.path().join(part)).unwrap();
    }
    let script = format!(
        "for part in coordinator worker; do
             mount -t tmpfs -o size={DISK_MB}m none \"$0/$part\" || exit 99
         done
         exec \"$1\" --ignored --exact on_full_disks --nocapture"
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .env("DEPTUNE_TEST_SMALL_DISKS", directory.path())
        .output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
            let said = String::from_utf8_lossy(&output.stderr);
            eprintln!("{said}");
            assert!(output.status.success(), "{output:?}");
        }
        other => eprintln!("SKIPPED: no file system can be mounted for this test: {other:?}"),
    }
}

/// Takes all the room that is left, until it is dropped.
struct Filler(PathBuf);

impl Filler {
    fn fill(disk: &Path) -> Filler {
        let path = disk.join("filler");
        let mut file = File::create(&path).unwrap();
        // In small pieces at the end, so that nothing is left.
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        Filler(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

#[test]
#[ignore = "needs small file systems of its own; run by \
            a_disk_that_is_full_for_a_while_costs_no_result"]
fn on_full_disks() {
    let Some(disks) = std::env::var_os("DEPTUNE_TEST_SMALL_DISKS").map(PathBuf::from) else {
        return;
    };
    let (small, other) = (disks.join("coordinator"), disks.join("worker"));
    let world = World::new();
    symlink(&small, world.data_dir()).unwrap();
    symlink(&other, world.path("state-node0")).unwrap();
    let coordinator = world.serve();
    let worker = |name| {
        let (trainer, quickstart) = (fake_trainer(), quickstart());
        world.worker_with("step_ms=20", name, &trainer, &[&quickstart], &["--slots", "2"])
    };
    let workers = [worker("node0"), worker("node1")];
    let seeds: Vec<i64> = (1..=TRIALS).collect();
    let project = world.project("project").with("seeds = [42]", &format!("seeds = {seeds:?}"));
    let expected = expected_metrics(&project, TRIALS);
    let waiting = world.start("submit", &["submit", &project.spec(), "--wait"]);
    let at_least = |count| wait_for_outcomes(&coordinator, count);

    at_least(20);
    let full = Filler::fill(&other);
    wait_for(&workers[0], "the disk is full: no trial is taken");
    std::thread::sleep(Duration::from_secs(1));
    let given = attempts(&coordinator);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(attempts(&coordinator), given, "node0 asks for trials on a full disk");
    drop(full);
    // What its two slots trained, and what was on its way to them: nothing is tried on it again.
    let failed = coordinator.database().number(
        "select count(*) from attempts join workers on workers.id = attempts.worker
         where workers.name = 'node0' and attempts.ending = 'failed'",
    );
    assert!(failed <= 4, "{failed} attempts failed on a full disk");

    // Last, since workers then wait 10 s before they try their uploads again.
    empty_log(&world);
    let full = Filler::fill(&small);
    let change = world.start("change", &["change", "1", "--priority", "1"]);
    change
        .wait(PATIENCE)
        .code(3)
        .says(&["database is full", "make room on the coordinator's disk"]);
    wait_for(&coordinator.process, "the disk is full");
    std::thread::sleep(Duration::from_secs(4));
    let before = outcomes(&coordinator);
    drop(full);
    at_least(before + 20);

    waiting.wait(Duration::from_secs(180)).code(0);
    assert_eq!(Store::Sqlite.metrics(&world, 1), expected);
    assert_whole(|sql| Store::Sqlite.number(&world, sql), TRIALS);
}

/// Cuts the write-ahead log back to nothing, so that it needs room for the next commit. Otherwise
/// commits may go where its checkpointed pages are.
fn empty_log(world: &World) {
    let options = SqliteConnectOptions::new()
        .filename(world.data_dir().join("deptune.db"))
        .busy_timeout(PATIENCE);
    let busy: i64 = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let mut database = SqliteConnection::connect_with(&options).await?;
            sqlx::query_scalar("pragma wal_checkpoint(truncate)").fetch_one(&mut database).await
        })
        .unwrap();
    assert_eq!(busy, 0, "the log is cut");
}

fn outcomes(coordinator: &Coordinator) -> i64 {
    coordinator.database().number("select count(*) from outcomes")
}

/// Attempts that node0 was given.
fn attempts(coordinator: &Coordinator) -> i64 {
    coordinator.database().number(
        "select count(*) from attempts join workers on workers.id = attempts.worker
         where workers.name = 'node0'",
    )
}

fn wait_for_outcomes(coordinator: &Coordinator, count: i64) {
    let there = || (outcomes(coordinator) >= count).then_some(());
    until(&format!("there are {count} outcomes"), PATIENCE, there);
}

fn wait_for(process: &Process, text: &str) {
    until(&format!("it says '{text}'"), PATIENCE, || process.stderr().contains(text).then_some(()));
}
