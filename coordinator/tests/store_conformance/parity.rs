//! What a real scheduler writes is accepted by every store, and all of them answer alike.

use deptune_coordinator::store::{Store, SweepContents};
use deptune_sweep::id::{ArtifactHash, RequestId, SweepId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::{FailureClass, SweepStatus};
use deptune_sweep::record::{CheckpointRef, SlotRecord, SpaceText};
use deptune_sweep::scheduler::{
    Changes, Config, Control, Effect, Event, Grant, LeaseProgress, Now, Reply, Report, ReportEnd,
    Scheduler, TrialProgress, Write,
};
use deptune_sweep::spec::Format;
use uuid::Uuid;

use crate::bench::Bench;
use crate::commits::loaded;
use crate::sample::{NOW, evaluation, result, submission, worker_id, worker_record};

struct World {
    scheduler: Scheduler,
    stores: Vec<std::sync::Arc<dyn Store>>,
    clock: u64,
    requests: u128,
    /// Events committed together.
    group: usize,
    /// Writes of those that wait for the others of their group, and how many those are.
    waiting: (Vec<Write>, usize),
}

impl World {
    /// One event, committed to every store with the others of its group.
    async fn step(&mut self, event: Event) -> Option<Reply> {
        self.clock += 10;
        let wall = NOW + i64::try_from(self.clock).unwrap();
        let now = Now { monotonic: self.clock, wall };
        let step = self.scheduler.step(event, now);
        self.waiting.0.extend(step.writes);
        self.waiting.1 += 1;
        if self.waiting.1 >= self.group {
            self.commit().await;
        }
        step.effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(reply) => reply.ok(),
            Effect::WorkAvailable => None,
        })
    }

    /// Commits what waits.
    async fn commit(&mut self) {
        let (writes, _) = std::mem::take(&mut self.waiting);
        for store in &self.stores {
            store.commit(&writes).await.unwrap();
        }
    }

    async fn exchange(&mut self, worker: u128, reports: Vec<Report>, free: Vec<u32>) -> Vec<Grant> {
        self.requests += 1;
        let event = Event::Exchange {
            worker: worker_id(worker),
            request_id: RequestId(Uuid::from_u128(1000 + self.requests)),
            reports,
            free_slots: free,
        };
        match self.step(event).await {
            Some(Reply::Exchanged { grants, .. }) => grants,
            other => panic!("{other:?}"),
        }
    }

    async fn control(&mut self, sweep: u64, control: Control) {
        self.requests += 1;
        let request_id = RequestId(Uuid::from_u128(5000 + self.requests));
        let content = ArtifactHash::of(format!("{sweep} {control:?}").as_bytes());
        let sweep = SweepId(sweep);
        let told = match &control {
            Control::Delete { answer } => Reply::Deleted { sweep, answer: answer.clone() },
            _ => Reply::Sweep(sweep),
        };
        let event = Event::Control { request_id, content, sweep, control };
        assert_eq!(self.step(event.clone()).await, Some(told.clone()));
        assert_eq!(self.step(event).await, Some(told), "the same again");
    }

    async fn same(&mut self) {
        self.commit().await;
        for pair in self.stores.windows(2) {
            self.alike(&pair[0], &pair[1]).await;
        }
    }

    async fn alike(&self, a: &std::sync::Arc<dyn Store>, b: &std::sync::Arc<dyn Store>) {
        assert_eq!(loaded(&**a).await, loaded(&**b).await);
        for sweep in [SweepId(1), SweepId(2)] {
            let summaries = (a.sweep(sweep).await.unwrap(), b.sweep(sweep).await.unwrap());
            assert_eq!(summaries.0, summaries.1);
            let (trials, others) =
                (a.trials(sweep, None, 0).await.unwrap(), b.trials(sweep, None, 0).await.unwrap());
            assert_eq!(trials, others);
            for trial in trials.items {
                let attempts = a.attempts(trial.id).await.unwrap();
                assert_eq!(attempts, b.attempts(trial.id).await.unwrap());
            }
            assert_eq!(
                a.evaluations(sweep, None, None, 0).await.unwrap(),
                b.evaluations(sweep, None, None, 0).await.unwrap()
            );
            assert_eq!(a.log(sweep, 0, 0).await.unwrap(), b.log(sweep, 0, 0).await.unwrap());
        }
    }
}

