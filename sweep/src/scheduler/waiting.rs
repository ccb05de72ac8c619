//! The trials of a sweep that wait to be leased again.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::RequestId;
use crate::record::Holder;

/// Found by index, and by when their wait ends.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Monotonic time before which each is not leased.
    from: BTreeMap<u64, u64>,
    /// Those whose lease expired and whose holder may come back, by the exchange that granted it.
    lapsed: BTreeSet<(RequestId, u64)>,
    granted_by: BTreeMap<u64, RequestId>,
    /// Those whose wait is over.
    ready: BTreeSet<u64>,
    /// The others, by the end of their wait.
    later: BTreeSet<(u64, u64)>,
}

impl Waiting {
    /// A trial waits until `from`; `last_holder` may come back for it.
    pub(super) fn insert(&mut self, index: u64, from: u64, last_holder: Option<Holder>) {
        self.remove(index);
        self.from.insert(index, from);
        self.later.insert((from, index));
        if let Some(Holder { request_id, .. }) = last_holder {
            self.granted_by.insert(index, request_id);
            self.lapsed.insert((request_id, index));
        }
    }

    /// It does not wait any more.
    pub(super) fn remove(&mut self, index: u64) {
        if let Some(from) = self.from.remove(&index) {
            self.ready.remove(&index);
            self.later.remove(&(from, index));
        }
        if let Some(request_id) = self.granted_by.remove(&index) {
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
        self.from.get(&index).copied()
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
