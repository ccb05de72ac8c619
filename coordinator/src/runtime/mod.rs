//! The owner loop: one task holds the scheduler, everyone else has a [`Handle`].
//!
//! ```text
//!   handlers ──Handle::request──► bounded queue ──► owner: step, step, step …
//!                                                     │  one commit for all of them
//!   handlers ◄──────── replies, signals ──────────────┘  only then
//! ```
//!
//! Events that wait together are stepped together and committed in one transaction, so that the
//! price of a durable commit is shared. A reply leaves only after the commit that it depends on.
//! When a commit fails, or nobody knows whether it happened, every caller of that batch hears
//! [`Error::Unavailable`] or [`Error::DiskFull`], the scheduler is dropped and rebuilt from the store.

mod clock;
mod handle;
mod owner;
#[cfg(test)]
mod tests;
mod turn;

pub use handle::{Error, Exchanged, Handle, Health};
pub use owner::Fatal;
pub use turn::{BatchSize, Fence, Next, Setbacks, Settled, Turn};

pub(crate) use owner::{Ending, Settings, start};
