//! Deliberate bugs, for the one test that asks whether the tests would notice them.
//!
//! Each is a place in the product where [`on`] is asked by name. Without the feature `mutations`
//! the answer is a constant `false` and nothing of it is compiled in. With it, a test chooses one
//! bug for its thread with `choose`.

/// Whether this deliberate bug is chosen.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
#[must_use]
pub const fn on(_name: &str) -> bool {
    false
}

#[cfg(feature = "mutations")]
mod chosen {
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Whether this deliberate bug is chosen.
    #[must_use]
    pub fn on(name: &str) -> bool {
        CHOSEN.get() == Some(name)
    }

    /// Chooses a deliberate bug for this thread, or none.
    pub fn choose(name: Option<&'static str>) {
        CHOSEN.set(name);
    }
}

#[cfg(feature = "mutations")]
pub use chosen::{choose, on};
