//! How much a caller may take: connections, open requests, requests per second. What one peer may
//! have is less than there is, so that no peer keeps the others out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests that a call without the right token counts for.
const GUESS: f64 = 50.0;

/// The bounds. A peer is an address: workers of one node, and all that come through one tunnel,
/// share what a peer may have.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time; further ones wait to be accepted. Default 8192.
    pub connections: usize,
    /// Connections of one peer; further ones are closed at once. Default 4096: a thousand agents
    /// behind one address, with up to two connections each, and as many again.
    pub peer_connections: usize,
    /// Time in which a connection must begin to speak HTTP/2. Default 5 s.
    pub handshake: Duration,
    /// A connection without an open request is closed after this long; clients make another when
    /// they need one. Default 5 minutes.
    pub idle: Duration,
    /// Requests open at the same time. Default 16384.
    pub requests: usize,
    /// Requests of one peer open at the same time. Default 8192.
    pub peer_requests: usize,
    /// Requests per second on one connection, in the long run. Default 1000.
    pub rate: u32,
    /// Requests at once on one connection that has been quiet. Default 2000.
    pub burst: u32,
    /// Time in which a client must go on reading the answer to a query; such answers are large, and
    /// there are two of them at most. Default one minute.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 8_192,
            peer_connections: 4_096,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(300),
            requests: 16_384,
            peer_requests: 8_192,
            rate: 1_000,
            burst: 2_000,
            unread: Duration::from_secs(60),
        }
    }
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// More per second than allowed.
    Rate,
    /// More at the same time than allowed.
    Open,
}

#[derive(Debug, Default)]
struct Peer {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Shared {
    peers: Mutex<BTreeMap<IpAddr, Peer>>,
    requests: AtomicUsize,
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everyone who is connected.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    limits: Limits,
    shared: Arc<Shared>,
}

impl Peers {
    pub(crate) fn new(limits: Limits) -> Peers {
        Peers { limits, shared: Arc::default() }
    }

    /// A new connection of `address`; `None` where the peer has its share already.
    pub(crate) fn connect(&self, address: IpAddr) -> Option<Caller> {
        let mut peers = self.shared.peers();
        let peer = peers.entry(address).or_default();
        if peer.connections >= self.limits.peer_connections {
            return None;
        }
        peer.connections += 1;
        let now = Instant::now();
        Some(Caller(Arc::new(Inner {
            address,
            limits: self.limits,
            shared: self.shared.clone(),
            peer_requests: peer.requests.clone(),
            state: Mutex::new(State {
                open: 0,
                active: now,
                credit: f64::from(self.limits.burst),
                counted: now,
            }),
        })))
    }
}

/// One connection, as its requests see it.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: IpAddr,
    limits: Limits,
    shared: Arc<Shared>,
    peer_requests: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests open on this connection.
    open: usize,
    /// When the last one began or ended.
    active: Instant,
    /// Requests that may come at once.
    credit: f64,
    /// As of when.
    counted: Instant,
}

impl Caller {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, or says what it is too many of. A stranger (without the right token)
    /// uses up the rate much faster.
    pub(crate) fn admit(&self, stranger: bool) -> Result<Open, Excess> {
        let inner = &self.0;
        let mut state = self.state();
        let now = Instant::now();
        let earned = (now - state.counted).as_secs_f64() * f64::from(inner.limits.rate);
        state.credit = (state.credit + earned).min(f64::from(inner.limits.burst));
        state.counted = now;
        let price = if stranger { GUESS } else { 1.0 };
        if state.credit < price {
            return Err(Excess::Rate);
        }
        state.credit -= price;
        // Counted first and looked at then: two at the same time cannot both take the last place.
        let most = [
            (&inner.shared.requests, inner.limits.requests),
            (&inner.peer_requests, inner.limits.peer_requests),
        ];
        let over = most.map(|(count, limit)| count.fetch_add(1, Ordering::Relaxed) >= limit);
        if over.contains(&true) {
            most.iter().for_each(|(count, _)| {
                count.fetch_sub(1, Ordering::Relaxed);
            });
            return Err(Excess::Open);
        }
        state.open += 1;
        state.active = now;
        drop(state);
        Ok(Open(self.clone()))
    }

