//! A node: the product's agent with a simulated disk, children and connection.

use std::collections::BTreeMap;

use deptune_sweep::id::{ArtifactHash, WorkerId};
use deptune_sweep::record::{SlotKind, SlotRecord};
use deptune_worker::Exit;
use deptune_worker::protocol::{
    Action, Agent, Answer, Call, CallError, CallKind, Config, Event, Identity, StopHow,
};
use uuid::Uuid;

use super::child::Child;
use super::clock::{Clock, TRUE};
use super::disk::Disk;
use super::message::{Message, Peer, Request, Response, Ticket};
use super::world::{Happening, World};

/// Deadlines of calls, in milliseconds, as the product's runtime sets them.
const SHORT: u64 = 10_000;
const LONG: u64 = 30_000;
const PATIENT: u64 = 90_000;
/// Ticks at one millisecond after which an agent is said to spin.
const SPIN: u32 = 200;

/// A node with an agent, or without one for now.
#[derive(Debug)]
pub(crate) struct Node {
    /// Counts the agent's starts.
    pub(crate) run: u64,
    /// Whether the agent runs.
    pub(crate) up: bool,
    /// Whether it is stopped by a signal.
    pub(crate) paused: bool,
    /// Its clocks.
    pub(crate) clock: Clock,
    /// Its directory; outlives the agent.
    pub(crate) disk: Disk,
    /// The agent.
    pub(crate) agent: Option<Agent>,
    /// What happened to it while it was paused.
    pub(crate) deferred: Vec<Happening>,
    slots: Vec<SlotRecord>,
    /// What it is labelled with.
    pub(crate) labels: Vec<String>,
    children: BTreeMap<u32, Child>,
    calls: BTreeMap<u64, Outgoing>,
    next_call: u64,
    server: usize,
    wake: Option<u64>,
    spin: (u64, u32),
}

#[derive(Debug)]
struct Outgoing {
    kind: CallKind,
    to: usize,
    to_run: u64,
}

impl Node {
    /// A node whose agent was never started.
    #[must_use]
    pub(crate) fn new(
        slots: u64,
        max_pack: u64,
        memory: Option<u64>,
        labels: Vec<String>,
        server: usize,
    ) -> Node {
        let slot = |slot: u64| SlotRecord {
            slot: u32::try_from(slot).unwrap_or(0),
            kind: SlotKind::Cpu,
            threads: 1,
            device: "simulated".to_owned(),
            max_pack: u32::try_from(max_pack).unwrap_or(1),
            memory,
        };
        Node {
            run: 0,
            up: false,
            paused: false,
            clock: Clock::new(0, TRUE),
            disk: Disk::default(),
            agent: None,
            deferred: Vec::new(),
            slots: (0..slots).map(slot).collect(),
            labels,
            children: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            server,
            wake: None,
            spin: (0, 0),
        }
    }
}

impl World {
    /// Starts the agent, with what its directory holds.
    pub(crate) fn start_node(&mut self, n: usize) {
        if self.nodes[n].up {
            return;
        }
        let at = self.queue.now();
        let rate = self.draw_rate();
        let rng = &mut self.chance.node;
        let worker = WorkerId(Uuid::from_u128(rng.u128()));
        let walltime = self.faulty && rng.per_mille(100);
        let drain_at = walltime.then(|| rng.within(20_000, 200_000));
        let config = Config {
            register_timeout: 60_000,
            idle_timeout: 300_000,
            hang_timeout: 60_000.max(self.profile.segment.1 * 2),
            drain_timeout: 30_000,
            drain_at,
            longest_wait: 10_000,
            seed: [rng.next(), rng.next()],
        };
        if walltime {
            self.counters.count("agent: walltime");
        }
        let node = &mut self.nodes[n];
        node.run += 1;
        node.up = true;
        node.paused = false;
        node.clock = Clock::new(at, rate);
        node.disk.full = false;
        node.wake = None;
        let me = Identity { worker, slots: node.slots.clone() };
        let estate = node.disk.estate();
        if estate.is_none() {
            node.disk.leave_lying();
        }
        let inherited = estate.iter().flat_map(|e| &e.trials);
        let (mut reports, mut checkpoints) = (0, 0);
        for trial in inherited {
            reports += u64::from(trial.report.is_some());
            checkpoints += u64::from(trial.checkpoint.is_some());
        }
        node.agent = Some(Agent::new(config, me, estate, 0));
        for (count, name) in [
            (reports, "outbox: inherited a report"),
            (checkpoints, "outbox: inherited a checkpoint"),
        ] {
            if count > 0 {
                self.counters.count(name);
            }
        }
        self.feed(n, Event::Tick);
    }

