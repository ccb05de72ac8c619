//! Backups that are made while the coordinator works, restored, and compared with what was
//! acknowledged; and what the doctor finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{DATA, SPEC, Server, new_id, submission, succeeded};
use deptune_coordinator::DATABASE_FILE;
use deptune_coordinator::upkeep::{
    Error, Finding, Grade, MANIFEST_FILE, Place, backup, examine, restore,
};
use deptune_proto::v1;
use deptune_sweep::id::ArtifactHash;
use tempfile::TempDir;

const ADAPTER: &[u8] = b"adapter";

/// 2 configurations × 100 seeds.
fn large() -> v1::SubmitSweepRequest {
    let seeds: Vec<String> = (0..100).map(|seed| seed.to_string()).collect();
    let mut request = submission(new_id());
    request.spec = SPEC.replace("42, 43", &seeds.join(", "));
    request
}

/// What a worker was told is recorded: metrics by trial.
type Acknowledged = Arc<Mutex<BTreeMap<u64, f64>>>;

/// Leases and finishes at most `most` trials, one at a time.
async fn work(server: &Server, acknowledged: &Acknowledged, most: usize) {
    server.upload(ADAPTER, "adapter").await.unwrap();
    let worker = server.register(1).await;
    let mut held: Option<(v1::Lease, f64)> = None;
    for done in 0..=most {
        let report = held.iter().map(|(lease, metric)| succeeded(lease, *metric, ADAPTER));
        let free = if done < most { vec![0] } else { Vec::new() };
        let answer = server.exchange(&worker, report.collect(), free).await;
        if let Some((lease, metric)) = held.take() {
            let index = lease.lease.unwrap().trial.unwrap().index;
            acknowledged.lock().unwrap().insert(index, metric);
        }
        let Some(lease) = answer.leases.into_iter().next() else { return };
        let index = lease.lease.unwrap().trial.unwrap().index;
        held = Some((lease, index as f64 / 2.0));
    }
}

/// Metrics of the succeeded trials, by trial.
async fn outcomes(server: &Server) -> BTreeMap<u64, f64> {
    let mut found = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListTrialsRequest { sweep: "1".to_owned(), page_size: 50, page_token };
        let page = server.sweeps().list_trials(request).await.unwrap().into_inner();
        for trial in page.trials {
            if trial.outcome() == v1::Outcome::Succeeded {
                found.insert(trial.id.unwrap().index, trial.result.unwrap().metric);
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

fn home(directory: &TempDir) -> (PathBuf, PathBuf) {
    let home = directory.path().join("coordinator");
    let database = home.join(DATABASE_FILE);
    (home, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_holds_what_was_acknowledged_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.upload(DATA, "data").await.unwrap();
    server.sweeps().submit_sweep(large()).await.unwrap();
    let acknowledged = Acknowledged::default();
    work(&server, &acknowledged, 20).await;

    let (home, database) = home(&directory);
    let to = directory.path().join("backup");
    let before = acknowledged.lock().unwrap().clone();
    // The coordinator records results while it is backed up.
    let (made, ()) = tokio::join!(backup(&home, &database, &to), work(&server, &acknowledged, 60));
    let after = acknowledged.lock().unwrap().clone();
    let manifest = made.unwrap().manifest;
    assert_eq!((manifest.sweeps, manifest.artifacts), (1, 2));
    server.stop().await;

    let other = tempfile::tempdir().unwrap();
    let restored_home = other.path().join("coordinator");
    restore(&to, &restored_home).await.unwrap();
    let restored = Server::start(other.path()).await;
    let found = outcomes(&restored).await;
    assert_eq!(found.len() as u64, manifest.outcomes);
    assert!(before.iter().all(|(trial, metric)| found.get(trial) == Some(metric)));
    assert!(found.iter().all(|(trial, metric)| after.get(trial).is_none_or(|m| m == metric)));
    // The trials that were leased then wait for their leases to end; all others go on.
    work(&restored, &Acknowledged::default(), 500).await;
    let found = outcomes(&restored).await;
    assert!(found.len() >= 198, "{} outcomes", found.len());
    assert!(found.iter().all(|(trial, metric)| *metric == *trial as f64 / 2.0));
    restored.stop().await;
}

#[tokio::test]
async fn a_second_backup_takes_only_what_is_new_and_a_bad_one_is_not_restored() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let acknowledged = Acknowledged::default();
    work(&server, &acknowledged, 1).await;
    let (home, database) = home(&directory);
    let to = directory.path().join("backup");
    assert_eq!(backup(&home, &database, &to).await.unwrap().copied_files, 2);
    server.upload(b"new", "data").await.unwrap();
    assert_eq!(backup(&home, &database, &to).await.unwrap().copied_files, 1);
    server.stop().await;

    let target = |name: &str| directory.path().join(name);
    let refused = restore(&to, &home).await;
    assert!(matches!(refused, Err(Error::Occupied { .. })), "{refused:?}");
    let refused = restore(&home, &target("a")).await;
    assert!(matches!(refused, Err(Error::NoBackup { .. })), "{refused:?}");

    let adapter = artifact(&to, ADAPTER);
    std::fs::write(&adapter, b"other").unwrap();
    let refused = restore(&to, &target("b")).await;
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert!(!target("b").join(DATABASE_FILE).exists());
    std::fs::remove_file(&adapter).unwrap();
    let refused = restore(&to, &target("c")).await;
    assert!(matches!(refused, Err(Error::Missing { .. })), "{refused:?}");
    std::fs::write(&adapter, ADAPTER).unwrap();
    std::fs::write(to.join(MANIFEST_FILE), "{").unwrap();
    let refused = restore(&to, &target("d")).await;
    assert!(matches!(refused, Err(Error::Manifest { .. })), "{refused:?}");

    // What is damaged here does not get into a backup.
    std::fs::write(artifact(&home, DATA), b"other").unwrap();
    let refused = backup(&home, &database, &target("e")).await;
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert!(!target("e").join(MANIFEST_FILE).exists());
}

#[tokio::test]
async fn a_damaged_file_that_nothing_needs_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    server.upload(b"nobody's", "data").await.unwrap();
    server.stop().await;
    let (home, database) = home(&directory);
    let to = directory.path().join("backup");
    let path = artifact(&home, b"nobody's");
    std::fs::write(&path, b"nobody'z").unwrap();
    let made = backup(&home, &database, &to).await.unwrap();
    assert_eq!((made.copied_files, made.damaged), (1, vec![path]));
    assert!(!artifact(&to, b"nobody's").exists());
    // Nor does one in the backup keep it from being restored.
    let path = artifact(&to, b"nobody's");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"nobody'z").unwrap();
    let restored = directory.path().join("restored");
    restore(&to, &restored).await.unwrap();
    assert!(artifact(&restored, DATA).exists() && !artifact(&restored, b"nobody's").exists());
}

#[tokio::test]
async fn what_lies_where_a_backup_is_restored_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    work(&server, &Acknowledged::default(), 1).await;
    server.stop().await;
    let (home, database) = home(&directory);
    let to = directory.path().join("backup");
    let logs = home.join("logs/1");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join("0-1.log"), "of the one attempt").unwrap();
    std::fs::write(logs.join("0-2.log"), "of an attempt after the backup's moment").unwrap();
    backup(&home, &database, &to).await.unwrap();

    let restored = directory.path().join("restored");
    // As many bytes as the right ones.
    let other = vec![b'x'; DATA.len()];
    let path = artifact(&restored, DATA);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, other).unwrap();
    std::fs::create_dir_all(restored.join("logs/1")).unwrap();
    std::fs::write(restored.join("logs/1/1-1.log"), "of something else").unwrap();
    restore(&to, &restored).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), DATA);
    let names = |path: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&restored.join("logs/1")), ["0-1.log"]);
    let aside = names(&restored).into_iter().find(|name| name.starts_with("logs.before-restore"));
    assert_eq!(names(&restored.join(aside.unwrap()).join("1")), ["1-1.log"]);
}

