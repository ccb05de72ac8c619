//! A pack on a slot: its files, its child, its news.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deptune_proto::convert::Assignment;
use deptune_sweep::child::{
    AdapterFile, DataFile, Job, Member, Message, Order, PROTOCOL, Predictions,
};
use deptune_sweep::id::TrialId;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::SOURCE;
use deptune_sweep::scheduler::LeaseKey;
use tokio::sync::{mpsc, watch};

use super::room::Look;
use super::{Shared, attempt, predictions};
use crate::cache::{self, FetchError, Source};
use crate::child::{Child, Launch, Output, environment};
use crate::outbox;
use crate::protocol::{ChildNews, Event, StopHow};
use crate::slot::Slot;

/// Messages of one child that may wait.
const WAITING: usize = 64;

/// One run of a pack.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: Slot,
    pub(super) run: u64,
    pub(super) pack: Vec<Assignment>,
    pub(super) stop: watch::Receiver<Option<StopHow>>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) events: mpsc::Sender<Event>,
}

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
enum NotBegun {
    #[error(transparent)]
    Files(#[from] cache::Error),
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Kills the child when its task is dropped with the agent.
struct Leash(Child);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.kill();
    }
}

impl Run {
    /// Runs the pack to its end and tells everything.
    pub(super) async fn go(mut self) {
        let mut stop = self.stop.clone();
        let prepared = tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => None,
            prepared = self.prepare() => Some(prepared),
        };
        let launch = match prepared {
            None => {
                let message = "stopped before its child was started".to_owned();
                self.tell(ChildNews::Exited { class: FailureClass::Preempted, message }).await;
                return;
            }
            Some(Err(error)) => {
                let message = chain(&error);
                let news = match &error {
                    NotBegun::Files(files) if files.is_passing() => ChildNews::NotReady { message },
                    NotBegun::Files(files) => {
                        ChildNews::CannotRun { class: files.class(), message }
                    }
                    NotBegun::Io { .. } => {
                        ChildNews::CannotRun { class: FailureClass::Infra, message }
                    }
                };
                self.tell(news).await;
                return;
            }
            Some(Ok(launch)) => launch,
        };
        let dir = launch.dir.clone();
        let (sender, outputs) = mpsc::channel(WAITING);
        let spawner = self.shared.spawner.clone();
        let spawn = move || Child::spawn(&spawner, launch, sender);
        let spawned = tokio::task::spawn_blocking(spawn).await;
        match spawned {
            Ok(Ok(child)) => self.attend(&Leash(child), outputs, &dir).await,
            Ok(Err(error)) => self.cannot_start(chain(&error)).await,
            Err(error) => self.cannot_start(error.to_string()).await,
        }
    }

    async fn cannot_start(&self, message: String) {
        self.tell(ChildNews::CannotRun { class: FailureClass::Infra, message }).await;
    }

    async fn attend(&mut self, child: &Leash, mut outputs: mpsc::Receiver<Output>, dir: &Path) {
        self.tell(ChildNews::Spawned).await;
        let keys: Vec<LeaseKey> = self.pack.iter().map(|lease| lease.lease).collect();
        let (over, ended) = watch::channel(false);
        self.shared.logs.follow(&self.shared, dir.to_owned(), keys, ended);
        let mut predictions = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                changed = self.stop.changed() => {
                    let how = if changed.is_ok() { *self.stop.borrow() } else { Some(StopHow::End) };
                    match how {
                        Some(StopHow::Ask) => child.0.ask(),
                        Some(StopHow::End) => child.0.end(),
                        None => {}
                    }
                    if changed.is_err() {
                        // Nobody is left to tell.
                        return;
                    }
                }
                Some(order) = self.orders.recv() => child.0.order(order),
                output = outputs.recv() => match output {
                    Some(Output::Message(message)) => {
                        if let Some(news) = self.news(*message, &mut predictions).await {
                            self.tell(news).await;
                        }
                    }
                    Some(Output::Exited { class, message }) => {
                        over.send_replace(true);
                        self.tell(ChildNews::Exited { class, message }).await;
                        return;
                    }
                    None => {
                        let message = "its threads ended before it did".to_owned();
                        let class = FailureClass::Infra;
                        self.tell(ChildNews::Exited { class, message }).await;
                        return;
                    }
                },
            }
        }
    }

    /// What the child says, for the agent. Predictions are sent at once: they are part of the
    /// result that comes after them.
    async fn news(
        &self,
        message: Message,
        predictions: &mut BTreeMap<TrialId, Vec<Predictions>>,
    ) -> Option<ChildNews> {
        Some(match message {
            Message::Started { .. } => ChildNews::Started,
            Message::Progress { trial, step, loss, steps_per_second } => {
                ChildNews::Progress { trial, step, loss, steps_per_second }
            }
            Message::Eval { trial, evaluation } => ChildNews::Eval { trial, evaluation },
            Message::Checkpoint { trial, step, path } => {
                ChildNews::Checkpoint { trial, step, path }
            }
            Message::Predictions { trial, split, path } => {
                match predictions::send(&self.shared.client, &path, self.stop.clone()).await {
                    Ok(hash) => {
                        predictions.entry(trial).or_default().push(Predictions { split, hash });
                    }
                    Err(why) => tracing::warn!(%trial, split, why, "predictions are not kept"),
                }
                return None;
            }
            Message::Done { trial, mut result, adapter } => {
                result.predictions = predictions.remove(&trial).unwrap_or_default();
                ChildNews::Done { trial, result, adapter }
            }
            Message::Failed { trial, class, message } => {
                ChildNews::Failed { trial, class, message }
            }
        })
    }

    async fn tell(&self, news: ChildNews) {
        // Before the slot is free: what failed may have failed for want of room.
        if let Some(look) = look_for_room(&news) {
            self.shared.tell_room(&self.events, look).await;
        }
        let event =
            Event::Child { slot: self.slot.record.slot, run: self.run, news: Box::new(news) };
        // The agent may have ended.
        let _ = self.events.send(event).await;
    }

    async fn prepare(&self) -> Result<Launch, NotBegun> {
        let Some(first) = self.pack.first() else {
            let source = io::Error::other("the pack is empty");
            return Err(NotBegun::Io { what: "run", path: PathBuf::new(), source });
        };
        let Shared { cache, client, .. } = &*self.shared;
        // A pack's members are trials of one sweep: one model, one set of files.
        let model = cache.model(client, first).await?;
        let (mut data, mut adapters) = (Vec::new(), Vec::new());
        for file in &first.data {
            let path = cache.blob(client, &file.name, &file.hash).await?;
            let (split, name) = (file.split.clone(), file.name.clone());
            if split == SOURCE {
                adapters.push(AdapterFile { name, path });
            } else {
                data.push(DataFile { split, name, path });
            }
        }
        let dir = self.shared.outbox.attempts().join(outbox::name(first.lease));
        let scratch = dir.join("scratch");
        let keys: Vec<LeaseKey> = self.pack.iter().map(|lease| lease.lease).collect();
        attempt::create(&dir, &scratch, &keys).map_err(|source| NotBegun::Io {
            what: "create",
            path: dir.clone(),
            source,
        })?;
        let mut trials = Vec::new();
        for lease in &self.pack {
            let resume = self.resume(&dir, lease).await?;
            let settings = lease.settings.clone();
            trials.push(Member { trial: lease.lease.trial, settings, resume });
        }
        let job = Job {
            protocol: PROTOCOL,
            model,
            model_files: first.model_files.clone(),
            data,
            adapters,
            scratch,
            device: self.slot.device(),
            threads: self.slot.record.threads,
            trials,
        };
        let environment = environment(std::env::vars_os(), &self.slot);
        let program = self.shared.setup.trainer.clone();
        Ok(Launch { program, environment, dir, job })
    }

    /// The checkpoint that a member continues from, fetched. One that the coordinator no longer
    /// has means a start from the beginning, not a failure.
    async fn resume(
        &self,
        dir: &Path,
        lease: &Assignment,
    ) -> Result<Option<PathBuf>, cache::Error> {
        let Some(checkpoint) = &lease.checkpoint else { return Ok(None) };
        let trial = lease.lease.trial;
        let path = dir.join(format!("resume-{trial}.safetensors"));
        let name = format!("checkpoint of trial {trial} at step {}", checkpoint.step);
        match self.shared.client.fetch(&checkpoint.hash, &path).await {
            Ok(()) => {}
            Err(FetchError::Missing(hash)) => {
                tracing::warn!(%trial, %hash, "the checkpoint is gone; the trial starts anew");
                return Ok(None);
            }
            Err(source) => return Err(cache::Error::Fetch { name, source }),
        }
        let file = path.clone();
        let hash = tokio::task::spawn_blocking(move || outbox::hash_file(&file)).await;
        match hash.map_err(io::Error::other).flatten() {
            Ok(hash) if hash == checkpoint.hash => Ok(self.large(path, trial).await),
            Ok(_) => Err(cache::Error::Damaged { name }),
            Err(source) => Err(cache::Error::Io { what: "read", path, source }),
        }
    }

    /// The checkpoint itself, where the coordinator holds only its name. One that is not here
    /// means a start from the beginning.
    async fn large(&self, path: PathBuf, trial: TrialId) -> Option<PathBuf> {
        let shelf = self.shared.outbox.shelf().clone();
        let found = tokio::task::spawn_blocking(move || shelf.resolve(path)).await;
        match found {
            Ok(Ok(path)) => Some(path),
            Ok(Err(error)) => {
                let why = chain(&error);
                tracing::warn!(%trial, why, "the checkpoint is not here; the trial starts anew");
                None
            }
            Err(error) => task_failed(&error),
        }
    }
}

/// How closely to look, where a full disk may be why.
fn look_for_room(news: &ChildNews) -> Option<Look> {
    match news {
        ChildNews::CannotRun { class: FailureClass::Infra, .. }
        | ChildNews::Failed { class: FailureClass::Infra, .. } => Some(Look::Closely),
        // So end children that have done everything, too: no closer look for each of them.
        ChildNews::Exited { class: FailureClass::Crashed, .. } => Some(Look::Briefly),
        _ => None,
    }
}

fn task_failed(error: &tokio::task::JoinError) -> Option<PathBuf> {
    tracing::warn!(%error, "a checkpoint could not be looked at; the trial starts anew");
    None
}

/// The first run of an attempt may have left a directory: the same files are made again.
pub(super) fn remake(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir(dir),
    }
}

/// The error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