fn report(grant: &Grant, end: ReportEnd) -> Report {
    let evaluations = vec![evaluation(25, "validation", 55.0), evaluation(50, "validation", 66.0)];
    Report { lease: grant.lease, evaluations, last_step: 50, end }
}

fn succeeded(metric: f64) -> ReportEnd {
    ReportEnd::Succeeded { result: result(metric), adapter: ArtifactHash::of(b"adapter") }
}

fn space(text: &str) -> Control {
    let add_space = Some(SpaceText { text: format!("[space]\n{text}\n"), format: Format::Toml });
    Control::Change(Changes { add_space, ..Changes::default() })
}

fn register(worker: u128) -> Event {
    let record = worker_record(worker);
    Event::Register {
        worker: record.id,
        name: record.name,
        version: record.version,
        labels: record.labels,
        slots: (record.slots.into_iter()).map(|slot| SlotRecord { max_pack: 1, ..slot }).collect(),
        lost: Vec::new(),
    }
}

#[tokio::test]
async fn a_whole_life_of_two_sweeps() {
    life_in_groups(1).await;
}

/// As a busy coordinator commits: what follows from many events, in one transaction.
#[tokio::test]
async fn a_whole_life_of_two_sweeps_in_groups() {
    for group in [2, 5, 1000] {
        life_in_groups(group).await;
    }
}

