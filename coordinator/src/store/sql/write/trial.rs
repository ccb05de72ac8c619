//! Writes about trials, fenced by epoch.

use deptune_sweep::record::{Holder, Phase, TrialRecord};
use deptune_sweep::spec::Settings;
use deptune_sweep::task::Recipe;

use super::{fence, refused};
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::{Value, statement};
use crate::store::sql::value::int;

/// The columns of a phase.
struct PhaseColumns {
    phase: &'static str,
    worker: Option<String>,
    slot: Option<i64>,
    lease_request: Option<String>,
    held_slot: Option<i64>,
    held_request: Option<String>,
    outcome: Option<&'static str>,
}

impl From<Phase> for PhaseColumns {
    fn from(phase: Phase) -> PhaseColumns {
        let none = |phase| PhaseColumns {
            phase,
            worker: None,
            slot: None,
            lease_request: None,
            held_slot: None,
            held_request: None,
            outcome: None,
        };
        match phase {
            Phase::Pending { last_holder } => PhaseColumns {
                worker: last_holder.map(|holder| holder.worker.to_string()),
                held_slot: last_holder.map(|holder| i64::from(holder.slot)),
                held_request: last_holder.map(|holder| holder.request_id.to_string()),
                ..none("pending")
            },
            Phase::Leased(Holder { worker, slot, request_id }) => PhaseColumns {
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

pub(super) const INSERT: &str = "insert into trials (
             sweep, trial_index, configuration, recipe, method, prompt_length, rank, prompt_lr,
             lowrank_lr, seed, steps, batch_size, gradient_accumulation, max_length, warmup_steps,
             eval_every, eval_batch_size, max_grad_norm, dropout, precision, epoch, phase, worker,
             slot, lease_request, outcome, failures, losses, alone, checkpoint_step,
             checkpoint_hash, learning_rate, lora_alpha, init, init_text, source, warm_start,
             optimizer, scheduler, weight_decay, patience, decoding, k_shot, origin,
             retry_of, pack_members, dropout_masks
         ) values (
             $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
             $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36,
             $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47
         ) on conflict (sweep, trial_index) do nothing";

/// The same for many.
pub(super) const INSERT_MANY: &str = "
    insert into trials (
        sweep, trial_index, configuration, recipe, method, prompt_length, rank, prompt_lr,
        lowrank_lr, seed, steps, batch_size, gradient_accumulation, max_length, warmup_steps,
        eval_every, eval_batch_size, max_grad_norm, dropout, precision, epoch, phase, worker,
        slot, lease_request, outcome, failures, losses, alone, checkpoint_step,
        checkpoint_hash, learning_rate, lora_alpha, init, init_text, source, warm_start,
        optimizer, scheduler, weight_decay, patience, decoding, k_shot, origin, retry_of,
        pack_members, dropout_masks
    )
    select * from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[],
        $7::bigint[], $8::float8[], $9::float8[], $10::bigint[], $11::bigint[], $12::bigint[],
        $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
        $18::float8[], $19::float8[], $20::text[], $21::bigint[], $22::text[], $23::text[],
        $24::bigint[], $25::text[], $26::text[], $27::bigint[], $28::bigint[], $29::boolean[],
        $30::bigint[], $31::text[], $32::float8[], $33::float8[], $34::text[], $35::text[],
        $36::text[], $37::text[], $38::text[], $39::text[], $40::float8[], $41::bigint[],
        $42::text[], $43::bigint[], $44::bigint[], $45::bigint[], $46::bigint[], $47::text[]
    )
    on conflict (sweep, trial_index) do nothing";

pub(super) fn insert_values<'w>(
    record: &'w TrialRecord,
    configuration: u64,
    settings: &'w Settings,
) -> Vec<Value<'w>> {
    let phase = PhaseColumns::from(record.phase);
    let train = &settings.train;
    vec![
        int(record.id.sweep.0).into(),
        int(record.id.index).into(),
        int(configuration).into(),
        recipe(settings.recipe).into(),
        settings.method.as_str().into(),
        settings.prompt_length.into(),
        settings.rank.into(),
        settings.prompt_lr.unwrap_or(0.0).into(),
        settings.lowrank_lr.into(),
        int(settings.seed).into(),
        int(train.steps).into(),
        train.batch_size.into(),
        train.gradient_accumulation.into(),
        train.max_length.into(),
        int(train.warmup_steps).into(),
        int(train.eval_every).into(),
        train.eval_batch_size.into(),
        train.max_grad_norm.into(),
        train.dropout.into(),
        train.precision.as_str().into(),
        record.epoch.0.into(),
        phase.phase.into(),
        phase.worker.into(),
        phase.slot.into(),
        phase.lease_request.into(),
        phase.outcome.into(),
        record.failures.into(),
        record.losses.into(),
        record.alone.into(),
        record.checkpoint.as_ref().map(|c| int(c.step)).into(),
        record.checkpoint.as_ref().map(|c| c.hash.as_str()).into(),
        settings.learning_rate.into(),
        settings.lora_alpha.into(),
        settings.init.as_str().into(),
        (&settings.init_text).into(),
        (&settings.source).into(),
        settings.warm_start.as_str().into(),
        train.optimizer.as_str().into(),
        train.scheduler.as_str().into(),
        train.weight_decay.into(),
        train.patience.into(),
        train.decoding.as_str().into(),
        settings.task.k_shot.into(),
        record.added.map(|added| int(added.origin)).into(),
        record.added.and_then(|added| added.retry_of).map(int).into(),
        record.pack_members.into(),
        train.dropout_masks.as_str().into(),
    ]
}