    /// Time until this connection counts as idle; `None` when it does.
    pub(crate) fn idle_in(&self) -> Option<Duration> {
        let limit = self.0.limits.idle;
        let state = self.state();
        if state.open > 0 {
            return Some(limit);
        }
        limit.checked_sub(state.active.elapsed()).filter(|left| !left.is_zero())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut peers = self.shared.peers();
        if let Some(peer) = peers.get_mut(&self.address) {
            peer.connections = peer.connections.saturating_sub(1);
            if peer.connections == 0 {
                peers.remove(&self.address);
            }
        }
    }
}

/// An open request, from its first byte to the last of its answer.
#[derive(Debug)]
pub(crate) struct Open(Caller);

impl Drop for Open {
    fn drop(&mut self) {
        let inner = &self.0.0;
        inner.shared.requests.fetch_sub(1, Ordering::Relaxed);
        inner.peer_requests.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.0.state();
        state.open = state.open.saturating_sub(1);
        state.active = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn peers(change: impl FnOnce(&mut Limits)) -> Peers {
        let mut limits = Limits::default();
        change(&mut limits);
        Peers::new(limits)
    }

    #[test]
    fn a_thousand_agents_behind_one_address_fit_and_leave_room_for_others() {
        let peers = peers(|_| {});
        let (agents, each) = (1_000, 2);
        // With margin: clients that were cut off come back before their old connections are noticed.
        let held: Vec<_> = (0..agents * each * 2).map(|_| peers.connect(HERE)).collect();
        assert!(held.iter().all(Option::is_some));
        let Limits { connections, peer_connections, .. } = peers.limits;
        assert!(connections >= 2 * peer_connections, "{connections} and {peer_connections}");
    }

    #[test]
    fn a_peer_has_its_share_of_connections_and_gets_it_back() {
        let peers = peers(|limits| limits.peer_connections = 2);
        let first = peers.connect(HERE).unwrap();
        let second = peers.connect(HERE).unwrap();
        assert!(peers.connect(HERE).is_none());
        assert!(peers.connect(THERE).is_some());
        // A request keeps its connection counted.
        let open = second.admit(false).unwrap();
        drop(second);
        assert!(peers.connect(HERE).is_none());
        drop(open);
        drop(first);
        assert!(peers.connect(HERE).is_some());
        assert!(peers.shared.peers().is_empty());
    }

    #[test]
    fn open_requests_are_bounded_per_peer_and_in_all() {
        let peers = peers(|limits| (limits.requests, limits.peer_requests) = (3, 2));
        let here = peers.connect(HERE).unwrap();
        let there = peers.connect(THERE).unwrap();
        let held: Vec<Open> = (0..2).map(|_| here.admit(false).unwrap()).collect();
        assert_eq!(here.admit(false).unwrap_err(), Excess::Open);
        let third = there.admit(false).unwrap();
        assert_eq!(there.admit(false).unwrap_err(), Excess::Open);
        drop(held);
        let _fourth = there.admit(false).unwrap();
        assert_eq!(there.admit(false).unwrap_err(), Excess::Open);
        drop(third);
        assert!(there.admit(false).is_ok());
    }

    #[test]
    fn a_connection_that_asks_too_fast_is_slowed_down_and_a_stranger_sooner() {
        let peers = peers(|limits| (limits.rate, limits.burst) = (0, 100));
        let caller = peers.connect(HERE).unwrap();
        assert!((0..100).all(|_| caller.admit(false).is_ok()));
        assert_eq!(caller.admit(false).unwrap_err(), Excess::Rate);
        // Others have their own.
        let stranger = peers.connect(HERE).unwrap();
        assert!((0..2).all(|_| stranger.admit(true).is_ok()));
        assert_eq!(stranger.admit(true).unwrap_err(), Excess::Rate);
    }

    #[test]
    fn a_connection_with_an_open_request_is_not_idle() {
        let peers = peers(|limits| limits.idle = Duration::ZERO);
        let caller = peers.connect(HERE).unwrap();
        assert!(caller.idle_in().is_none());
        let open = caller.admit(false).unwrap();
        assert!(caller.idle_in().is_some());
        drop(open);
        assert!(caller.idle_in().is_none());
    }
}