    /// Kills the agent and, with it, its children.
    pub(crate) fn kill_node(&mut self, n: usize, keeps_outbox: bool) {
        let finishes = self.chance.node.per_mille(500);
        let node = &mut self.nodes[n];
        node.up = false;
        node.paused = false;
        node.agent = None;
        node.children.clear();
        node.calls.clear();
        node.deferred.clear();
        node.disk.cut(finishes);
        if !keeps_outbox {
            node.disk = Disk::default();
        }
        let checked = self.checks.agent_died(n);
        self.verdict(checked);
    }

    /// Gives the agent an event and does what it says.
    pub(crate) fn feed(&mut self, n: usize, event: Event) {
        let at = self.queue.now();
        let node = &mut self.nodes[n];
        let Some(agent) = &mut node.agent else { return };
        if matches!(event, Event::Tick) {
            node.spin = if node.spin.0 == at { (at, node.spin.1 + 1) } else { (at, 0) };
            if node.spin.1 > SPIN {
                self.violation("I13", format!("the agent of node {n} wakes without end"));
                return;
            }
        }
        let local = node.clock.monotonic(at);
        for action in agent.step(event, local) {
            self.act(n, action);
        }
        self.plan_wake(n);
    }

    /// Plans the agent's next waking.
    pub(crate) fn plan_wake(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(wake) = node.agent.as_ref().and_then(Agent::wake) else { return };
        let Some(at) = node.clock.world(wake) else { return };
        if node.wake.is_none_or(|planned| at < planned) {
            node.wake = Some(at);
            self.queue.at(at, Happening::NodeWake(n, node.run, at));
        }
    }

    /// The agent's timer fires, unless it was set anew since.
    pub(crate) fn wake_node(&mut self, n: usize, at: u64) {
        if self.nodes[n].wake != Some(at) {
            return;
        }
        self.nodes[n].wake = None;
        self.feed(n, Event::Tick);
    }

    fn act(&mut self, n: usize, action: Action) {
        let run = self.nodes[n].run;
        match action {
            Action::Call(call) => self.call(n, call),
            Action::Start { slot, run: child_run, pack } => {
                let mut held = pack.iter().map(|lease| lease.checkpoint.as_ref());
                let there = held.all(|c| c.is_some_and(|c| self.artifacts.contains(&c.hash)));
                if there {
                    self.counters.count("trial: resumed from a checkpoint");
                    if pack.len() > 1 {
                        self.counters.count("trial: resumed in a pack");
                    }
                }
                let (profile, faulty, seed) = (&self.profile, self.faulty, self.seed);
                let rng = &mut self.chance.child;
                let child = Child::new(child_run, pack, profile, seed, faulty, there, rng);
                let wait = rng.within(5, 500);
                self.nodes[n].children.insert(slot, child);
                let plan = (child_run, 0);
                self.queue.after(wait, Happening::Child { n, run, slot, plan });
            }
            Action::Stop { slot, run: child_run, how } => self.stop_child(n, slot, child_run, how),
            Action::Drop { slot, run: child_run, lease } => {
                let child = self.nodes[n].children.get_mut(&slot).filter(|c| c.run == child_run);
                if child.is_some_and(|child| child.drop_member(lease.trial)) {
                    self.counters.count("pack: a member is taken away");
                }
            }
            Action::Exit(exit) => {
                if exit == Exit::NeverRegistered {
                    self.counters.count("agent: never registered");
                }
                self.nodes[n].disk.finish();
                self.leave_node(n);
            }
            Action::Fail(reason) => {
                self.violation("I15", format!("the agent of node {n} was refused: {reason}"));
            }
            Action::Forget(lease) => {
                let report = self.nodes[n].disk.report(lease);
                let checked = self.checks.forgotten(n, lease, report);
                self.verdict(checked);
                self.write(n, Action::Forget(lease));
            }
            action => self.write(n, action),
        }
    }

