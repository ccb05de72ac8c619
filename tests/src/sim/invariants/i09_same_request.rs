//! I9: the same request id has one effect and gets the same answer, also after a restart.

use std::collections::BTreeMap;

use deptune_sweep::id::{RequestId, SweepId};
use deptune_sweep::scheduler::{Reply, Write};

use super::{Invariant, Ledger, Seen};
use crate::sim::front::Ask;

#[derive(Debug, Default)]
pub(super) struct SameRequest {
    answered: BTreeMap<RequestId, SweepId>,
}

impl Invariant for SameRequest {
    fn id(&self) -> &'static str {
        "I9"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Write(Write::Sweep(record), _) if ledger.deleted.contains_key(&record.id) => {
                Err(format!("the id of the deleted sweep {} is given again", record.id))
            }
            Seen::Write(Write::Sweep(record), _) => match ledger.submitted(record.request_id) {
                Some(first) => {
                    let (request, second) = (record.request_id, record.id);
                    Err(format!("request {request} makes sweeps {first} and {second}"))
                }
                None => Ok(()),
            },
            Seen::Write(Write::Request { request_id, .. }, _)
                if ledger.requests.contains_key(request_id) =>
            {
                Err(format!("request {request_id} has a second effect"))
            }
            Seen::Answered(Ask::Submit(request), Ok(Reply::Sweep(sweep)), _) => {
                let before = *self.answered.entry(*request).or_insert(*sweep);
                if before == *sweep {
                    return Ok(());
                }
                Err(format!("request {request} is answered with {before} and {sweep}"))
            }
            _ => Ok(()),
        }
    }
}
