//! Named places at which a test may end the process, to see what survives. Each is a call of
//! [`point`] in the product. A release build holds nothing of them.

#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Trainer: before a file that it has written gets its name.
    BeforeRename => "before-rename",
    /// Trainer: after it got its name.
    AfterRename => "after-rename",
);

/// Which place ends the process.
#[cfg(debug_assertions)]
struct Armed {
    name: String,
    /// How often it is still to be reached.
    left: AtomicU64,
    end: fn(&str),
}

#[cfg(debug_assertions)]
static ARMED: OnceLock<Armed> = OnceLock::new();

/// This place is reached.
#[inline(always)]
pub fn point(here: Point) {
    #[cfg(debug_assertions)]
    if let Some(Armed { name, left, end }) = ARMED.get()
        && name == here.as_str()
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        end(name);
    }
    #[cfg(not(debug_assertions))]
    let _ = here;
}

/// The variable in which programs look for what to [`arm`].
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "DEPTUNE_CRASH_AT";

/// Has `end` called with the place's name when the place NAME is reached for the COUNT-th time,
/// where `asked` is `NAME:COUNT`. The first one stays.
#[cfg(debug_assertions)]
pub fn arm(asked: &str, end: fn(&str)) {
    let Some((name, count)) = asked.split_once(':') else { return };
    let Ok(count) = count.parse() else { return };
    // A second one changes nothing.
    let _ = ARMED.set(Armed { name: name.to_owned(), left: AtomicU64::new(count), end });
}
