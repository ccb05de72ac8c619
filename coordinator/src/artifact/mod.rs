//! Files by the hash of their content, and trial logs, in the data directory.
//!
//! ```text
//!   <data-dir>/artifacts/ab/cdef…      complete, synced, named by content
//!   <data-dir>/artifacts/incoming/…    uploads under way; emptied at start
//!   <data-dir>/logs/<sweep>/<index>-<epoch>.log
//! ```

mod claim;
mod collect;
mod error;
mod kind;
mod log;
mod quota;
mod retention;
mod space;
mod store;
mod upload;

pub(crate) use claim::Held;
pub(crate) use collect::Collector;
pub use error::Error;
pub use kind::Kind;
pub(crate) use log::{LogKey, Logs};
pub use retention::Retention;
pub(crate) use space::RESERVE;
pub(crate) use store::Artifacts;
pub(crate) use upload::Upload;

/// Largest piece of a file in one message, in bytes.
pub const CHUNK: usize = 256 << 10;
