//! How large a world is and how much goes wrong in it.

use super::rng::Rng;

/// What some agents are labelled with, the first one always, and some sweeps ask for.
pub(crate) const LABEL: &str = "third";

/// Largest pack of any slot.
pub(crate) const MAX_PACK: u64 = 4;

/// The kinds of worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A few workers and trials: thousands of worlds in minutes.
    Small,
    /// About 50 workers and 500 trials.
    Medium,
    /// 1,000 workers and 100,000 trials, with a tenth of the workers dying every minute.
    Large,
}

/// One world's dimensions and probabilities, drawn from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Kind.
    pub(crate) size: Size,
    /// Agents.
    pub(crate) nodes: usize,
    /// Most slots of an agent.
    pub(crate) slots: u64,
    /// Clients; each submits one sweep after the other.
    pub(crate) clients: usize,
    /// Trials of each sweep.
    pub(crate) trials: (u64, u64),
    /// Sweeps of each client.
    pub(crate) sweeps: u64,
    /// Changes that each client makes to its sweeps.
    pub(crate) changes: u64,
    /// Pieces of a trial's training; each ends with an evaluation and a checkpoint.
    pub(crate) segments: u64,
    /// Milliseconds of one piece.
    pub(crate) segment: (u64, u64),
    /// Milliseconds in which faults happen.
    pub(crate) faulty: u64,
    /// Milliseconds after that within which everything must have ended.
    pub(crate) patience: u64,
    /// Mean milliseconds between two faults that are planned one by one.
    pub(crate) fault_every: u64,
    /// Messages lost, doubled, late and replayed, per mille.
    pub(crate) lost: u64,
    /// See `lost`.
    pub(crate) doubled: u64,
    /// See `lost`.
    pub(crate) late: u64,
    /// See `lost`.
    pub(crate) replayed: u64,
    /// Commits that fail, whose result is unknown, and that are slow, per mille.
    pub(crate) refused: u64,
    /// See `refused`.
    pub(crate) unknown: u64,
    /// See `refused`.
    pub(crate) slow: u64,
    /// Attempts that go wrong, per mille.
    pub(crate) child: u64,
    /// Trials that can never succeed, per mille.
    pub(crate) hopeless: u64,
    /// Events between two looks at everything.
    pub(crate) scan_every: u64,
}

impl Profile {
    /// The profile of a seed. Some worlds are quiet in some respect, so that rare combinations
    /// are not always drowned by noise.
    #[must_use]
    pub(crate) fn draw(size: Size, rng: &mut Rng) -> Profile {
        let mut often = |p: u64| if rng.per_mille(300) { 0 } else { rng.within(0, p) };
        let mut profile = Profile {
            size,
            nodes: 0,
            slots: 2,
            clients: 2,
            trials: (1, 8),
            sweeps: 2,
            changes: 6,
            segments: 3,
            segment: (500, 6_000),
            faulty: 120_000,
            patience: 3 * 3_600_000,
            fault_every: 6_000,
            lost: often(40),
            doubled: often(40),
            late: often(30),
            replayed: often(10),
            refused: often(20),
            unknown: often(20),
            slow: often(20),
            child: often(150),
            hopeless: often(40),
            scan_every: 200,
        };
        match size {
            Size::Small => {
                profile.nodes = usize::try_from(rng.within(1, 5)).unwrap_or(1);
                if rng.per_mille(150) {
                    profile.trials.1 = 30;
                }
            }
            Size::Medium => {
                profile.nodes = 50;
                profile.slots = 4;
                profile.clients = 3;
                profile.trials = (60, 110);
                profile.changes = 10;
                profile.segment = (1_000, 12_000);
                profile.faulty = 400_000;
                profile.fault_every = 1_500;
                profile.scan_every = 10_000;
            }
            Size::Large => {
                profile.nodes = 1_000;
                profile.slots = 12;
                profile.clients = 2;
                profile.trials = (50_000, 50_000);
                profile.sweeps = 1;
                profile.changes = 0;
                profile.segments = 1;
                profile.segment = (5_000, 300_000);
                profile.faulty = 2_400_000;
                // A hundred agents a minute die.
                profile.fault_every = 600;
                profile.lost = profile.lost.min(2);
                profile.scan_every = 10_000;
            }
        }
        profile
    }
}
