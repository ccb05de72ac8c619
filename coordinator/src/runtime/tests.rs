//! The owner loop over the store in memory.

use std::sync::Arc;
use std::time::Duration;

use deptune_sweep::id::{Epoch, RequestId, SweepId, TrialId, WorkerId};
use deptune_sweep::metric::Number;
use deptune_sweep::record::{SlotKind, SlotRecord};
use deptune_sweep::scheduler::{Config, Event, LeaseKey, LeaseProgress, Refusal, Reply};
use uuid::Uuid;

use super::turn::Setbacks;
use super::{Ending, Error, Fatal, Handle, Health, Settings, start};
use crate::store::{MemoryDatabase, MemoryStore};

type Owner = tokio::task::JoinHandle<Result<(), Fatal>>;

async fn running(database: &MemoryDatabase) -> (Handle, Owner, Ending) {
    let ending = Ending::default();
    let settings = Settings { scheduler: Config::default(), tick: Duration::from_millis(10) };
    let store = Arc::new(MemoryStore::open(database));
    let (handle, owner) = start(store, settings, ending.clone()).await.unwrap();
    (handle, owner, ending)
}

fn register() -> (WorkerId, Event) {
    let worker = WorkerId(Uuid::new_v4());
    let slot = SlotRecord {
        slot: 0,
        kind: SlotKind::Cpu,
        threads: 1,
        device: "test".to_owned(),
        max_pack: 1,
        memory: None,
    };
    let event = Event::Register {
        worker,
        name: "node1".to_owned(),
        version: "0.1.0".to_owned(),
        labels: Vec::new(),
        slots: vec![slot],
        lost: Vec::new(),
    };
    (worker, event)
}

#[tokio::test]
async fn many_callers_at_once_are_all_answered() {
    let (handle, owner, ending) = running(&MemoryDatabase::default()).await;
    let calls = (0..2000).map(|_| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request(register().1).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), Ok(Reply::Registered));
    }
    assert_eq!(handle.look(|scheduler| scheduler.capacity()).await, Ok((2000, 2000)));
    ending.close.cancel();
    owner.await.unwrap().unwrap();
    assert_eq!(handle.request(register().1).await, Err(Error::Stopping));
}

#[tokio::test]
async fn a_refusal_reaches_its_caller_only() {
    let (handle, _owner, _ending) = running(&MemoryDatabase::default()).await;
    let stranger = WorkerId(Uuid::new_v4());
    let (leave, (_, known)) = (Event::Leave { worker: stranger }, register());
    let (refused, registered) = tokio::join!(handle.request(leave), handle.request(known));
    assert_eq!(refused, Err(Error::Refused(Refusal::UnknownWorker(stranger))));
    assert_eq!(registered, Ok(Reply::Registered));
}

#[tokio::test]
async fn a_coordinator_whose_store_was_taken_over_ends() {
    let database = MemoryDatabase::default();
    let (old, owner, _ending) = running(&database).await;
    assert_eq!(old.request(register().1).await, Ok(Reply::Registered));
    let (new, _owner, _ending) = running(&database).await;
    assert_eq!(old.request(register().1).await, Err(Error::Unavailable));
    assert!(matches!(owner.await.unwrap(), Err(Fatal::Deposed(_))));
    assert_eq!(new.request(register().1).await, Ok(Reply::Registered));
}

#[tokio::test]
async fn a_replaced_coordinator_takes_nothing_away_and_ends_by_itself() {
    let database = MemoryDatabase::default();
    let (old, owner, _ending) = running(&database).await;
    let (worker, event) = register();
    assert_eq!(old.request(event).await, Ok(Reply::Registered));
    let (_new, _owner, _ending) = running(&database).await;
    // A lease that the new one granted: the old one has never heard of its trial.
    let trial = TrialId { sweep: SweepId(1), index: 0 };
    let lease = LeaseKey { trial, epoch: Epoch(1) };
    let (step, loss, steps_per_second) = (1, Number::from(1.0), 1.0);
    let leases = vec![LeaseProgress { lease, step, loss, steps_per_second }];
    let heard = old.request(Event::Heartbeat { worker, leases }).await;
    assert_eq!(heard, Err(Error::Unavailable));
    assert!(matches!(owner.await.unwrap(), Err(Fatal::Deposed(_))));
}

#[tokio::test]
async fn a_replaced_coordinator_that_nobody_asks_for_anything_finds_out() {
    let database = MemoryDatabase::default();
    let (_old, owner, _ending) = running(&database).await;
    let (_new, _owner, _ending) = running(&database).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), owner).await;
    assert!(matches!(ended.unwrap().unwrap(), Err(Fatal::Deposed(_))));
}

#[tokio::test]
async fn draining_sends_those_away_who_wait_for_trials() {
    let (handle, _owner, ending) = running(&MemoryDatabase::default()).await;
    let (worker, event) = register();
    handle.request(event).await.unwrap();
    let waiting = handle.clone();
    let exchange = tokio::spawn(async move {
        let request_id = RequestId(Uuid::new_v4());
        let patience = Duration::from_secs(60);
        waiting.exchange(worker, request_id, Vec::new(), vec![0], patience).await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!exchange.is_finished());
    ending.drain.cancel();
    assert!(exchange.await.unwrap().unwrap().grants.is_empty());
    assert_eq!(*handle.health().borrow(), Health::Stopping);
    // What is under way is still carried out.
    assert_eq!(handle.request(register().1).await, Ok(Reply::Registered));
}

#[test]
fn commits_that_keep_failing_are_tried_ever_less_often_until_one_succeeds() {
    let mut setbacks = Setbacks::default();
    let waits: Vec<u64> = (0..9).map(|_| setbacks.next_wait()).collect();
    assert_eq!(waits, [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    setbacks.end();
    assert_eq!([setbacks.next_wait(), setbacks.next_wait()], [0, 100]);
}