async fn life_in_groups(group: usize) {
    let (memory, sqlite, postgres) = (Bench::memory(), Bench::sqlite(), Bench::postgres());
    let mut stores = vec![memory.open().await, sqlite.open().await];
    if let Some(postgres) = &postgres {
        stores.push(postgres.open().await);
    }
    let mut world = World {
        scheduler: Scheduler::new(Config::default()),
        stores,
        clock: 0,
        requests: 0,
        group,
        waiting: Default::default(),
    };
    for n in [1, 2] {
        let submission = submission(&format!("[limits]\npriority = {}\n", 5 - n));
        let spec = Box::new(submission.parse().unwrap());
        let request_id = RequestId(Uuid::from_u128(n));
        world.step(Event::Submit { request_id, submission, spec }).await;
        world.step(register(n)).await;
    }
    let mine = world.exchange(1, Vec::new(), vec![0, 1]).await;
    let yours = world.exchange(2, Vec::new(), vec![0, 1]).await;
    assert_eq!((mine.len(), yours.len()), (2, 2));
    let progress = Event::Progress {
        worker: worker_id(1),
        trials: vec![TrialProgress {
            lease: mine[0].lease,
            evaluations: vec![evaluation(25, "validation", f64::NAN)],
            checkpoint: Some(CheckpointRef { step: 25, hash: ArtifactHash::of(b"c") }),
        }],
    };
    world.step(progress).await;
    let failed = |class| ReportEnd::Failed { class, message: "said the child".to_owned() };
    let reports =
        vec![report(&mine[0], succeeded(81.0)), report(&mine[1], failed(FailureClass::Diverged))];
    world.exchange(1, reports, Vec::new()).await;
    world.same().await;

    // Worker 2 is silent for longer than its leases live, then heard again.
    world.clock += 40_000;
    world.step(Event::Tick).await;
    world.same().await;
    let lease = yours[0].lease;
    let beat = LeaseProgress { lease, step: 30, loss: Number::NaN, steps_per_second: 2.0 };
    world.step(Event::Heartbeat { worker: worker_id(2), leases: vec![beat] }).await;
    // Its other trial is leased to worker 1 first: its report is stale.
    world.step(register(1)).await;
    let again = world.exchange(1, Vec::new(), vec![0]).await;
    assert_eq!(again[0].lease.trial, yours[1].lease.trial);
    let reports = vec![report(&yours[0], succeeded(82.0)), report(&yours[1], succeeded(83.0))];
    world.exchange(2, reports, vec![0, 1]).await;
    world.exchange(1, vec![report(&again[0], failed(FailureClass::Crashed))], Vec::new()).await;
    world.same().await;

    // A restart: the scheduler is rebuilt from either store.
    let snapshot = world.stores[1].load().await.unwrap();
    let now = Now { monotonic: world.clock, wall: NOW };
    world.scheduler = Scheduler::restore(Config::default(), snapshot, now).unwrap();
    world.step(Event::Leave { worker: worker_id(2) }).await;
    world.same().await;
    world.control(2, Control::Cancel).await;
    world.clock += 60_000;
    loop {
        let grants = world.exchange(1, Vec::new(), vec![0, 1]).await;
        if grants.is_empty() {
            break;
        }
        let reports = grants.iter().map(|g| report(g, succeeded(70.0))).collect();
        world.exchange(1, reports, Vec::new()).await;
    }
    world.same().await;
    let first = world.stores[1].sweep(SweepId(1)).await.unwrap().unwrap();
    assert_eq!((first.succeeded, first.failed), (11, 1));
    let second = world.stores[1].sweep(SweepId(2)).await.unwrap().unwrap();
    assert_eq!(second.cancelled, 12);

    // What people do.
    let retry = vec![
        (1, Control::Retry(Vec::new())),
        (1, Control::Pause),
        (1, Control::Change(Changes { add_seeds: vec![7], ..Changes::default() })),
        (1, space("prompt_lr = [0.4, 0.5]\nsteps = [100, 200]\nseeds = [1, 7, 8]")),
        (1, Control::Resume),
        (1, Control::CancelTrial(13)),
        (2, Control::Retry(vec![3])),
        (2, Control::Pause),
    ];
    for (sweep, control) in retry {
        world.control(sweep, control).await;
        world.same().await;
    }
    let changes = Changes { budget: Some(Some(50_000)), weight: Some(2), ..Changes::default() };
    world.control(1, Control::Change(changes)).await;
    let grants = world.exchange(1, Vec::new(), vec![0, 1]).await;
    assert!(grants.iter().all(|g| g.lease.trial.sweep == SweepId(1) && g.settings.seed != 0));
    world.clock += 26_000;
    world.step(Event::Tick).await;
    world.same().await;
    let first = world.stores[1].sweep(SweepId(1)).await.unwrap().unwrap();
    assert_eq!((first.status, first.controls.weight), (SweepStatus::Cancelled, 2));
    assert!(first.used >= 50_000);
    let contents = world.stores[1].contents(SweepId(1)).await.unwrap();
    assert_eq!(contents, world.stores[0].contents(SweepId(1)).await.unwrap());
    assert!(contents.attempts > 12 && contents.evaluations > 0 && contents.log_entries > 0);
    let before = world.stores[1].load().await.unwrap();
    world.control(1, Control::Delete { answer: "{}".to_owned() }).await;
    world.same().await;
    assert_eq!(world.stores[1].sweep(SweepId(1)).await.unwrap(), None);
    assert_eq!(world.stores[1].contents(SweepId(1)).await.unwrap(), SweepContents::default());
    let snapshot = world.stores[1].load().await.unwrap();
    let requests = 1 + 8 + 1 + 1;
    assert_eq!((snapshot.deleted.len(), snapshot.requests.len()), (1, requests));
    assert_eq!(snapshot.requests.iter().filter(|r| r.answer.is_some()).count(), 1);
    assert_eq!(snapshot.last_cursor, before.last_cursor, "cursors are not used again");
    let now = Now { monotonic: world.clock, wall: NOW };
    let restored = Scheduler::restore(Config::default(), snapshot, now).unwrap();
    assert_eq!(restored.audit(now), Ok(()));
}
