//! Whole worlds of coordinators, agents, clients and a store in one thread, from one seed.
//!
//! ```text
//!   clients ─┐                    ┌─ coordinator: Turn, Scheduler, MemoryStore ── database
//!            ├─ simulated network ┤                                                  │
//!   agents ──┘                    └─ its rival (takes over while the other stands still)
//!   protocol::Agent, outbox, children
//! ```
//!
//! The scheduler, the turns, the store with its fences and the agent's protocol are the product's
//! own code; time, network, clocks, disks, children and chance are simulated. A world has a phase
//! with faults and a phase without, at whose end everything must have ended. The same seed gives
//! the same world, event by event, which a hash over all events shows.

mod child;
mod client;
mod clock;
mod coordinator;
mod counters;
mod disk;
mod faults;
mod files;
mod front;
mod invariants;
mod ledger;
mod message;
pub mod mutations;
mod net;
mod node;
mod profile;
mod queue;
mod rng;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use counters::Counters;
pub use invariants::Broken;
pub use profile::Size;
use world::World;

/// What became of a world.
#[derive(Debug)]
pub struct Outcome {
    /// The violated invariant, if there is one.
    pub broken: Option<Broken>,
    /// What happened how often.
    pub counters: Counters,
    /// Hash over everything that happened.
    pub hash: blake3::Hash,
    /// Number of events.
    pub events: u64,
}

/// Runs the world of a seed. `trace` prints every event.
#[must_use]
pub fn run(seed: u64, size: Size, trace: bool) -> Outcome {
    let mut world = World::new(seed, size);
    world.trace.prints = trace;
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let broken = match ended {
        Ok(ended) => ended.err(),
        Err(panic) => {
            let words = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without words");
            Some(Broken::new("I15", format!("panic: {words}")))
        }
    };
    Outcome {
        broken,
        hash: world.trace.hash(),
        events: world.events,
        counters: std::mem::take(&mut world.counters),
    }
}
