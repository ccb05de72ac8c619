//! Faults that are planned one by one: kills, pauses, cuts, clocks, full disks.

use super::clock::TRUE;
use super::coordinator::CrashPoint;
use super::front::Caller;
use super::message::Peer;
use super::profile::Size;
use super::world::{Happening, World};
use deptune_sweep::scheduler::Event;
use deptune_worker::protocol::Event as AgentEvent;

/// What ends again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Relief {
    /// A link is mended, in one direction.
    Mend(Peer, usize, bool),
    /// A link lets go of what it holds.
    Unclog(Peer, usize),
    /// A flapping link changes; this many changes are left.
    Flap(Peer, usize, u32),
    /// An agent's disk has room again.
    AgentDisk(usize, u64),
    /// The coordinators' disk has room again.
    CoordinatorDisk,
    /// A paused agent goes on.
    ResumeNode(usize, u64),
    /// A paused coordinator goes on.
    ResumeCoordinator(usize, u64),
    /// A coordinator's monotonic clock goes on.
    CoordinatorClock(usize, u64),
    /// An agent's monotonic clock goes on.
    NodeClock(usize, u64),
}

impl World {
    /// A clock's speed: most are right, some drift by up to a twentieth.
    pub(crate) fn draw_rate(&mut self) -> u64 {
        if !self.faulty || self.chance.fault.per_mille(500) {
            return TRUE;
        }
        self.counters.count("clock: drift");
        self.chance.fault.within(TRUE - TRUE / 20, TRUE + TRUE / 20)
    }

    /// Something goes wrong, and the next thing is planned.
    pub(crate) fn fault(&mut self) {
        if !self.faulty {
            return;
        }
        let every = self.profile.fault_every;
        let wait = self.chance.fault.within(every / 4, every * 2);
        self.queue.after(wait, Happening::Fault);
        if self.profile.size == Size::Large && self.chance.fault.per_mille(900) {
            // Churn: a tenth of the workers a minute.
            let n = self.chance.fault.index(self.nodes.len());
            self.strike_kill_agent(n);
            return;
        }
        let n = self.chance.fault.index(self.nodes.len());
        match self.chance.fault.below(23) {
            0..=2 => self.strike_coordinator_kill(),
            3 => self.strike_coordinator_pause(),
            4 | 20 | 21 => self.strike_takeover(),
            5..=6 => self.strike_kill_agent(n),
            7 => self.strike_agent_pause(n),
            8 => self.strike_agent_disk(n),
            9 if self.nodes[n].up && !self.nodes[n].paused => {
                self.counters.count("agent: drained");
                self.feed(n, AgentEvent::Drain);
            }
            22 => self.strike_drain(),
            10..=11 => self.strike_partition(),
            12 => self.strike_flap(),
            13 => self.strike_clog(),
            14 => self.strike_slow(),
            15..=16 => self.strike_clock(n),
            17 if !self.disk_full => {
                self.disk_full = true;
                let wait = self.chance.fault.within(1_000, 30_000);
                self.queue.after(wait, Happening::Relief(Relief::CoordinatorDisk));
            }
            // Sometimes nothing.
            _ => {}
        }
    }

    fn running(&mut self) -> Option<usize> {
        self.processes.iter().position(|p| p.up && !p.paused)
    }

    fn strike_coordinator_kill(&mut self) {
        let Some(c) = self.running() else { return };
        let point = match self.chance.fault.below(5) {
            0 => Some(CrashPoint::BeforeStep),
            1 => Some(CrashPoint::BeforeCommit),
            2 => Some(CrashPoint::AfterCommit),
            3 => Some(CrashPoint::AmidReplies),
            _ => None,
        };
        if point.is_some() {
            self.processes[c].crash_at = point;
            return;
        }
        self.counters.count("coordinator: killed at any time");
        self.kill_coordinator(c);
        self.restart_soon(c);
    }

    /// A supervisor starts it again, or its rival.
    pub(crate) fn restart_soon(&mut self, c: usize) {
        let other = self.chance.fault.index(self.processes.len());
        let next = if self.chance.fault.per_mille(300) { other } else { c };
        let wait = self.chance.fault.within(200, 20_000);
        self.queue.after(wait, Happening::StartCoordinator(next));
    }