#[tokio::test]
async fn only_logs_that_have_grown_are_copied_again() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    server.stop().await;
    let (home, database) = home(&directory);
    let to = directory.path().join("backup");
    std::fs::create_dir_all(home.join("logs/1")).unwrap();
    for name in ["logs/1/0-1.log", "logs/1/1-1.log"] {
        std::fs::write(home.join(name), "said").unwrap();
    }
    backup(&home, &database, &to).await.unwrap();
    let inode = |name: &str| std::fs::metadata(to.join(name)).unwrap().ino();
    let before = ["logs/1/0-1.log", "logs/1/1-1.log"].map(inode);
    std::fs::write(home.join("logs/1/1-1.log"), "said more").unwrap();
    backup(&home, &database, &to).await.unwrap();
    let after = ["logs/1/0-1.log", "logs/1/1-1.log"].map(inode);
    assert_eq!(before[0], after[0], "it was copied again");
    assert_eq!(std::fs::read(to.join("logs/1/1-1.log")).unwrap(), b"said more");
}

fn artifact(home: &Path, content: &[u8]) -> PathBuf {
    let hash = ArtifactHash::of(content);
    let (head, tail) = hash.as_str().split_at(2);
    home.join("artifacts").join(head).join(tail)
}

fn wrong(findings: &[Finding]) -> Vec<&str> {
    findings.iter().filter(|f| f.grade == Grade::Wrong).map(|f| f.what.as_str()).collect()
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    work(&server, &Acknowledged::default(), 1).await;
    let (home, database) = home(&directory);
    let well = examine(&home, &Place::File(database.clone()), true).await.unwrap();
    assert_eq!(wrong(&well), Vec::<&str>::new());
    assert!(well.iter().all(|finding| finding.grade == Grade::Well || !finding.advice.is_empty()));
    server.stop().await;

    std::fs::remove_file(artifact(&home, DATA)).unwrap();
    std::fs::write(artifact(&home, ADAPTER), b"adaptes").unwrap();
    let found = examine(&home, &Place::File(database.clone()), false).await.unwrap();
    assert!(
        matches!(wrong(&found)[..], [one] if one.contains("sweep 1 (train.jsonl)")),
        "{found:?}"
    );
    let found = examine(&home, &Place::File(database.clone()), true).await.unwrap();
    assert!(wrong(&found).iter().any(|what| what.contains("is damaged")), "{found:?}");

    // A page in the middle of the database.
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&database, bytes).unwrap();
    let found = examine(&home, &Place::File(database.clone()), false).await.unwrap();
    assert!(wrong(&found).iter().any(|what| what.contains("database")), "{found:?}");
}
