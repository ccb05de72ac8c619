//! The clocks of simulated machines: they drift, stall and jump.

use deptune_sweep::scheduler::Now;

/// The clocks of one process, against the world's time in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// World time at which the current rate began, and the monotonic clock then.
    since: (u64, u64),
    /// Millionths of the world's speed: 950,000 to 1,050,000, or 0 while it stalls.
    rate: u64,
    /// How far the wall clock is off.
    wall: i64,
    /// For how long it has stalled, up to when the current rate began.
    stood: u64,
}

/// The speed of a clock that is right.
pub(crate) const TRUE: u64 = 1_000_000;
/// 2026-01-01 UTC, in milliseconds: where the wall clocks begin.
const EPOCH: i64 = 1_767_225_600_000;

impl Clock {
    /// The clocks of a process that starts now.
    #[must_use]
    pub(crate) fn new(at: u64, rate: u64) -> Clock {
        Clock { since: (at, 0), rate, wall: 0, stood: 0 }
    }

    /// The monotonic clock.
    #[must_use]
    pub(crate) fn monotonic(&self, at: u64) -> u64 {
        let (began, then) = self.since;
        then + at.saturating_sub(began) * self.rate / TRUE
    }

    /// Both clocks.
    #[must_use]
    pub(crate) fn now(&self, at: u64) -> Now {
        let wall = EPOCH + i64::try_from(at).unwrap_or(i64::MAX / 2) + self.wall;
        Now { monotonic: self.monotonic(at), wall }
    }

    /// For how many milliseconds of the world the monotonic clock has stalled.
    #[must_use]
    pub(crate) fn stood(&self, at: u64) -> u64 {
        self.stood + if self.rate == 0 { at.saturating_sub(self.since.0) } else { 0 }
    }

    /// The world's time when the monotonic clock shows `local`; `None` while it stalls.
    #[must_use]
    pub(crate) fn world(&self, local: u64) -> Option<u64> {
        let (began, then) = self.since;
        (self.rate > 0).then(|| began + (local.saturating_sub(then) * TRUE).div_ceil(self.rate))
    }

    /// From now on it runs at this speed.
    pub(crate) fn set_rate(&mut self, at: u64, rate: u64) {
        self.stood = self.stood(at);
        self.since = (at, self.monotonic(at));
        self.rate = rate;
    }

    /// Its speed.
    #[must_use]
    pub(crate) fn rate(&self) -> u64 {
        self.rate
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, by: i64) {
        self.wall += by;
    }
}
