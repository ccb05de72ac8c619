//! Would the simulator notice? One deliberate bug at a time in the product, worlds until an
//! invariant breaks.

/// A deliberate bug, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    /// Its name.
    pub name: &'static str,
    /// The file of the product that asks for it.
    pub path: &'static str,
}

/// All of them.
pub const ALL: &[Mutation] = &[
    Mutation { name: "no epoch check on completion", path: "sweep/src/scheduler/on_exchange.rs" },
    Mutation { name: "no epoch check on progress", path: "sweep/src/scheduler/on_heartbeat.rs" },
    Mutation { name: "ack before commit", path: "coordinator/src/runtime/turn.rs" },
    Mutation { name: "epoch reused after restart", path: "sweep/src/scheduler/restore.rs" },
    Mutation { name: "expiry keeps the slot", path: "sweep/src/scheduler/on_tick.rs" },
    Mutation { name: "backoff lost on restart", path: "sweep/src/scheduler/restore.rs" },
    Mutation { name: "outbox entry deleted before ack", path: "worker/src/protocol/plan_calls.rs" },
    Mutation { name: "request id forgotten after restart", path: "sweep/src/scheduler/restore.rs" },
    Mutation {
        name: "cancel loses against a late success",
        path: "sweep/src/scheduler/on_cancel.rs",
    },
    Mutation {
        name: "generation not checked on commit",
        path: "coordinator/src/store/memory/state.rs",
    },
    Mutation { name: "unknown commit treated as failed", path: "coordinator/src/runtime/turn.rs" },
    Mutation { name: "deposed answers from memory", path: "coordinator/src/runtime/turn.rs" },
    Mutation { name: "lease counted down twice", path: "sweep/src/scheduler/retry.rs" },
    Mutation { name: "handing back counts", path: "sweep/src/scheduler/retry.rs" },
    Mutation { name: "slot leased twice", path: "sweep/src/scheduler/on_exchange.rs" },
    Mutation { name: "a paused sweep leases", path: "sweep/src/scheduler/state.rs" },
    Mutation { name: "budget counted twice on retry", path: "sweep/src/scheduler/retry.rs" },
    Mutation {
        name: "an attempt's last seconds are not counted",
        path: "sweep/src/scheduler/state.rs",
    },
    Mutation { name: "use forgotten on restart", path: "sweep/src/scheduler/state.rs" },
    Mutation { name: "fair share forgotten", path: "sweep/src/scheduler/share.rs" },
    Mutation { name: "delete request id forgotten", path: "sweep/src/scheduler/on_control.rs" },
    Mutation {
        name: "other content under a request id taken for a repetition",
        path: "sweep/src/scheduler/request.rs",
    },
    Mutation { name: "id used again after deletion", path: "sweep/src/scheduler/on_submit.rs" },
    Mutation {
        name: "a pack's second member dropped when its first fails",
        path: "worker/src/protocol/on_child.rs",
    },
    Mutation { name: "a pack's crash blamed on its members", path: "sweep/src/scheduler/retry.rs" },
    Mutation { name: "drain forgotten on restart", path: "sweep/src/scheduler/on_worker.rs" },
    Mutation { name: "requirements forgotten", path: "sweep/src/scheduler/share.rs" },
    Mutation {
        name: "leases not armed again after restart",
        path: "sweep/src/scheduler/restore.rs",
    },
];

/// Worlds within which every bug must be noticed.
pub const LIMIT: u64 = 1_000;

/// What became of a bug.
#[cfg(feature = "mutations")]
#[derive(Debug)]
pub struct Found {
    /// Worlds until it was noticed, one number per hunt, sorted; `LIMIT + 1` where it was not.
    pub worlds: Vec<u64>,
    /// How it showed in the first hunt.
    pub first: Option<super::Broken>,
}

/// Hunts a bug several times, each time from another seed on.
#[cfg(feature = "mutations")]
#[must_use]
pub fn hunt(mutation: Mutation, hunts: u64) -> Found {
    deptune_sweep::mutation::choose(Some(mutation.name));
    let mut found = Found { worlds: Vec::new(), first: None };
    for hunt in 0..hunts {
        let from = 1 + hunt * 1_000_000;
        let caught = (0..LIMIT).find_map(|n| {
            let outcome = super::run(from + n, super::Size::Small, false);
            outcome.broken.map(|broken| (n + 1, broken))
        });
        found.worlds.push(caught.as_ref().map_or(LIMIT + 1, |(n, _)| *n));
        if let (None, Some((_, broken))) = (&found.first, caught) {
            found.first = Some(broken);
        }
    }
    deptune_sweep::mutation::choose(None);
    found.worlds.sort_unstable();
    found
}
