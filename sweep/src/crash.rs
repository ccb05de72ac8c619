//! Named places at which a test may end the process, to see what survives. Each is a call of
//! [`point`] in the product. A release build holds nothing of them.

#[cfg(debug_assertions)]
use std::sync::OnceLock;

macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident => $name:literal),+ $(,)?) => {
        /// A place.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $variant),+
        }

        impl Point {
            /// Every place.
            pub const ALL: &'static [Point] = &[$(Point::$variant),+];

            /// Its name, as in `DEPTUNE_CRASH_AT`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Point::$variant => $name),+ }
            }
        }
    };
}

points!(
    /// Coordinator: before a transaction begins.
    BeforeBegin => "before-begin",
    /// Coordinator: after it began.
    AfterBegin => "after-begin",
    /// Coordinator: before one of its writes.
    BeforeWrite => "before-write",
    /// Coordinator: after one of its writes.
    AfterWrite => "after-write",
    /// Coordinator: before the transaction is committed.
    BeforeCommit => "before-commit",
    /// Coordinator: after it was committed.
    AfterCommit => "after-commit",
    /// Coordinator: before the callers are answered.
    BeforeReply => "before-reply",
    /// Coordinator: after they were answered.
    AfterReply => "after-reply",
    /// Worker: before a finished trial's report is written to the outbox.
    BeforeOutbox => "before-outbox",
    /// Worker: after it was synced.
    AfterOutbox => "after-outbox",
    /// Worker: before reports are sent.
    BeforeReport => "before-report",
    /// Worker: after they were acknowledged.
    AfterReport => "after-report",
);

/// What is called at each place.
#[cfg(debug_assertions)]
static HOOK: OnceLock<fn(Point)> = OnceLock::new();

/// This place is reached.
#[inline(always)]
pub fn point(here: Point) {
    #[cfg(debug_assertions)]
    if let Some(hook) = HOOK.get() {
        hook(here);
    }
    #[cfg(not(debug_assertions))]
    let _ = here;
}

/// Has `hook` called at each place from now on. The first one stays.
#[cfg(debug_assertions)]
pub fn at_points(hook: fn(Point)) {
    // A second one changes nothing.
    let _ = HOOK.set(hook);
}
