//! The network: messages are late, lost, doubled, replayed; links are cut one way or both, flap,
//! clog and unclog.

use std::collections::{BTreeMap, BTreeSet};

use deptune_worker::protocol::Call;

use super::message::{Message, Peer, Request};
use super::world::{Happening, World};

/// The state of the links.
#[derive(Debug, Default)]
pub(crate) struct Net {
    /// Links cut in one direction; `true` is towards the coordinator.
    pub(crate) cut: BTreeSet<(Peer, usize, bool)>,
    /// Messages held back on clogged links.
    pub(crate) clogged: BTreeMap<(Peer, usize), Vec<Message>>,
    /// Milliseconds added on slow links.
    pub(crate) slow: BTreeMap<(Peer, usize), u64>,
}

impl World {
    /// Puts a message on its way.
    pub(crate) fn transmit(&mut self, message: Message) {
        let (peer, coordinator, up) = message.link();
        if self.net.cut.contains(&(peer, coordinator, up)) {
            return;
        }
        if let Some(held) = self.net.clogged.get_mut(&(peer, coordinator)) {
            held.push(message);
            return;
        }
        let slow = self.net.slow.get(&(peer, coordinator)).copied().unwrap_or(0);
        let mut wait = slow + self.chance.net.within(1, 12);
        if self.faulty {
            if self.chance.net.per_mille(self.profile.lost) {
                if let Message::Up { request: Request::Worker(Call::Upload { .. }), .. } = message {
                    self.counters.count("artifact: upload lost");
                }
                self.counters.count("network: message lost");
                return;
            }
            if self.chance.net.per_mille(self.profile.late) {
                wait += self.chance.net.within(1_000, 60_000);
                self.counters.count("network: message late");
            }
            if self.chance.net.per_mille(self.profile.doubled) {
                let again = wait + self.chance.net.within(0, 2_000);
                self.counters.count("network: message duplicated");
                self.note_repeat(&message);
                self.queue.after(again, Happening::Arrive(Box::new(message.clone())));
            }
            if self.chance.net.per_mille(self.profile.replayed) {
                let again = wait + self.chance.net.within(30_000, 600_000);
                self.counters.count("network: message replayed");
                self.note_repeat(&message);
                self.queue.after(again, Happening::Arrive(Box::new(message.clone())));
            }
        }
        self.queue.after(wait, Happening::Arrive(Box::new(message)));
    }

    /// A submission that the network repeats may be carried out after it was refused.
    fn note_repeat(&mut self, message: &Message) {
        if let Message::Up { request: Request::Submit { request_id, .. }, .. } = message {
            self.repeated.insert(*request_id);
        }
    }

    /// Cuts or mends a link.
    pub(crate) fn cut(&mut self, peer: Peer, coordinator: usize, up: bool, cut: bool) {
        if cut {
            self.net.cut.insert((peer, coordinator, up));
        } else {
            self.net.cut.remove(&(peer, coordinator, up));
        }
    }

    /// Lets go of what a clogged link holds.
    pub(crate) fn unclog(&mut self, peer: Peer, coordinator: usize) {
        for message in self.net.clogged.remove(&(peer, coordinator)).unwrap_or_default() {
            let wait = self.chance.net.within(1, 40);
            self.queue.after(wait, Happening::Arrive(Box::new(message)));
        }
    }

    /// All links are as they should be.
    pub(crate) fn mend_network(&mut self) {
        self.net.cut.clear();
        self.net.slow.clear();
        let clogged: Vec<(Peer, usize)> = self.net.clogged.keys().copied().collect();
        for (peer, coordinator) in clogged {
            self.unclog(peer, coordinator);
        }
    }

    /// A message is there.
    pub(crate) fn arrive(&mut self, message: Message) {
        match message {
            Message::Up { to, ticket, request, timeout } => {
                self.receive(to, ticket, request, timeout);
            }
            Message::Down { ticket, response, .. } => match ticket.peer {
                Peer::Node(node) => self.node_hears(node, ticket, response),
                Peer::Client(client) => self.client_hears(client, ticket, response),
            },
        }
    }
}
