//! What everyone but the owner holds.

use std::time::Duration;

use deptune_sweep::id::{RequestId, WorkerId};
use deptune_sweep::scheduler::{Ack, Event, Grant, Refusal, Reply, Report, Scheduler};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::store::CommitError;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The scheduler refused it. Nothing changed.
    #[error("the request was refused")]
    Refused(#[source] Refusal),
    /// More requests wait than the queue holds. Nothing changed.
    #[error("the coordinator has more requests than it can take; try again in a moment")]
    Busy,
    /// The store did not take it, or it is unknown whether it did. The same request again, with
    /// the same request id, is safe.
    #[error("the store is not available; try again in a moment")]
    Unavailable,
    /// The database's disk is full. Nothing changed.
    #[error("the disk of the coordinator's database is full")]
    DiskFull,
    /// The coordinator is shutting down.
    #[error("the coordinator is shutting down")]
    Stopping,
}

/// What callers hear whose events were not committed, as far as is known.
impl From<&CommitError> for Error {
    fn from(error: &CommitError) -> Error {
        match error {
            CommitError::Full(_) => Error::DiskFull,
            _ => Error::Unavailable,
        }
    }
}

/// Whether the coordinator takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Serving,
    /// It rebuilds its memory from the store.
    Recovering,
    /// It is shutting down.
    Stopping,
}

/// The answer to a worker's exchange.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exchanged {
    /// One per report, in order.
    pub acks: Vec<Ack>,
    /// New leases.
    pub grants: Vec<Grant>,
}

pub(super) enum Command {
    /// Step the scheduler.
    Event { event: Box<Event>, reply: oneshot::Sender<Result<Reply, Error>> },
    /// Read from the scheduler, after what was stepped before it is durable.
    Look(Box<dyn FnOnce(&Scheduler) + Send>),
}

/// Speaks to the owner loop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    /// Counts up when trials became available.
    pub(super) work: watch::Receiver<u64>,
    /// Cursor of the last durable log entry.
    pub(super) cursor: watch::Receiver<u64>,
    pub(super) health: watch::Receiver<Health>,
}

impl Handle {
    /// Has the scheduler take an event; returns once what follows from it is durable.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn request(&self, event: Event) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Event { event: Box::new(event), reply })?;
        answer.await.unwrap_or(Err(Error::Unavailable))
    }

    /// Reads from the scheduler.
    ///
    /// # Errors
    /// All but [`Error::Refused`].
    pub async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Scheduler) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Look(Box::new(move |scheduler| {
            // The caller may have gone; then nobody wants the answer.
            let _ = reply.send(read(scheduler));
        })))?;
        answer.await.map_err(|_| Error::Unavailable)
    }

    /// Reports finished attempts and leases trials. When there is nothing to report and nothing
    /// to lease, waits up to `patience` for trials to become available.
    ///
    /// Dropping the future at any point is safe: the owner leases nothing to a caller that has
    /// gone, and a lease whose answer was lost is given again for the same `request_id`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exchange(
        &self,
        worker: WorkerId,
        request_id: RequestId,
        reports: Vec<Report>,
        free_slots: Vec<u32>,
        patience: Duration,
    ) -> Result<Exchanged, Error> {
        let waits = reports.is_empty() && !free_slots.is_empty();
        let until = Instant::now() + patience;
        let (mut work, mut health) = (self.work.clone(), self.health.clone());
        let mut reports = Some(reports);
        loop {
            // Seen before asking, so that trials which come up while the answer is under way are
            // not missed.
            work.borrow_and_update();
            let event = Event::Exchange {
                worker,
                request_id,
                reports: reports.take().unwrap_or_default(),
                free_slots: free_slots.clone(),
            };
            let exchanged = match self.request(event).await? {
                Reply::Exchanged { acks, grants } => Exchanged { acks, grants },
                _ => Exchanged::default(),
            };
            if !waits || !exchanged.grants.is_empty() {
                return Ok(exchanged);
            }
            let ends = health.wait_for(|h| *h == Health::Stopping);
            let news = async {
                tokio::select! {
                    changed = work.changed() => changed.is_ok(),
                    _ = ends => false,
                }
            };
            if !timeout_at(until, news).await.unwrap_or(false) {
                return Ok(exchanged);
            }
        }
    }

    /// Follows the cursor of the last durable log entry.
    #[must_use]
    pub fn cursor(&self) -> watch::Receiver<u64> {
        self.cursor.clone()
    }

    /// Follows whether the coordinator takes requests.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })
    }
}