    fn leave_node(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.up = false;
        node.agent = None;
        node.children.clear();
        node.calls.clear();
        let checked = self.checks.agent_died(n);
        self.verdict(checked);
        let wait = self.chance.node.within(500, 20_000);
        self.queue.after(wait, Happening::StartNode(n));
    }

    fn stop_child(&mut self, n: usize, slot: u32, child_run: u64, how: StopHow) {
        let node = &mut self.nodes[n];
        let Some(child) = node.children.get_mut(&slot).filter(|c| c.run == child_run) else {
            return;
        };
        let (wait, fault) = child.stop(how, &mut self.chance.child);
        let plan = (child.run, child.plan);
        let run = node.run;
        if let Some(name) = fault {
            self.counters.count(name);
        }
        if let Some(wait) = wait {
            self.queue.after(wait, Happening::Child { n, run, slot, plan });
        }
    }

    /// A child does its next thing.
    pub(crate) fn child_acts(&mut self, n: usize, slot: u32, plan: (u64, u64)) {
        let node = &mut self.nodes[n];
        let (run, child) = (node.run, node.children.get_mut(&slot));
        let Some(child) = child.filter(|c| (c.run, c.plan) == plan) else { return };
        let act = child.act(&mut self.chance.child);
        if act.gone {
            node.children.remove(&slot);
        }
        for name in act.faults {
            self.counters.count(name);
        }
        if let Some(wait) = act.next {
            self.queue.after(wait, Happening::Child { n, run, slot, plan });
        }
        for news in act.news {
            self.feed(n, Event::Child { slot, run: plan.0, news: Box::new(news) });
        }
    }

    fn write(&mut self, n: usize, action: Action) {
        let node = &mut self.nodes[n];
        node.disk.work.push_back(action);
        if !node.disk.busy {
            node.disk.busy = true;
            let wait = self.chance.node.within(0, 15);
            self.queue.after(wait, Happening::DiskDone(n, node.run));
        }
    }

    /// The disk has done one thing.
    pub(crate) fn disk_done(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(action) = node.disk.work.pop_front() else { return };
        let full = node.disk.full;
        let event = node.disk.carry_out(action);
        if full {
            self.counters.count("agent: disk full");
        }
        let node = &mut self.nodes[n];
        node.disk.busy = !node.disk.work.is_empty();
        if node.disk.busy {
            let wait = self.chance.node.within(0, 15);
            self.queue.after(wait, Happening::DiskDone(n, node.run));
        }
        if full {
            self.look_for_room(n);
        }
        if let Some(event) = event {
            self.feed(n, event);
        }
    }

    /// Somebody fills the disk, or makes room; the agent looks now and then.
    pub(crate) fn fill_disk(&mut self, n: usize, full: bool) {
        self.nodes[n].disk.full = full;
        let wait = self.chance.fault.within(0, 5_000);
        self.queue.after(wait, Happening::Look(n, self.nodes[n].run));
    }

    /// The agent looks whether its disk has room.
    pub(crate) fn look_for_room(&mut self, n: usize) {
        let enough = !self.nodes[n].disk.full;
        self.feed(n, Event::Room { enough });
    }

