//! I17: queues, messages and outboxes stay within their limits.

use deptune_worker::protocol::Call;

use super::{Invariant, Ledger, Seen};

/// Requests that may wait for a coordinator.
const QUEUE: usize = 8192;
/// Reports in one message.
const REPORTS: usize = 64;
/// Checkpoints of one lease in an outbox: one under way, one that waits, one being written.
const CHECKPOINTS: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Bounded;

impl Invariant for Bounded {
    fn id(&self) -> &'static str {
        "I17"
    }

    fn see(&mut self, _: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        let (what, count, most) = match seen {
            Seen::Queue(length) => ("requests wait", *length, QUEUE),
            Seen::Called(_, Call::Exchange { reports, .. }) => {
                ("reports in one message", reports.len(), REPORTS)
            }
            Seen::Scan(scan) => ("checkpoints of one lease", scan.checkpoints, CHECKPOINTS),
            _ => return Ok(()),
        };
        if count > most { Err(format!("{count} {what}, at most {most} may")) } else { Ok(()) }
    }
}
