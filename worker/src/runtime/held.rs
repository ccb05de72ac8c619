//! The leases whose files may still be asked for.
//!
//! A child that is done leaves its adapter in its own directory and exits; the outbox takes the
//! adapter from there when the protocol says so, which may be later than the log's arrival. So the
//! directory stays until the protocol has said that it is done with the lease.

use std::collections::BTreeSet;

use deptune_sweep::scheduler::LeaseKey;
use tokio::sync::watch;

/// Leases with a child that was started, until the protocol forgets them.
#[derive(Debug, Default)]
pub(super) struct Held(watch::Sender<BTreeSet<LeaseKey>>);

impl Held {
    /// A pack of these is about to start.
    pub(super) fn add(&self, leases: impl Iterator<Item = LeaseKey>) {
        self.0.send_modify(|held| held.extend(leases));
    }

    /// The protocol asks for nothing of this lease any more, and everything that it asked for
    /// before is done.
    pub(super) fn remove(&self, lease: LeaseKey) {
        self.0.send_modify(|held| {
            held.remove(&lease);
        });
    }

    /// Waits until none of these is held.
    pub(super) async fn gone(&self, leases: &[LeaseKey]) {
        let none = |held: &BTreeSet<LeaseKey>| leases.iter().all(|lease| !held.contains(lease));
        // The sender is ours: it cannot be closed.
        let _ = self.0.subscribe().wait_for(none).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deptune_sweep::id::{Epoch, SweepId, TrialId};

    #[tokio::test]
    async fn a_pack_is_gone_when_all_its_members_are() {
        let key = |index| LeaseKey { trial: TrialId { sweep: SweepId(1), index }, epoch: Epoch(1) };
        let held = Held::default();
        held.gone(&[key(1)]).await;
        held.add([key(1), key(2), key(3)].into_iter());
        let members = [key(1), key(2)];
        held.remove(key(1));
        let waiting = held.gone(&members);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        held.remove(key(2));
        waiting.await;
    }
}
