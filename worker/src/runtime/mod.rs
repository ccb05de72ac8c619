//! Carries out what the protocol decides: calls over gRPC, children, files, time.
//!
//! One loop holds the [`Agent`] and never waits for anything but events; calls, packs and logs are
//! tasks, the outbox is written by a thread. So a slow upload or a stuck disk delays no heartbeat.

mod artifact;
mod attempt;
mod calls;
mod client;
mod disk;
mod held;
mod logs;
mod pack;
mod predictions;
mod room;
mod setup;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deptune_sweep::child::Order;
use deptune_sweep::id::WorkerId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cache::Cache;
use crate::child::Spawner;
use crate::outbox::Outbox;
use crate::protocol::{Action, Agent, Config, Event, Identity, Millis, StopHow};
use crate::slot::{self, Slot};
use crate::{Error, Exit, Options};

use client::Client;
use held::Held;
use logs::Logs;
use pack::Run;
use room::{Look, Room};
use setup::Setup;

/// Events that may wait; whoever brings more waits, too.
const WAITING: usize = 1024;

/// Longest wait between two tries to reach the only coordinator.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The same where one of several takes over within seconds.
const TAKEOVER_WAIT: Duration = Duration::from_secs(1);

/// What the tasks share.
struct Shared {
    setup: Setup,
    client: Client,
    outbox: Arc<Outbox>,
    cache: Cache,
    spawner: Spawner,
    logs: Logs,
    room: Arc<Room>,
    held: Arc<Held>,
}

/// See [`crate::run`].
pub(crate) async fn run(options: Options, shutdown: CancellationToken) -> Result<Exit, Error> {
    let setup = Setup::resolve(&options)?;
    let slot_options = options.slots;
    let trainer = setup.trainer.clone();
    let discover = move || slot::discover(&slot_options, &trainer);
    let discovered = tokio::task::spawn_blocking(discover).await;
    let slots = discovered.map_err(|error| Error::Options(error.to_string()))??;
    let outbox = Outbox::open(&setup.state_dir)?;
    let outbox = Arc::new(match setup.artifact_dir.clone() {
        Some(dir) => outbox.sharing(dir),
        None => outbox,
    });
    let (hub, most) = (options.hub.clone(), options.max_cache_bytes);
    let cache = Cache::open(&setup.cache_dir, &options.model_roots, hub, most)?;
    let thread = |source| Error::Io { what: "start threads for", path: PathBuf::new(), source };
    let spawner = Spawner::start().map_err(thread)?;
    let client = Client::new(&setup.servers, options.token.clone());
    let estate = outbox.estate();

    let started = Instant::now();
    let config = config(&options, setup.drain_in);
    let records = slots.iter().map(|slot| slot.record.clone()).collect();
    let me = Identity { worker: WorkerId(Uuid::new_v4()), slots: records };
    let worker = me.worker;
    tracing::info!(
        %worker,
        name = setup.name,
        slots = slots.len(),
        state = %setup.state_dir.display(),
        trainer = %setup.trainer.display(),
        "the worker starts"
    );
    let agent = Agent::new(config, me, estate, 0);
    let (events, received) = mpsc::channel(WAITING);
    let held = Arc::new(Held::default());
    let room = Arc::new(Room::new(setup.state_dir.clone()));
    let (disk, writer) =
        disk::start(Arc::clone(&outbox), Arc::clone(&held), Arc::clone(&room), events.clone())
            .map_err(thread)?;
    let logs = Logs::default();
    let shared = Arc::new(Shared { setup, client, outbox, cache, spawner, logs, room, held });
    shared.logs.inherit(&shared);
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_room(Arc::clone(&shared), events.clone()));
    let reins = BTreeMap::new();
    let node = Node { shared: Arc::clone(&shared), slots, events, disk, tasks, reins };
    let end = node.live(agent, received, started, shutdown).await;
    shared.logs.finish().await;
    // The node is gone, and with it the thread's last task.
    let _ = tokio::task::spawn_blocking(move || writer.join()).await;
    end
}

