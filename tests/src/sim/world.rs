//! A world: coordinators, agents, clients, a store and a network in one thread, from one seed.

use std::collections::BTreeSet;

use deptune_coordinator::store::MemoryDatabase;
use deptune_sweep::id::{ArtifactHash, RequestId};
use deptune_sweep::scheduler::Control;

use super::client::{Client, Told};
use super::coordinator::Process;
use super::counters::Counters;
use super::faults::Relief;
use super::files::Files;
use super::invariants::{Broken, Checks, Scan};
use super::message::{Message, Peer, Ticket};
use super::net::Net;
use super::node::Node;
use super::profile::{LABEL, MAX_PACK, Profile, Size};
use super::queue::Queue;
use super::rng::{Rng, mix};
use super::trace::Trace;

/// Something that will happen. The second number of a process's own is its run: what was planned
/// by an earlier run does not happen.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// A message is there.
    Arrive(Box<Message>),
    /// A coordinator is started.
    StartCoordinator(usize),
    /// Time passes for a coordinator.
    CoordinatorTick(usize, u64),
    /// A coordinator steps what waits.
    Turn(usize, u64),
    /// The store takes a coordinator's commit.
    Commit(usize, u64),
    /// A coordinator learns of it.
    CommitDone(usize, u64),
    /// A coordinator loads the store again.
    Reload(usize, u64),
    /// An upload is durable.
    Stored {
        /// On which coordinator.
        c: usize,
        /// Its run.
        run: u64,
        /// The call.
        ticket: Ticket,
        /// The file.
        hash: ArtifactHash,
    },
    /// A request has waited long enough for trials.
    PatienceOver {
        /// On which coordinator.
        c: usize,
        /// Its run.
        run: u64,
        /// Which.
        id: u64,
    },
    /// An agent is started.
    StartNode(usize),
    /// An agent's timer fires, which was set for this time.
    NodeWake(usize, u64, u64),
    /// An agent's disk has done one thing.
    DiskDone(usize, u64),
    /// An agent looks whether its disk has room.
    Look(usize, u64),
    /// A call of an agent has waited long enough.
    Deadline {
        /// Of which node.
        n: usize,
        /// Its run.
        run: u64,
        /// Which.
        call: u64,
    },
    /// A child does its next thing.
    Child {
        /// On which node.
        n: usize,
        /// The agent's run.
        run: u64,
        /// The slot.
        slot: u32,
        /// The child's run and plan.
        plan: (u64, u64),
    },
    /// A client does its next thing.
    Client(usize),
    /// A client has waited long enough.
    ClientTimeout(usize, u64),
    /// Something goes wrong.
    Fault,
    /// Something is well again.
    Relief(Relief),
    /// All faults end.
    Calm,
}

impl Happening {
    /// What distinguishes it, for the trace.
    #[must_use]
    pub(crate) fn stamp(&self) -> (u8, u64, u64) {
        let wide = |n: &usize| *n as u64;
        match self {
            Happening::Arrive(message) => {
                let (peer, c, up) = message.link();
                let peer = match peer {
                    Peer::Node(n) => n as u64,
                    Peer::Client(k) => 1 << 32 | k as u64,
                };
                (1, peer << 2 | u64::from(up), wide(&c))
            }
            Happening::StartCoordinator(c) => (2, wide(c), 0),
            Happening::CoordinatorTick(c, run) => (3, wide(c), *run),
            Happening::Turn(c, run) => (4, wide(c), *run),
            Happening::Commit(c, run) => (5, wide(c), *run),
            Happening::CommitDone(c, run) => (6, wide(c), *run),
            Happening::Reload(c, run) => (7, wide(c), *run),
            Happening::Stored { c, run, .. } => (8, wide(c), *run),
            Happening::PatienceOver { c, id, .. } => (9, wide(c), *id),
            Happening::StartNode(n) => (10, wide(n), 0),
            Happening::NodeWake(n, run, _) => (11, wide(n), *run),
            Happening::DiskDone(n, run) => (12, wide(n), *run),
            Happening::Deadline { n, call, .. } => (13, wide(n), *call),
            Happening::Child { n, plan, .. } => (14, wide(n), plan.0 << 8 | plan.1),
            Happening::Client(k) => (15, wide(k), 0),
            Happening::ClientTimeout(k, call) => (16, wide(k), *call),
            Happening::Fault => (17, 0, 0),
            Happening::Relief(_) => (18, 0, 0),
            Happening::Calm => (19, 0, 0),
            Happening::Look(n, run) => (20, wide(n), *run),
        }
    }

