//! What is going to happen, in the order in which it will.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue by (time, sequence): what was planned first happens first among equals.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Item<T>>>,
    now: u64,
    sequence: u64,
}

#[derive(Debug)]
struct Item<T> {
    at: u64,
    sequence: u64,
    what: T,
}

impl<T> Queue<T> {
    /// An empty queue at time 0.
    #[must_use]
    pub(crate) fn new() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), now: 0, sequence: 0 }
    }

    /// The time of what happened last.
    #[must_use]
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Plans something; nothing is planned for the past.
    pub(crate) fn at(&mut self, at: u64, what: T) {
        self.sequence += 1;
        let item = Item { at: at.max(self.now), sequence: self.sequence, what };
        self.heap.push(Reverse(item));
    }

    /// Plans something in this many milliseconds.
    pub(crate) fn after(&mut self, wait: u64, what: T) {
        self.at(self.now.saturating_add(wait), what);
    }

    /// Takes what happens next, and lets time pass until then.
    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse(item) = self.heap.pop()?;
        self.now = item.at;
        Some((item.sequence, item.what))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue::new()
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Item<T>) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Item<T>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Item<T>) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}