fn config(options: &Options, drain_in: Option<Duration>) -> Config {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    Config {
        register_timeout: millis(options.register_timeout),
        idle_timeout: millis(options.idle_timeout),
        hang_timeout: millis(options.hang_timeout),
        drain_timeout: millis(options.drain_timeout),
        drain_at: drain_in.map(millis),
        longest_wait: millis(if options.servers.len() > 1 { TAKEOVER_WAIT } else { LONGEST_WAIT }),
        seed: [high, low],
    }
}

fn millis(time: Duration) -> Millis {
    // Far enough: sums of two never overflow.
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

/// The hands of the agent.
struct Node {
    shared: Arc<Shared>,
    slots: Vec<Slot>,
    events: mpsc::Sender<Event>,
    disk: std::sync::mpsc::Sender<Action>,
    /// Calls and packs; dropped with the node, which kills the children.
    tasks: JoinSet<()>,
    /// How to reach the run of a slot.
    reins: BTreeMap<u32, Rein>,
}

/// What a run can be told.
struct Rein {
    run: u64,
    stop: watch::Sender<Option<StopHow>>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Node {
    async fn live(
        mut self,
        mut agent: Agent,
        mut received: mpsc::Receiver<Event>,
        started: Instant,
        shutdown: CancellationToken,
    ) -> Result<Exit, Error> {
        let mut told = false;
        loop {
            let wake = agent.wake().map(|at| started + Duration::from_millis(at));
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled(), if !told => {
                    told = true;
                    tracing::info!("the worker is told to go; its trials checkpoint and go back");
                    Event::Drain
                }
                () = until(wake) => Event::Tick,
                Some(event) = received.recv() => event,
                Some(_) = self.tasks.join_next() => continue,
            };
            for action in agent.step(event, millis(started.elapsed())) {
                match action {
                    Action::Exit(exit) => {
                        tracing::info!(?exit, "the worker ends");
                        return Ok(exit);
                    }
                    Action::Fail(reason) => return Err(Error::Refused { reason }),
                    action => self.act(action),
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Call(call) => {
                let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
                self.tasks.spawn(async move {
                    let event = calls::perform(shared, call).await;
                    // The agent may have ended.
                    let _ = events.send(event).await;
                });
            }
            Action::Start { slot, run, pack } => {
                let Some(slot) = self.slots.iter().find(|s| s.record.slot == slot) else { return };
                self.shared.held.add(pack.iter().map(|lease| lease.lease));
                let (stop, stopped) = watch::channel(None);
                // At most one order for each member.
                let (orders, ordered) = mpsc::unbounded_channel();
                self.reins.insert(slot.record.slot, Rein { run, stop, orders });
                let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
                let slot = slot.clone();
                let run = Run { shared, slot, run, pack, stop: stopped, orders: ordered, events };
                self.tasks.spawn(run.go());
            }
            Action::Stop { slot, run, how } => {
                if let Some(rein) = self.reins.get(&slot).filter(|rein| rein.run == run) {
                    rein.stop.send_replace(Some(how));
                }
            }
            Action::Drop { slot, run, lease } => {
                if let Some(rein) = self.reins.get(&slot).filter(|rein| rein.run == run) {
                    // A run that has ended needs no orders.
                    let _ = rein.orders.send(Order::Drop { trial: lease.trial });
                }
            }
            // The thread lives as long as the node.
            action => drop(self.disk.send(action)),
        }
    }
}

/// Looks again and again whether there is room.
async fn watch_room(shared: Arc<Shared>, events: mpsc::Sender<Event>) {
    loop {
        shared.tell_room(&events, Look::Briefly).await;
        tokio::time::sleep(room::EVERY).await;
    }
}

impl Shared {
    /// Looks whether there is room, and tells the agent.
    async fn tell_room(&self, events: &mpsc::Sender<Event>, look: Look) {
        let (room, events) = (Arc::clone(&self.room), events.clone());
        // One that was cut off with the runtime has nobody to tell.
        let _ = tokio::task::spawn_blocking(move || room.tell(look, &events)).await;
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
