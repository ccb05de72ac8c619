//! The task that owns the scheduler.

use std::sync::Arc;
use std::time::Duration;

use deptune_sweep::crash::{Point, point};
use deptune_sweep::scheduler::{Config, Event, Reply, RestoreError, Scheduler};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::handle::{Command, Error, Handle, Health};
use super::turn::{BatchSize, Fence, Next, Setbacks, Turn};
use crate::store::{CommitError, LoadError, Store};

/// Requests that may wait for the owner.
const QUEUE: usize = 8192;
/// Longest wait for others who may join a commit: callers who were answered together mostly come
/// again together, and one commit for all of them costs little more than one for the first alone.
const GATHER: Duration = Duration::from_millis(1);
/// First and longest wait between attempts to load the store.
const RELOAD_WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How the owner works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The scheduler's times and bounds.
    pub(crate) scheduler: Config,
    /// Time between two looks for expired leases and trials whose wait is over.
    pub(crate) tick: Duration,
}

/// Why the owner cannot go on; the process should end.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// Another coordinator has taken over the store.
    #[error("this coordinator was replaced by another one on the same store")]
    Deposed(#[source] CommitError),
    /// The store could not be read at the start.
    #[error("cannot read the store")]
    Load(#[source] LoadError),
    /// The store's content makes no sense to this version.
    #[error("cannot rebuild the scheduler from the store")]
    Restore(#[source] RestoreError),
    /// The owner task died. A defect of deptune.
    #[error("the owner loop died")]
    Died(#[source] tokio::task::JoinError),
}

type Caller = oneshot::Sender<Result<Reply, Error>>;

struct Owner {
    store: Arc<dyn Store>,
    settings: Settings,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    work: watch::Sender<u64>,
    cursor: watch::Sender<u64>,
    health: watch::Sender<Health>,
    batch: BatchSize,
    /// Commands of the last turn.
    last: usize,
    fence: Fence,
    setbacks: Setbacks,
}

/// How the owner is told to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// Who waits for trials is sent away; requests are still carried out.
    pub(crate) drain: CancellationToken,
    /// No further requests; those that have arrived are carried out, then the task ends.
    pub(crate) close: CancellationToken,
}

/// Restores the scheduler and starts the owner.
pub(crate) async fn start(
    store: Arc<dyn Store>,
    settings: Settings,
    ending: Ending,
) -> Result<(Handle, JoinHandle<Result<(), Fatal>>), Fatal> {
    let clock = Clock::new();
    let snapshot = store.load().await.map_err(Fatal::Load)?;
    let last_cursor = snapshot.last_cursor;
    let scheduler =
        Scheduler::restore(settings.scheduler, snapshot, clock.now()).map_err(Fatal::Restore)?;
    let (sender, commands) = mpsc::channel(QUEUE);
    let (work, work_seen) = watch::channel(0);
    let (cursor, cursor_seen) = watch::channel(last_cursor);
    let (health, health_seen) = watch::channel(Health::Serving);
    let owner = Owner {
        store,
        settings,
        clock,
        commands,
        work,
        cursor,
        health,
        batch: BatchSize::default(),
        last: 0,
        fence: Fence::default(),
        setbacks: Setbacks::default(),
    };
    let handle =
        Handle { commands: sender, work: work_seen, cursor: cursor_seen, health: health_seen };
    Ok((handle, tokio::spawn(owner.run(scheduler, ending))))
}

impl Owner {
    async fn run(mut self, mut scheduler: Scheduler, ending: Ending) -> Result<(), Fatal> {
        let mut ticks = tokio::time::interval(self.settings.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Vec::new();
        loop {
            let limit = self.batch.get();
            tokio::select! {
                // In order, so that the same events come to the same end. Ticks before requests:
                // they are rare, and requests may never end.
                biased;
                () = ending.drain.cancelled(), if *self.health.borrow() != Health::Stopping => {
                    self.health.send_replace(Health::Stopping);
                }
                () = ending.close.cancelled(), if !self.commands.is_closed() => {
                    self.commands.close();
                }
                _ = ticks.tick() => waiting.push(tick()),
                count = self.commands.recv_many(&mut waiting, limit) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.gather(&mut waiting, limit).await;
                }
            }
            match self.turn(&mut scheduler, &mut waiting).await {
                Next::GoOn => self.batch.learn(true),
                Next::End(error) => return Err(Fatal::Deposed(error)),
                Next::Recover(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "commit failed");
                    self.batch.learn(false);
                    // There is nothing more to do for one that has to end; who waits hears that.
                    let recovered =
                        ending.close.run_until_cancelled(self.recover((&error).into())).await;
                    let Some(recovered) = recovered else { return Ok(()) };
                    scheduler = recovered?;
                }
            }
        }
    }

    /// Waits a moment until as many have come as in the last turn.
    async fn gather(&mut self, waiting: &mut Vec<Command>, limit: usize) {
        let expected = self.last.min(limit);
        let until = Instant::now() + GATHER;
        while waiting.len() < expected {
            let more = self.commands.recv_many(waiting, expected - waiting.len());
            if !timeout_at(until, more).await.is_ok_and(|count| count > 0) {
                break;
            }
        }
    }

    /// Steps everything in `waiting`, commits once, then answers.
    async fn turn(&mut self, scheduler: &mut Scheduler, waiting: &mut Vec<Command>) -> Next {
        let now = self.clock.now();
        let mut turn: Turn<Caller> = Turn::default();
        let mut looks = Vec::new();
        self.last = waiting.len();
        for command in waiting.drain(..) {
            match command {
                Command::Look(look) => looks.push(look),
                Command::Event { event, reply } => {
                    let gone = reply.is_closed();
                    turn.take(scheduler, *event, reply, gone, now);
                }
            }
        }
        if self.fence.is_due(now.monotonic) {
            turn.fence();
        }
        let commits = turn.needs_commit();
        let committed = if commits { self.store.commit(turn.writes()).await } else { Ok(()) };
        let settled = turn.settle(committed);
        if commits && matches!(settled.next, Next::GoOn) {
            self.fence.passed(now.monotonic);
            self.setbacks.end();
        }
        point(Point::BeforeReply);
        for (reply, answer) in settled.answers {
            // A caller that has gone misses its answer; the request id lets it ask again.
            let _ = reply.send(answer);
        }
        point(Point::AfterReply);
        if let Some(cursor) = settled.cursor {
            self.cursor.send_replace(cursor);
        }
        if settled.wakes {
            self.work.send_modify(|count| *count += 1);
        }
        if let Next::GoOn = settled.next {
            for look in looks {
                look(scheduler);
            }
        }
        settled.next
    }

    /// Rebuilds the scheduler from the store, for as long as it takes. Who asks meanwhile hears
    /// `answer` at once.
    async fn recover(&mut self, mut answer: Error) -> Result<Scheduler, Fatal> {
        self.health.send_if_modified(|h| {
            let serving = *h == Health::Serving;
            if serving {
                *h = Health::Recovering;
            }
            serving
        });
        let wait = Duration::from_millis(self.setbacks.next_wait());
        self.refuse_during(&answer, tokio::time::sleep(wait)).await;
        let mut wait = RELOAD_WAITS.0;
        loop {
            let store = self.store.clone();
            match self.refuse_during(&answer, async move { store.load().await }).await {
                Ok(snapshot) => {
                    self.cursor.send_replace(snapshot.last_cursor);
                    let now = self.clock.now();
                    let scheduler = Scheduler::restore(self.settings.scheduler, snapshot, now)
                        .map_err(Fatal::Restore)?;
                    tracing::info!("scheduler rebuilt from the store");
                    self.health.send_if_modified(|h| {
                        let recovering = *h == Health::Recovering;
                        if recovering {
                            *h = Health::Serving;
                        }
                        recovering
                    });
                    return Ok(scheduler);
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot load the store, trying again"
                    );
                    answer = Error::Unavailable;
                    self.refuse_during(&answer, tokio::time::sleep(wait)).await;
                    wait = (wait * 2).min(RELOAD_WAITS.1);
                }
            }
        }
    }

    /// Waits for `work` and gives `answer` to every event that arrives meanwhile.
    async fn refuse_during<T>(&mut self, answer: &Error, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                command = self.commands.recv() => match command {
                    Some(Command::Event { reply, .. }) => {
                        let _ = reply.send(Err(answer.clone()));
                    }
                    // A look that is dropped reads as unavailable.
                    Some(Command::Look(_)) => {}
                    None => return work.await,
                },
            }
        }
    }
}

fn tick() -> Command {
    let (reply, _) = oneshot::channel();
    Command::Event { event: Box::new(Event::Tick), reply }
}
