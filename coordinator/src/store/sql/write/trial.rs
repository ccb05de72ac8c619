//! Writes about trials, fenced by epoch.

use deptune_sweep::record::{Phase, TrialRecord};
use deptune_sweep::spec::Settings;
use deptune_sweep::task::Recipe;

use super::{fence, refused};
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::statement;
use crate::store::sql::value::int;

/// The columns of a phase.
struct PhaseColumns {
    phase: &'static str,
    worker: Option<String>,
    slot: Option<i64>,
    lease_request: Option<String>,
    outcome: Option<&'static str>,
}

impl From<Phase> for PhaseColumns {
    fn from(phase: Phase) -> PhaseColumns {
        let none = |phase| PhaseColumns {
            phase,
            worker: None,
            slot: None,
            lease_request: None,
            outcome: None,
        };
        match phase {
            Phase::Pending { last_holder } => {
                PhaseColumns { worker: last_holder.map(|w| w.to_string()), ..none("pending") }
            }
            Phase::Leased { worker, slot, request_id } => PhaseColumns {
                worker: Some(worker.to_string()),
                slot: Some(i64::from(slot)),
                lease_request: Some(request_id.to_string()),
                ..none("leased")
            },
            Phase::Ended { outcome } => {
                PhaseColumns { outcome: Some(outcome.as_str()), ..none("ended") }
            }
        }
    }
}

pub(super) async fn insert(
    connection: &mut Connection<'_>,
    record: &TrialRecord,
    configuration: u64,
    settings: &Settings,
) -> Result<(), CommitError> {
    const WHAT: &str = "a new trial";
    let phase = PhaseColumns::from(record.phase);
    let train = &settings.train;
    let result = statement(
        "insert into trials (
             sweep, trial_index, configuration, recipe, method, prompt_length, rank, prompt_lr,
             lowrank_lr, seed, steps, batch_size, gradient_accumulation, max_length, warmup_steps,
             eval_every, eval_batch_size, max_grad_norm, dropout, precision, epoch, phase, worker,
             slot, lease_request, outcome, failures, losses, alone, checkpoint_step,
             checkpoint_hash, learning_rate, lora_alpha, init, init_text, source, warm_start,
             optimizer, scheduler, weight_decay, patience, decoding, k_shot, origin,
             retry_of
         ) values (
             $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
             $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36,
             $37, $38, $39, $40, $41, $42, $43, $44, $45
         ) on conflict (sweep, trial_index) do nothing",
    )
    .bind(int(record.id.sweep.0))
    .bind(int(record.id.index))
    .bind(int(configuration))
    .bind(recipe(settings.recipe))
    .bind(settings.method.as_str())
    .bind(settings.prompt_length)
    .bind(settings.rank)
    .bind(settings.prompt_lr.unwrap_or(0.0))
    .bind(settings.lowrank_lr)
    .bind(int(settings.seed))
    .bind(int(train.steps))
    .bind(train.batch_size)
    .bind(train.gradient_accumulation)
    .bind(train.max_length)
    .bind(int(train.warmup_steps))
    .bind(int(train.eval_every))
    .bind(train.eval_batch_size)
    .bind(train.max_grad_norm)
    .bind(train.dropout)
    .bind(train.precision.as_str())
    .bind(record.epoch.0)
    .bind(phase.phase)
    .bind(phase.worker)
    .bind(phase.slot)
    .bind(phase.lease_request)
    .bind(phase.outcome)
    .bind(record.failures)
    .bind(record.losses)
    .bind(record.alone)
    .bind(record.checkpoint.as_ref().map(|c| int(c.step)))
    .bind(record.checkpoint.as_ref().map(|c| c.hash.as_str()))
    .bind(settings.learning_rate)
    .bind(settings.lora_alpha)
    .bind(settings.init.as_str())
    .bind(&settings.init_text)
    .bind(&settings.source)
    .bind(settings.warm_start.as_str())
    .bind(train.optimizer.as_str())
    .bind(train.scheduler.as_str())
    .bind(train.weight_decay)
    .bind(train.patience)
    .bind(train.decoding.as_str())
    .bind(settings.task.k_shot)
    .bind(record.added.map(|added| int(added.origin)))
    .bind(record.added.and_then(|added| added.retry_of).map(int))
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    fence(result, record.id, record.epoch, "a second row for it")
}

/// An earlier epoch never overwrites a later one, and nothing overwrites an ended trial.
pub(super) async fn update(
    connection: &mut Connection<'_>,
    record: &TrialRecord,
) -> Result<(), CommitError> {
    const WHAT: &str = "its state";
    let phase = PhaseColumns::from(record.phase);
    let result = statement(
        "update trials set
             epoch = $3, phase = $4, worker = $5, slot = $6, lease_request = $7, outcome = $8,
             failures = $9, losses = $10, alone = $11, checkpoint_step = $12,
             checkpoint_hash = $13
         where sweep = $1 and trial_index = $2 and epoch <= $3 and phase <> 'ended'",
    )
    .bind(int(record.id.sweep.0))
    .bind(int(record.id.index))
    .bind(record.epoch.0)
    .bind(phase.phase)
    .bind(phase.worker)
    .bind(phase.slot)
    .bind(phase.lease_request)
    .bind(phase.outcome)
    .bind(record.failures)
    .bind(record.losses)
    .bind(record.alone)
    .bind(record.checkpoint.as_ref().map(|c| int(c.step)))
    .bind(record.checkpoint.as_ref().map(|c| c.hash.as_str()))
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    fence(result, record.id, record.epoch, WHAT)
}

fn recipe(recipe: Recipe) -> &'static str {
    match recipe {
        Recipe::Default => "default",
        Recipe::Reference => "reference",
    }
}