pub(super) async fn insert(
    connection: &mut Connection<'_>,
    record: &TrialRecord,
    configuration: u64,
    settings: &Settings,
) -> Result<(), CommitError> {
    const WHAT: &str = "a new trial";
    let result = statement(INSERT)
        .with(insert_values(record, configuration, settings))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    fence(result, record.id, record.epoch, "a second row for it")
}

pub(super) const UPDATE: &str = "update trials set
             epoch = $3, phase = $4, worker = $5, slot = $6, lease_request = $7, outcome = $8,
             failures = $9, losses = $10, alone = $11, checkpoint_step = $12,
             checkpoint_hash = $13, pack_members = $14, held_slot = $15, held_request = $16
         where sweep = $1 and trial_index = $2 and epoch <= $3 and phase <> 'ended'";

/// The same for many.
pub(super) const UPDATE_MANY: &str = "
    update trials t set
        epoch = n.epoch, phase = n.phase, worker = n.worker, slot = n.slot,
        lease_request = n.lease_request, outcome = n.outcome, failures = n.failures,
        losses = n.losses, alone = n.alone, checkpoint_step = n.checkpoint_step,
        checkpoint_hash = n.checkpoint_hash, pack_members = n.pack_members,
        held_slot = n.held_slot, held_request = n.held_request
    from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[],
        $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::boolean[], $12::bigint[],
        $13::text[], $14::bigint[], $15::bigint[], $16::text[]
    ) as n (
        sweep, trial_index, epoch, phase, worker, slot, lease_request, outcome, failures,
        losses, alone, checkpoint_step, checkpoint_hash, pack_members, held_slot, held_request
    )
    where t.sweep = n.sweep and t.trial_index = n.trial_index and t.epoch <= n.epoch
        and t.phase <> 'ended'";

pub(super) fn update_values(record: &TrialRecord) -> Vec<Value<'_>> {
    let phase = PhaseColumns::from(record.phase);
    vec![
        int(record.id.sweep.0).into(),
        int(record.id.index).into(),
        record.epoch.0.into(),
        phase.phase.into(),
        phase.worker.into(),
        phase.slot.into(),
        phase.lease_request.into(),
        phase.outcome.into(),
        record.failures.into(),
        record.losses.into(),
        record.alone.into(),
        record.checkpoint.as_ref().map(|c| int(c.step)).into(),
        record.checkpoint.as_ref().map(|c| c.hash.as_str()).into(),
        record.pack_members.into(),
        phase.held_slot.into(),
        phase.held_request.into(),
    ]
}

/// An earlier epoch never overwrites a later one, and nothing overwrites an ended trial.
pub(super) async fn update(
    connection: &mut Connection<'_>,
    record: &TrialRecord,
) -> Result<(), CommitError> {
    const WHAT: &str = "its state";
    let result = statement(UPDATE)
        .with(update_values(record))
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
