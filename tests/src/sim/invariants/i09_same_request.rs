//! I9: the same request has one effect and gets the same answer, also after a restart and after
//! its sweep is gone; another one under its id is refused.

use std::collections::BTreeMap;

use deptune_coordinator::runtime::Error;
use deptune_sweep::id::{RequestId, SweepId};
use deptune_sweep::scheduler::{Refusal, Reply, Write};

use super::{Invariant, Ledger, Seen};
use crate::sim::front::Ask;

#[derive(Debug, Default)]
pub(super) struct SameRequest {
    submitted: BTreeMap<RequestId, SweepId>,
    controlled: BTreeMap<RequestId, Reply>,
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
            Seen::Write(Write::Request(record), _) if ledger.requests.contains_key(&record.id) => {
                Err(format!("request {} has a second effect", record.id))
            }
            Seen::Answered(Ask::Control { request_id, content, .. }, Ok(reply), _) => {
                let known = ledger.requests.get(request_id).and_then(|line| line.content.as_ref());
                if known != Some(content) {
                    return Err(format!("request {request_id} was for something else before"));
                }
                let before = self.controlled.entry(*request_id).or_insert_with(|| reply.clone());
                if before == reply {
                    return Ok(());
                }
                Err(format!("request {request_id} is answered with {before:?} and {reply:?}"))
            }
            Seen::Answered(
                Ask::Control { request_id, content, .. },
                Err(Error::Refused(why)),
                _,
            ) => {
                let told = self.controlled.get(request_id);
                let same = ledger.requests.get(request_id).and_then(|line| line.content.as_ref())
                    == Some(content);
                match (told, why) {
                    // That its sweep was deleted since is all there is to say.
                    (Some(Reply::Sweep(_)), Refusal::Deleted(_)) => Ok(()),
                    (Some(reply), why) if same => {
                        Err(format!("request {request_id} was answered {reply:?}, now {why}"))
                    }
                    _ => Ok(()),
                }
            }
            Seen::Answered(Ask::Submit(request), Ok(Reply::Sweep(sweep)), _) => {
                let before = *self.submitted.entry(*request).or_insert(*sweep);
                if before == *sweep {
                    return Ok(());
                }
                Err(format!("request {request} is answered with {before} and {sweep}"))
            }
            _ => Ok(()),
        }
    }
}
