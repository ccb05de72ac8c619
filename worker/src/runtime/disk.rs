//! The thread that writes to the outbox, in the order in which the protocol says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use deptune_sweep::scheduler::{LeaseKey, ReportEnd};
use tokio::sync::mpsc;

use super::held::Held;
use super::room::{Look, Room};
use crate::outbox::{KeepError, Outbox};
use crate::protocol::{Action, Event, FileKind, Identity, Kept};

/// Checkpoints of a trial that stay in the child's directory.
const STAY: usize = 2;

/// Starts the thread. It ends when the sender is dropped and all is written.
pub(super) fn start(
    outbox: Arc<Outbox>,
    held: Arc<Held>,
    room: Arc<Room>,
    events: mpsc::Sender<Event>,
) -> std::io::Result<(Sender<Action>, JoinHandle<()>)> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("deptune-disk".to_owned());
    let thread = thread.spawn(move || serve(&outbox, &held, &room, &receiver, &events))?;
    Ok((sender, thread))
}

fn serve(
    outbox: &Outbox,
    held: &Held,
    room: &Room,
    actions: &Receiver<Action>,
    events: &mpsc::Sender<Event>,
) {
    let mut made: BTreeMap<LeaseKey, VecDeque<PathBuf>> = BTreeMap::new();
    let mut shelf = Shelved::default();
    while let Ok(action) = actions.recv() {
        let event = match action {
            Action::KeepCheckpoint { lease, step, path, evaluations } => {
                let kept = outbox.keep_checkpoint(lease, step, &path, evaluations);
                let kept = kept.map(|(kept, large)| {
                    shelf.made(lease, large);
                    kept
                });
                let own = made.entry(lease).or_default();
                own.push_back(path);
                if own.len() > STAY
                    && let Some(old) = own.pop_front()
                {
                    // The child may have deleted it itself.
                    let _ = std::fs::remove_file(old);
                }
                Some(answer(lease, FileKind::Checkpoint, kept))
            }
            Action::KeepAdapter { lease, step, path } => {
                let kept = outbox.keep_adapter(lease, step, &path);
                Some(answer(lease, FileKind::Adapter, kept))
            }
            Action::SaveReport(report) => {
                if let ReportEnd::Succeeded { .. } = report.end {
                    shelf.useless.insert(report.lease);
                }
                let saved = outbox.save_report(&report);
                if let Err(error) = &saved {
                    warn(error);
                }
                Some(Event::ReportSaved { lease: report.lease, durable: saved.is_ok() })
            }
            Action::SaveLeases { worker, slots, leases } => {
                let saved = outbox.save_leases(&Identity { worker, slots }, &leases);
                if let Err(error) = &saved {
                    warn(error);
                }
                Some(Event::LeasesSaved { durable: saved.is_ok() })
            }
            Action::Forget(lease) => {
                made.remove(&lease);
                shelf.forget(lease);
                outbox.forget(lease);
                held.remove(lease);
                None
            }
            Action::ForgetCheckpoint { lease, step } => {
                outbox.forget_checkpoint(lease, step);
                None
            }
            Action::Call(_)
            | Action::Start { .. }
            | Action::Stop { .. }
            | Action::Drop { .. }
            | Action::Exit(_)
            | Action::Fail(_) => None,
        };
        if event.as_ref().is_some_and(says_refused) {
            room.tell(Look::Closely, events);
        }
        if let Some(event) = event {
            // When the agent has ended, what is left is written for the next one.
            let _ = events.blocking_send(event);
        }
    }
}

/// The large checkpoints that this process made.
#[derive(Default)]
struct Shelved {
    made: BTreeMap<LeaseKey, VecDeque<PathBuf>>,
    /// Leases whose trial succeeded: nobody goes on from their checkpoints.
    useless: BTreeSet<LeaseKey>,
}

impl Shelved {
    /// Another one: of a lease the last two stay, since the coordinator may not know of the last
    /// one yet.
    fn made(&mut self, lease: LeaseKey, path: Option<PathBuf>) {
        let Some(path) = path else { return };
        let own = self.made.entry(lease).or_default();
        own.retain(|known| *known != path);
        own.push_back(path);
        if own.len() > STAY
            && let Some(old) = own.pop_front()
        {
            remove(&old);
        }
    }

    fn forget(&mut self, lease: LeaseKey) {
        let made = self.made.remove(&lease).unwrap_or_default();
        if self.useless.remove(&lease) {
            made.iter().for_each(|path| remove(path));
        }
    }
}

fn remove(path: &std::path::Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot delete");
    }
}

/// Whether something could not be written.
fn says_refused(event: &Event) -> bool {
    matches!(
        event,
        Event::Kept { kept: Err(_), .. }
            | Event::ReportSaved { durable: false, .. }
            | Event::LeasesSaved { durable: false }
    )
}

fn answer(lease: LeaseKey, file: FileKind, kept: Result<Kept, KeepError>) -> Event {
    if let Err(error) = &kept {
        warn(error);
    }
    Event::Kept { lease, file, kept: kept.map_err(|error| error.to_string()) }
}

fn warn(error: &KeepError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, "the outbox could not be written");
}
