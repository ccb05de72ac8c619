//! The trials of a sweep that wait to be leased again.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::RequestId;
use crate::record::Holder;

/// Found by index, and by when their wait ends.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Monotonic time before which each is not leased. Where its lease expired and its holder may
    /// come back, also the exchange that granted it.
    from: BTreeMap<u64, (u64, Option<RequestId>)>,
    /// The latter, by that exchange.
    lapsed: BTreeSet<(RequestId, u64)>,
    /// Those whose wait is over.
    ready: BTreeSet<u64>,
    /// The others, by the end of their wait.
    later: BTreeSet<(u64, u64)>,
}

impl Waiting {
    /// A trial waits until `from`; `last_holder` may come back for it.
    pub(super) fn insert(&mut self, index: u64, from: u64, last_holder: Option<Holder>) {
        self.remove(index);
        let granted_by = last_holder.map(|holder| holder.request_id);
        self.from.insert(index, (from, granted_by));
        self.later.insert((from, index));
        self.lapsed.extend(granted_by.map(|request_id| (request_id, index)));
    }

    /// It does not wait any more.
    pub(super) fn remove(&mut self, index: u64) {
        let Some((from, granted_by)) = self.from.remove(&index) else { return };
        self.ready.remove(&index);
        self.later.remove(&(from, index));
        if let Some(request_id) = granted_by {
            self.lapsed.remove(&(request_id, index));
        }
    }

    /// Whether the holder of a lease that this exchange granted may come back for it.
    pub(super) fn has_lapsed(&self, request_id: RequestId) -> bool {
        let range = (request_id, 0)..=(request_id, u64::MAX);
        self.lapsed.range(range).next().is_some()
    }

    /// Until when it waits; `None`: it does not.
    pub(super) fn get(&self, index: u64) -> Option<u64> {
        self.from.get(&index).map(|&(from, _)| from)
    }

    /// All of them, by index.
    pub(super) fn indexes(&self) -> impl Iterator<Item = u64> {
        self.from.keys().copied()
    }

    /// Those whose wait is over, by index.
    pub(super) fn ready(&mut self, now: u64) -> impl Iterator<Item = u64> {
        while let Some(&(from, index)) = self.later.first()
            && from <= now
        {
            self.later.pop_first();
            self.ready.insert(index);
        }
        self.ready.iter().copied()
    }

    /// The same, as far as `ready` was asked for.
    pub(super) fn ready_now(&self) -> impl Iterator<Item = u64> {
        self.ready.iter().copied()
    }

    /// Whether some wait is over.
    pub(super) fn has_ready(&self, now: u64) -> bool {
        !self.ready.is_empty() || self.later.first().is_some_and(|&(from, _)| from <= now)
    }
}