    /// The coordinator or the node that it happens to, with the run that it belongs to.
    fn whose(&self) -> Option<(Whose, Option<u64>)> {
        Some(match self {
            Happening::CoordinatorTick(c, run)
            | Happening::Turn(c, run)
            | Happening::CommitDone(c, run)
            | Happening::Reload(c, run)
            | Happening::Stored { c, run, .. }
            | Happening::PatienceOver { c, run, .. } => (Whose::Coordinator(*c), Some(*run)),
            Happening::NodeWake(n, run, _)
            | Happening::DiskDone(n, run)
            | Happening::Look(n, run)
            | Happening::Deadline { n, run, .. }
            | Happening::Child { n, run, .. } => (Whose::Node(*n), Some(*run)),
            Happening::Arrive(message) => match **message {
                Message::Up { to, .. } => (Whose::Coordinator(to), None),
                Message::Down { ticket: Ticket { peer: Peer::Node(n), .. }, .. } => {
                    (Whose::Node(n), None)
                }
                Message::Down { .. } => return None,
            },
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum Whose {
    Coordinator(usize),
    Node(usize),
}

/// The streams of chance.
#[derive(Debug)]
pub(crate) struct Chance {
    /// The network's.
    pub(crate) net: Rng,
    /// The stores'.
    pub(crate) store: Rng,
    /// The nodes'.
    pub(crate) node: Rng,
    /// The children's.
    pub(crate) child: Rng,
    /// The clients'.
    pub(crate) client: Rng,
    /// The faults'.
    pub(crate) fault: Rng,
}

/// A world.
#[derive(Debug)]
pub(crate) struct World {
    /// Its seed.
    pub(crate) seed: u64,
    /// Its dimensions.
    pub(crate) profile: Profile,
    /// Chance.
    pub(crate) chance: Chance,
    /// What is going to happen.
    pub(crate) queue: Queue<Happening>,
    /// The links.
    pub(crate) net: Net,
    /// The database that the coordinators share.
    pub(crate) database: MemoryDatabase,
    /// Its newest generation.
    pub(crate) generation: i64,
    /// The files that the coordinators share.
    pub(crate) artifacts: Files,
    /// Whether the coordinators' disk is full.
    pub(crate) disk_full: bool,
    /// Coordinators.
    pub(crate) processes: Vec<Process>,
    /// Nodes.
    pub(crate) nodes: Vec<Node>,
    /// Clients.
    pub(crate) clients: Vec<Client>,
    /// Whether faults happen.
    pub(crate) faulty: bool,
    /// Ledger and invariants.
    pub(crate) checks: Checks,
    /// What happened how often.
    pub(crate) counters: Counters,
    /// What happened, in one hash.
    pub(crate) trace: Trace,
    /// Numbers the requests that wait for trials.
    pub(crate) parkings: u64,
    /// Submissions that the network repeated.
    pub(crate) repeated: BTreeSet<RequestId>,
    /// Events so far.
    pub(crate) events: u64,
    broken: Option<Broken>,
}

impl World {
    /// The world of a seed, at its beginning.
    #[must_use]
    pub(crate) fn new(seed: u64, size: Size) -> World {
        let mut rng = Rng::new(seed ^ mix(size as u64));
        let profile = Profile::draw(size, &mut rng);
        let chance = Chance {
            net: rng.fork(1),
            store: rng.fork(2),
            node: rng.fork(3),
            child: rng.fork(4),
            client: rng.fork(5),
            fault: rng.fork(6),
        };
        let mut world = World {
            seed,
            chance,
            queue: Queue::new(),
            net: Net::default(),
            database: MemoryDatabase::default(),
            generation: 0,
            artifacts: Files::default(),
            disk_full: false,
            processes: vec![Process::new(), Process::new()],
            nodes: (0..profile.nodes)
                .map(|n| {
                    let labels = if n % 3 == 0 { vec![LABEL.to_owned()] } else { Vec::new() };
                    let (slots, max_pack) = (rng.within(1, profile.slots), rng.within(1, MAX_PACK));
                    // Room for one trial or for some, by the estimate.
                    let memory = rng.per_mille(700).then(|| rng.within(200 << 20, 206 << 20));
                    Node::new(slots, max_pack, memory, labels, n % 2)
                })
                .collect(),
            clients: (0..profile.clients)
                .map(|_| Client::new(profile.sweeps, profile.changes))
                .collect(),
            faulty: true,
            checks: Checks::default(),
            counters: Counters::default(),
            trace: Trace::default(),
            parkings: 0,
            repeated: BTreeSet::new(),
            events: 0,
            broken: None,
            profile,
        };
        world.queue.at(0, Happening::StartCoordinator(0));
        for n in 0..world.nodes.len() {
            let at = rng.within(0, 5_000);
            world.queue.at(at, Happening::StartNode(n));
        }
        for k in 0..world.clients.len() {
            let at = rng.within(0, 10_000);
            world.plan_client(k, at);
        }
        let first = rng.within(2_000, 10_000);
        world.queue.at(first, Happening::Fault);
        world.queue.at(world.profile.faulty, Happening::Calm);
        world
    }

    /// Lets everything happen.
    ///
    /// # Errors
    /// The first violated invariant.
    pub(crate) fn run(&mut self) -> Result<(), Broken> {
        let end = self.profile.faulty + self.profile.patience;
        while let Some((sequence, what)) = self.queue.pop() {
            self.events += 1;
            self.trace.happening(self.queue.now(), sequence, &what);
            self.happen(what);
            if self.events.is_multiple_of(self.profile.scan_every) {
                self.scan();
            }
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            if !self.faulty && self.events.is_multiple_of(64) && self.is_over() {
                self.scan();
                self.last_words();
                return self.broken.take().map_or(Ok(()), Err);
            }
            if self.queue.now() > end {
                return Err(Broken::new("I13", self.unfinished()));
            }
        }
        Err(Broken::new("I13", "nothing happens any more".to_owned()))
    }

    fn happen(&mut self, what: Happening) {
        match what.whose() {
            Some((Whose::Coordinator(c), run)) => {
                let process = &mut self.processes[c];
                if run.is_some_and(|run| run != process.run || !process.up) {
                    return;
                }
                if process.up && process.paused {
                    process.deferred.push(what);
                    return;
                }
            }
            Some((Whose::Node(n), run)) => {
                let node = &mut self.nodes[n];
                if run.is_some_and(|run| run != node.run || !node.up) {
                    return;
                }
                if node.up && node.paused {
                    node.deferred.push(what);
                    return;
                }
            }
            None => {}
        }
        match what {
            Happening::Arrive(message) => self.arrive(*message),
            Happening::StartCoordinator(c) => self.start_coordinator(c),
            Happening::CoordinatorTick(c, _) => self.coordinator_tick(c),
            Happening::Turn(c, _) => self.turn(c),
            Happening::Commit(c, run) => {
                // The database does not stop with the process.
                if self.processes[c].run == run && self.processes[c].up {
                    self.commit(c);
                }
            }
            Happening::CommitDone(c, _) => self.commit_done(c),
            Happening::Reload(c, _) => self.load(c),
            Happening::Stored { c, ticket, hash, .. } => self.stored(c, ticket, hash),
            Happening::PatienceOver { c, id, .. } => self.patience_over(c, id),
            Happening::StartNode(n) => self.start_node(n),
            Happening::NodeWake(n, _, at) => self.wake_node(n, at),
            Happening::DiskDone(n, _) => self.disk_done(n),
            Happening::Look(n, _) => self.look_for_room(n),
            Happening::Deadline { n, call, .. } => self.deadline(n, call),
            Happening::Child { n, slot, plan, .. } => self.child_acts(n, slot, plan),
            Happening::Client(k) => self.client_acts(k),
            Happening::ClientTimeout(k, call) => self.client_timeout(k, call),
            Happening::Fault => self.fault(),
            Happening::Relief(relief) => self.relieve(relief),
            Happening::Calm => self.calm(),
        }
    }

    /// Remembers the first violation.
    pub(crate) fn verdict(&mut self, checked: Result<(), Broken>) {
        if let Err(broken) = checked
            && self.broken.is_none()
        {
            self.broken = Some(broken);
        }
    }

    /// An invariant is violated.
    pub(crate) fn violation(&mut self, id: &'static str, words: String) {
        self.verdict(Err(Broken::new(id, words)));
    }

    /// Looks at everything.
    fn scan(&mut self) {
        let at = self.queue.now();
        let leader = self.processes.iter().find(|p| p.up && p.generation == self.generation);
        if leader.is_none_or(|p| p.store.is_none()) {
            return;
        }
        let scheduler = leader.and_then(|p| p.scheduler.as_ref().map(|s| (s, p.clock.now(at))));
        let checkpoints = self.nodes.iter().map(|n| n.disk.most_checkpoints()).max();
        let (checks, artifacts) = (&mut self.checks, &self.artifacts);
        let checked = self.database.with_trials(|trials| {
            let checkpoints = checkpoints.unwrap_or(0);
            checks.scan(&Scan { scheduler, trials, artifacts, checkpoints })
        });
        self.verdict(checked);
    }

    fn is_over(&self) -> bool {
        self.clients.iter().all(Client::is_done)
            && self.checks.ledger.sweeps.values().all(|s| s.ended == s.record.total)
            && self.nodes.iter().all(|n| n.up && n.disk.reported().next().is_none())
            && self.processes.iter().any(|p| p.up && p.scheduler.is_some())
    }

    fn unfinished(&self) -> String {
        let sweeps = self.checks.ledger.sweeps.values().filter(|s| s.ended < s.record.total);
        let sweeps: Vec<String> = sweeps
            .map(|s| {
                format!(
                    "{}: {}/{} ended, {} leased",
                    s.record.id, s.ended, s.record.total, s.leased
                )
            })
            .collect();
        let held = self.nodes.iter().enumerate().flat_map(|(n, node)| {
            node.disk
                .reported()
                .map(move |lease| format!("{} at {} on {n}", lease.trial, lease.epoch))
        });
        let reports: Vec<String> = held.collect();
        let clients = self.clients.iter().filter(|c| !c.is_done()).count();
        let down = self.nodes.iter().filter(|n| !n.up).count();
        format!(
            "not over long after the last fault: sweeps {sweeps:?}, reports {reports:?} in outboxes, \
             {clients} clients not done, {down} agents down"
        )
    }

    /// What clients were told, against what there is.
    fn last_words(&mut self) {
        let ledger = &self.checks.ledger;
        let mut wrong = Vec::new();
        for client in &self.clients {
            for (request, told) in &client.told {
                let stored = ledger.submitted(*request);
                match told {
                    Told::Acknowledged(sweep) if stored != Some(*sweep) => {
                        wrong.push(format!("{request}: told {sweep}, stored {stored:?}"));
                    }
                    Told::Refused if stored.is_some() && !self.repeated.contains(request) => {
                        wrong.push(format!("{request}: told refused, stored {stored:?}"));
                    }
                    _ => {}
                }
            }
        }
        if let Some(words) = wrong.into_iter().next() {
            self.violation("I7", words);
        }
        let changed = self.clients.iter().flat_map(|client| &client.changed);
        let told =
            changed.map(|done| (done.request_id, done.sweep, done.control == Control::Cancel));
        for (request, sweep, cancels) in told.collect::<Vec<_>>() {
            let checked = self.checks.control_acknowledged(request, sweep, cancels);
            self.verdict(checked);
        }
    }
}
