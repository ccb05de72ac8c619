-- How busy a trial's device was, and what it drew, where the driver says.
alter table outcomes add column mean_utilization real
    check (mean_utilization between 0 and 1);
alter table outcomes add column mean_power_watts real
    check (mean_power_watts between 0 and 1000000);

-- Who drew a trial's masks of dropout: counters, or libtorch's kernels.
alter table trials add column dropout_masks text not null default 'exact'
    check (dropout_masks in ('exact', 'kernel'));

-- The same view with three more columns at its end.
drop view trial_results;

create view trial_results as
select
    t.sweep as sweep,
    t.sweep || '.' || t.trial_index as trial_id,
    t.trial_index as trial_index,
    t.method as method,
    t.prompt_length as prompt_length,
    t.rank as rank,
    nullif(t.prompt_lr, 0) as prompt_lr,
    t.lowrank_lr as lowrank_lr,
    t.seed as seed,
    t.outcome as outcome,
    o.failure_class as failure_class,
    o.metric as metric,
    s.metric_name as metric_name,
    o.best_step as best_step,
    o.trainable_parameters as trainable_parameters,
    (
        select count(*) from attempts a
        where a.sweep = t.sweep and a.trial_index = t.trial_index
    ) as attempts,
    o.train_seconds as train_seconds,
    w.name as worker,
    s.name as sweep_name,
    t.configuration as configuration,
    t.phase as phase,
    o.metric_state as metric_state,
    o.constant_metric as constant_answer,
    o.test_metric as test_metric,
    o.test_metric_state as test_metric_state,
    o.test_constant as test_constant_answer,
    coalesce(o.message, '') as message,
    (
        select strftime('%Y-%m-%dT%H:%M:%fZ', min(a.started) / 1000.0, 'unixepoch')
        from attempts a
        where a.sweep = t.sweep and a.trial_index = t.trial_index
    ) as started,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.at / 1000.0, 'unixepoch') as finished,
    o.adapter as adapter,
    t.steps as steps,
    t.batch_size as batch_size,
    t.gradient_accumulation as gradient_accumulation,
    t.max_length as max_length,
    t.warmup_steps as warmup_steps,
    t.eval_every as eval_every,
    t.eval_batch_size as eval_batch_size,
    t.max_grad_norm as max_grad_norm,
    t.dropout as dropout,
    t.precision as precision,
    t.recipe as recipe,
    t.epoch as epoch,
    t.failures as failures,
    t.losses as losses,
    coalesce(o.worker, case when t.phase = 'leased' then t.worker end) as worker_id,
    s.spec_hash as spec_hash,
    t.learning_rate as learning_rate,
    t.source as source,
    t.warm_start as warm_start,
    t.init as init,
    t.lora_alpha as lora_alpha,
    t.optimizer as optimizer,
    t.scheduler as scheduler,
    t.weight_decay as weight_decay,
    t.patience as patience,
    t.decoding as decoding,
    t.k_shot as k_shot,
    o.steps as steps_made,
    o.steps < t.steps as stopped_early,
    case when t.retry_of is not null then t.sweep || '.' || t.retry_of end as retry_of,
    o.peak_memory_bytes as peak_memory_bytes,
    o.mean_utilization as mean_utilization,
    o.mean_power_watts as mean_power_watts,
    t.dropout_masks as dropout_masks
from trials t
join sweeps s on s.id = t.sweep
left join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
left join workers w
    on w.id = coalesce(o.worker, case when t.phase = 'leased' then t.worker end);