    /// A person has a worker end.
    fn strike_drain(&mut self) {
        let Some(c) = self.running() else { return };
        let known = self.processes[c].scheduler.as_ref().map(|it| it.workers(None, usize::MAX));
        let known = known.unwrap_or_default();
        if known.is_empty() {
            return;
        }
        let worker = known[self.chance.fault.index(known.len())].record.id;
        self.counters.count("operator: drains a worker");
        self.command(c, Event::Drain { worker }, Caller::operator(worker));
    }

    fn strike_coordinator_pause(&mut self) {
        let Some(c) = self.running() else { return };
        self.counters.count("coordinator: paused");
        self.processes[c].paused = true;
        let run = self.processes[c].run;
        let wait = self.chance.fault.within(500, 60_000);
        self.queue.after(wait, Happening::Relief(Relief::ResumeCoordinator(c, run)));
    }

    fn strike_takeover(&mut self) {
        let Some(c) = self.running() else { return };
        let Some(rival) = (0..self.processes.len()).find(|&i| i != c && !self.processes[i].up)
        else {
            return;
        };
        self.counters.count("coordinator: taken over");
        self.processes[c].paused = true;
        let run = self.processes[c].run;
        self.start_coordinator(rival);
        // A short stop is worse: the old one does not notice that time has passed.
        let most = if self.chance.fault.per_mille(500) { 900 } else { 60_000 };
        let wait = self.chance.fault.within(20, most);
        self.queue.after(wait, Happening::Relief(Relief::ResumeCoordinator(c, run)));
    }

    fn strike_kill_agent(&mut self, n: usize) {
        if !self.nodes[n].up {
            return;
        }
        let keeps = self.chance.fault.per_mille(700);
        self.counters.count(if keeps {
            "agent: killed, outbox kept"
        } else {
            "agent: killed, outbox lost"
        });
        self.kill_node(n, keeps);
        let wait = self.chance.fault.within(100, 60_000);
        self.queue.after(wait, Happening::StartNode(n));
    }

    fn strike_agent_pause(&mut self, n: usize) {
        if !self.nodes[n].up || self.nodes[n].paused {
            return;
        }
        self.nodes[n].paused = true;
        let wait = self.chance.fault.within(1_000, 90_000);
        if wait > 30_000 {
            self.counters.count("agent: paused beyond the lease");
        }
        let run = self.nodes[n].run;
        self.queue.after(wait, Happening::Relief(Relief::ResumeNode(n, run)));
    }

    fn strike_agent_disk(&mut self, n: usize) {
        self.fill_disk(n, true);
        let run = self.nodes[n].run;
        let wait = self.chance.fault.within(1_000, 60_000);
        self.queue.after(wait, Happening::Relief(Relief::AgentDisk(n, run)));
    }

    fn any_link(&mut self) -> (Peer, usize) {
        let peers = self.nodes.len() + self.clients.len();
        let at = self.chance.fault.index(peers);
        let peer = match at.checked_sub(self.nodes.len()) {
            Some(client) => Peer::Client(client),
            None => Peer::Node(at),
        };
        (peer, self.chance.fault.index(self.processes.len()))
    }

    fn strike_partition(&mut self) {
        let links = 1 + self.chance.fault.index(1 + self.nodes.len() / 2);
        let wait = self.chance.fault.within(2_000, 90_000);
        let one_way = self.chance.fault.per_mille(500);
        let way = self.chance.fault.per_mille(500);
        self.counters.count(if one_way {
            "network: one-way partition"
        } else {
            "network: partition"
        });
        for _ in 0..links {
            let (peer, c) = self.any_link();
            for up in [true, false] {
                if !one_way || up == way {
                    self.cut(peer, c, up, true);
                    self.queue.after(wait, Happening::Relief(Relief::Mend(peer, c, up)));
                }
            }
        }
    }

    fn strike_flap(&mut self) {
        let (peer, c) = self.any_link();
        let times = 2 + u32::try_from(self.chance.fault.below(12)).unwrap_or(0);
        self.counters.count("network: flapping");
        self.relieve(Relief::Flap(peer, c, times * 2));
    }

    fn strike_clog(&mut self) {
        // Swizzle: clogged one after the other, unclogged in another order.
        self.counters.count("network: clogged and unclogged");
        let links = 1 + self.chance.fault.index(1 + self.nodes.len() / 2);
        for _ in 0..links {
            let (peer, c) = self.any_link();
            self.net.clogged.entry((peer, c)).or_default();
            let wait = self.chance.fault.within(500, 60_000);
            self.queue.after(wait, Happening::Relief(Relief::Unclog(peer, c)));
        }
    }

