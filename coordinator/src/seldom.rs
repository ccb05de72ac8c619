//! Warnings that would come by the thousand.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use tokio::time::Instant;

/// Time between two warnings about one thing.
const EVERY: Duration = Duration::from_secs(60);

/// When each thing was last warned of, within the last minute.
#[derive(Debug)]
pub(crate) struct Seldom<K>(BTreeMap<K, Instant>);

impl<K> Default for Seldom<K> {
    fn default() -> Seldom<K> {
        Seldom(BTreeMap::new())
    }
}

impl<K: Ord> Seldom<K> {
    /// Whether a warning about `what` is due; where it is, it counts as given.
    pub(crate) fn is_due(&mut self, what: K, now: Instant) -> bool {
        self.0.retain(|_, given| now.duration_since(*given) < EVERY);
        match self.0.entry(what) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_warned_of_once_a_minute_and_forgotten() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert!(seldom.is_due("a", start));
        assert!(!seldom.is_due("a", start + EVERY / 2));
        assert!(seldom.is_due("b", start + EVERY / 2));
        assert!(seldom.is_due("a", start + EVERY));
        assert!(seldom.is_due("c", start + 3 * EVERY));
        assert_eq!(seldom.0.len(), 1);
    }
}
