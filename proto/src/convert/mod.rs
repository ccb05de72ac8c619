//! Wire messages to the domain's types and back.
//!
//! Reading a message is total: whatever a stranger sends becomes a value of the domain or an
//! [`InvalidField`] that names the field. Sizes are bounded here, before anything is looked up
//! or stored. Writing a message never fails.

mod control;
mod enums;
mod error;
mod evaluation;
mod field;
mod id;
mod lease;
mod log;
mod progress;
mod report;
mod sweep;
mod worker;

pub use control::{Command, SweepRef, hours};
pub use error::{InvalidField, Problem};
pub use field::{MAX_MESSAGE, MAX_NAME, MAX_PATH, hash, request_id, worker_id};
pub use lease::Assignment;
pub use sweep::{MAX_DATA_FILES, MAX_MODEL_CONFIG, MAX_MODEL_FILES, NewSweep, sweep_ref};
