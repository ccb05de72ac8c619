//! The outbox did what it was asked to.

use deptune_sweep::outcome::FailureClass;
use deptune_sweep::scheduler::{LeaseKey, ReportEnd};

use super::Agent;
use super::event::{Action, FileKind, Kept, Millis};
use super::held::{Ending, Parcel, ParcelState};
use super::on_child::{keep_next, save};

/// Wait before the leases are written down again.
const NOTE_AGAIN: Millis = 5_000;

impl Agent {
    pub(super) fn on_kept(
        &mut self,
        lease: LeaseKey,
        file: FileKind,
        kept: Result<Kept, String>,
        out: &mut Vec<Action>,
    ) {
        let Some(held) = self.trials.get_mut(&lease) else {
            // The lease was taken away meanwhile.
            out.push(Action::Forget(lease));
            return;
        };
        match file {
            FileKind::Checkpoint => {
                held.keeping = false;
                match kept {
                    Ok(kept) => self.add_checkpoint(lease, kept, out),
                    Err(error) => {
                        let trial = lease.trial;
                        tracing::warn!(%trial, error, "a checkpoint could not be kept");
                    }
                }
                if let Some(held) = self.trials.get_mut(&lease) {
                    keep_next(lease, held, out);
                }
            }
            FileKind::Adapter => {
                let Some(Ending::Keeping { result }) = held.end.take() else { return };
                match kept {
                    Ok(kept) => {
                        let adapter = kept.hash.clone();
                        let end = ReportEnd::Succeeded { result, adapter };
                        let report = held.report(lease, end);
                        out.push(Action::SaveReport(Box::new(report.clone())));
                        let adapter = Some(Parcel::new(kept));
                        held.end = Some(Ending::Saving { report, adapter });
                    }
                    Err(error) => {
                        let message = format!("the adapter could not be kept: {error}");
                        let report = held.failed(lease, FailureClass::Infra, message);
                        save(held, report, out);
                    }
                }
            }
        }
    }

    fn add_checkpoint(&mut self, lease: LeaseKey, kept: Kept, out: &mut Vec<Action>) {
        let Some(held) = self.trials.get_mut(&lease) else { return };
        let superseded = match &held.checkpoint {
            // One under way is not overtaken: on a slow link none would ever arrive.
            Some(parcel) if parcel.state != ParcelState::Here => {
                held.fresh.replace(kept).map(|old| old.step)
            }
            _ => held.checkpoint.replace(Parcel::new(kept)).map(|old| old.kept.step),
        };
        if let Some(step) = superseded {
            out.push(Action::ForgetCheckpoint { lease, step });
        }
    }

    /// What the next agent would find is out of date: it is written again in a while.
    pub(super) fn on_leases_saved(&mut self, durable: bool, now: Millis) {
        if !durable {
            self.noted = None;
            self.note_at = now + NOTE_AGAIN;
        }
    }

    pub(super) fn on_saved(&mut self, lease: LeaseKey, durable: bool) {
        let Some(held) = self.trials.get_mut(&lease) else { return };
        if !durable {
            let trial = lease.trial;
            tracing::warn!(%trial, "the report could not be written to the outbox; it is kept in memory");
        }
        held.end = match held.end.take() {
            Some(Ending::Saving { report, adapter }) => Some(Ending::Saved { report, adapter }),
            other => other,
        };
    }
}