    fn call(&mut self, n: usize, call: Call) {
        let node = &mut self.nodes[n];
        node.next_call += 1;
        let id = node.next_call;
        let ticket = Ticket { peer: Peer::Node(n), run: node.run, call: id };
        let (kind, timeout) = match &call {
            Call::Register { .. } => (CallKind::Register, SHORT),
            Call::Exchange { request_id, reports, .. } => {
                let timeout = if reports.is_empty() { PATIENT } else { LONG };
                (CallKind::Exchange(*request_id), timeout)
            }
            Call::Heartbeat { .. } => (CallKind::Heartbeat, SHORT),
            Call::Progress { .. } => (CallKind::Progress, LONG),
            Call::Upload { lease, file, kept } => {
                let (lease, file, hash) = (*lease, *file, kept.hash.clone());
                (CallKind::Upload { lease, file, hash }, LONG)
            }
            Call::Leave { .. } => (CallKind::Leave, SHORT),
        };
        let to = node.server;
        let to_run = self.processes[to].run;
        node.calls.insert(id, Outgoing { kind, to, to_run });
        let run = node.run;
        let checked = self.checks.called(n, &call);
        self.verdict(checked);
        self.queue.after(timeout, Happening::Deadline { n, run, call: id });
        let request = Request::Worker(call);
        self.transmit(Message::Up { to, ticket, request, timeout });
    }

    /// What an agent hears once its upload is stored.
    #[must_use]
    pub(crate) fn upload_answer(&self, ticket: Ticket, hash: ArtifactHash) -> Option<Answer> {
        let Peer::Node(n) = ticket.peer else { return None };
        let node = self.nodes.get(n).filter(|node| node.run == ticket.run)?;
        match node.calls.get(&ticket.call)?.kind {
            CallKind::Upload { lease, file, .. } => Some(Answer::Uploaded { lease, file, hash }),
            _ => None,
        }
    }

    /// An answer has come.
    pub(crate) fn node_hears(&mut self, n: usize, ticket: Ticket, response: Response) {
        let node = &mut self.nodes[n];
        if node.run != ticket.run {
            return;
        }
        let Some(outgoing) = node.calls.remove(&ticket.call) else { return };
        let event = match response {
            Response::Worker(Ok(answer)) => {
                let checked = self.checks.heard(n, &answer);
                self.verdict(checked);
                Event::Answered(answer)
            }
            Response::Worker(Err(error)) => {
                self.call_failed(n, &error, &outgoing);
                let node_error = error;
                Event::CallFailed { call: outgoing.kind, error: node_error }
            }
            Response::Client(_) => return,
        };
        self.feed(n, event);
    }

    fn call_failed(&mut self, n: usize, error: &CallError, outgoing: &Outgoing) {
        let checked = self.checks.call_failed(n, &outgoing.kind, error);
        self.verdict(checked);
        // The next address is tried.
        let node = &mut self.nodes[n];
        if matches!(error, CallError::Unreachable(_)) && node.server == outgoing.to {
            node.server = (node.server + 1) % self.processes.len();
        }
    }

    /// A call has waited long enough.
    pub(crate) fn deadline(&mut self, n: usize, call: u64) {
        let Some(outgoing) = self.nodes[n].calls.remove(&call) else { return };
        let error = CallError::Unreachable("no answer in time".to_owned());
        self.call_failed(n, &error, &outgoing);
        self.feed(n, Event::CallFailed { call: outgoing.kind, error });
    }

    /// A coordinator has died: most of who waits for it learns so from the network.
    pub(crate) fn reset_callers(&mut self, c: usize) {
        let run = self.processes[c].run;
        for n in 0..self.nodes.len() {
            let node = &self.nodes[n];
            let cut = self.net.cut.contains(&(Peer::Node(n), c, false));
            if !node.up || cut {
                continue;
            }
            let lost: Vec<u64> = node
                .calls
                .iter()
                .filter(|(_, call)| call.to == c && call.to_run == run)
                .map(|(&id, _)| id)
                .collect();
            for call in lost {
                if self.chance.net.per_mille(700) {
                    let ticket = Ticket { peer: Peer::Node(n), run: node.run, call };
                    let error = CallError::Unreachable("connection reset".to_owned());
                    let response = Response::Worker(Err(error));
                    let message = Message::Down { from: c, ticket, response };
                    let wait = self.chance.net.within(1, 12);
                    self.queue.after(wait, Happening::Arrive(Box::new(message)));
                }
            }
        }
    }
}