    fn strike_slow(&mut self) {
        let (peer, c) = self.any_link();
        let slow = self.chance.fault.within(200, 6_000);
        self.net.slow.insert((peer, c), slow);
    }

    fn strike_clock(&mut self, n: usize) {
        let at = self.queue.now();
        let hour = 3_600_000;
        let by = i64::try_from(self.chance.fault.below(2 * hour)).unwrap_or(0) - 3_600_000;
        let wait = self.chance.fault.within(1_000, 60_000);
        let of_node = self.chance.fault.per_mille(500);
        let stalls = self.chance.fault.per_mille(500);
        self.counters.count(if stalls { "clock: stall" } else { "clock: wall jump" });
        if of_node {
            let run = self.nodes[n].run;
            let clock = &mut self.nodes[n].clock;
            if stalls {
                clock.set_rate(at, 0);
                self.queue.after(wait, Happening::Relief(Relief::NodeClock(n, run)));
            } else {
                clock.jump(by);
            }
        } else if let Some(c) = self.running() {
            let run = self.processes[c].run;
            let clock = &mut self.processes[c].clock;
            if stalls {
                clock.set_rate(at, 0);
                self.queue.after(wait, Happening::Relief(Relief::CoordinatorClock(c, run)));
            } else {
                clock.jump(by);
            }
        }
    }

    /// Something is well again.
    pub(crate) fn relieve(&mut self, relief: Relief) {
        let at = self.queue.now();
        match relief {
            Relief::Mend(peer, c, up) => self.cut(peer, c, up, false),
            Relief::Unclog(peer, c) => self.unclog(peer, c),
            Relief::Flap(peer, c, left) => {
                let cut = left % 2 == 0 && left > 0;
                self.cut(peer, c, true, cut);
                self.cut(peer, c, false, cut);
                if left > 0 {
                    let wait = self.chance.fault.within(100, 4_000);
                    self.queue.after(wait, Happening::Relief(Relief::Flap(peer, c, left - 1)));
                }
            }
            Relief::AgentDisk(n, run) => {
                if self.nodes[n].run == run {
                    self.fill_disk(n, false);
                }
            }
            Relief::CoordinatorDisk => self.disk_full = false,
            Relief::ResumeNode(n, run) => {
                let node = &mut self.nodes[n];
                if node.run == run && node.paused {
                    node.paused = false;
                    for what in std::mem::take(&mut node.deferred) {
                        self.queue.after(0, what);
                    }
                }
            }
            Relief::ResumeCoordinator(c, run) => {
                let process = &mut self.processes[c];
                if process.run == run && process.paused {
                    process.paused = false;
                    for what in std::mem::take(&mut process.deferred) {
                        self.queue.after(0, what);
                    }
                }
            }
            Relief::CoordinatorClock(c, run) => {
                let process = &mut self.processes[c];
                if process.run == run {
                    process.clock.set_rate(at, TRUE);
                }
            }
            Relief::NodeClock(n, run) => {
                if self.nodes[n].run == run {
                    self.nodes[n].clock.set_rate(at, TRUE);
                    self.plan_wake(n);
                }
            }
        }
    }

    /// All faults end: what is cut is mended, what is stopped goes on, what is dead starts.
    pub(crate) fn calm(&mut self) {
        self.faulty = false;
        self.disk_full = false;
        for client in &mut self.clients {
            client.changes = 0;
        }
        for k in 0..self.clients.len() {
            self.plan_client(k, 30_000);
        }
        self.mend_network();
        let at = self.queue.now();
        for c in 0..self.processes.len() {
            let run = self.processes[c].run;
            self.relieve(Relief::ResumeCoordinator(c, run));
            self.processes[c].crash_at = None;
            self.processes[c].clock.set_rate(at, TRUE);
        }
        if !self.processes.iter().any(|process| process.up) {
            self.start_coordinator(0);
        }
        for n in 0..self.nodes.len() {
            let run = self.nodes[n].run;
            self.relieve(Relief::ResumeNode(n, run));
            self.fill_disk(n, false);
            self.nodes[n].clock.set_rate(at, TRUE);
            self.start_node(n);
            self.plan_wake(n);
        }
    }
}
