//! Reading the file with another client, Python's, while a sweep runs.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use deptune_coordinator::store::Store;
use deptune_sweep::id::Epoch;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::{AttemptEnd, LogEntry};
use deptune_sweep::scheduler::Write;

use crate::bench::Bench;
use crate::sample::{
    TOTAL, end, evaluated, evaluation, failure, first_lease, logged, success, sweep, trial_id,
    worker,
};

/// Reads every view over and over until its input ends, then says how often it did.
const READER: &str = r#"
import sqlite3, sys, threading
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
views = ["trial_results", "leaderboard", "learning_curves", "sweep_progress", "attempts_history",
         "class_reports", "pack_memory"]
rounds = 0
while True:
    last = stop.is_set()
    connection = sqlite3.connect(sys.argv[1])
    for view in views:
        for row in connection.execute(f"select * from {view}"):
            pass
    trials, ended, rest = connection.execute(
        "select trials, succeeded + failed, running + pending from sweep_progress").fetchone()
    assert trials == ended + rest, (trials, ended, rest)
    connection.close()
    rounds += 1
    if rounds == 1:
        print("ready", flush=True)
    if last:
        break
connection = sqlite3.connect(sys.argv[1])
print(rounds)
for row in connection.execute("select place, mean, std, ci_low, ci_high from leaderboard"
        " order by place"):
    print(*row)
for row in connection.execute(
        "select trial_id, outcome, metric, worker, started, finished from trial_results"
        " order by trial_index limit 2"):
    print(*row)
for row in connection.execute(
        "select trial_id, step, split, metric_name, metric, constant_answer from learning_curves"
        " order by trial_index, step, metric_name limit 2"):
    print(*row)
"#;

/// Holds one read transaction open until its input ends.
const LONG_READER: &str = r#"
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin")
before = connection.execute("select count(*) from log").fetchone()
print("ready", flush=True)
sys.stdin.read()
after = connection.execute("select count(*) from log").fetchone()
print(before == after)
connection.execute("commit")
"#;

struct Python(Child);

impl Python {
    /// Starts a script on the database and waits for its first line.
    fn start(script: &str, bench: &Bench) -> Option<Python> {
        let child = Command::new("python3")
            .args(["-c", script])
            .arg(bench.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(child) = child else {
            eprintln!("SKIPPED: there is no python3 to read the database with");
            return None;
        };
        let mut python = Python(child);
        assert_eq!(python.line(), "ready");
        Some(python)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        // One byte at a time: what follows belongs to whoever reads next.
        let stdout = self.0.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, stdout).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Ends its input and returns what it says.
    fn finish(mut self) -> Vec<String> {
        self.0.stdin.as_mut().unwrap().flush().unwrap();
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_reads_every_view_while_commits_go_on() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    let Some(python) = Python::start(READER, &bench) else { return };
    for index in 0..TOTAL {
        let id = trial_id(1, index);
        store.commit(&first_lease(id)).await.unwrap();
        for step in [25, 50, 75, 100] {
            let metric = 60.0 + step as f64 / 10.0;
            store
                .commit(&[evaluated(id, 1, evaluation(step, "validation", metric))])
                .await
                .unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let outcome =
            if index == 11 { failure(id, 1) } else { success(id, 1, 70.0 + index as f64) };
        store.commit(&end(outcome)).await.unwrap();
    }
    let said = tokio::task::spawn_blocking(|| python.finish()).await.unwrap();
    assert!(said[0].parse::<u32>().unwrap() >= 2);
    // Two seeds: t(1) = 12.706205, s = 1/sqrt(2); three: t(2) = 4.302653, s = 1.
    let numbers =
        |line: &str| -> Vec<f64> { line.split(' ').map(|word| word.parse().unwrap()).collect() };
    let expected = [
        [1.0, 79.5, 0.5_f64.sqrt(), 79.5 - 12.706_205 / 2.0, 79.5 + 12.706_205 / 2.0],
        [2.0, 77.0, 1.0, 77.0 - 4.302_653 / 3_f64.sqrt(), 77.0 + 4.302_653 / 3_f64.sqrt()],
    ];
    for (line, expected) in said[1..].iter().zip(expected) {
        for (found, expected) in numbers(line).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{line}");
        }
    }
    assert_eq!(
        said[5],
        "1.0 succeeded 70.0 node-1 2023-11-14T22:13:20.123Z 2023-11-14T22:14:20.123Z"
    );
    assert_eq!(said[7], "1.0 25 validation accuracy 62.5 52.5");
    assert_eq!(said[8].split(' ').nth(3), Some("f1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_delays_no_commit_and_the_log_file_stays_bounded() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    store.commit(&[sweep(1)]).await.unwrap();
    let Some(python) = Python::start(LONG_READER, &bench) else { return };
    let mut cursor = 0;
    // About 12 MB while the reader holds its view of the past.
    fill(&store, &mut cursor, 300).await;
    let held = wal_size(&bench);
    assert!(held > 10 << 20, "{held}");
    let said = tokio::task::spawn_blocking(|| python.finish()).await.unwrap();
    assert_eq!(said, ["True"], "it saw one moment only");
    // With the reader gone, the space is used again instead of growing on.
    fill(&store, &mut cursor, 300).await;
    let after = wal_size(&bench);
    assert!(after <= held + (1 << 20), "{held} then {after}");
    assert_eq!(store.load().await.unwrap().last_cursor, 600);
}

/// Commits with 40 kB each.
async fn fill(store: &Arc<dyn Store>, cursor: &mut u64, commits: u64) {
    for _ in 0..commits {
        *cursor += 1;
        let what = LogEntry::Requeued {
            epoch: Epoch(1),
            end: AttemptEnd::Failed,
            class: FailureClass::Crashed,
            message: "x".repeat(40_000),
        };
        store.commit(&[Write::Log(logged(*cursor, 1, None, what))]).await.unwrap();
    }
}

fn wal_size(bench: &Bench) -> u64 {
    let mut name = bench.path().into_os_string();
    name.push("-wal");
    std::fs::metadata(name).map_or(0, |file| file.len())
}
