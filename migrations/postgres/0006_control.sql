-- What people do to sweeps: pausing, changing limits, running trials again, adding seeds, deleting.

-- Nothing is leased although its status is 'running'.
alter table sweeps add column paused boolean not null default false;
-- What the sweep may use now. Null in rows of earlier versions: as the spec says.
alter table sweeps add column priority bigint;
alter table sweeps add column weight bigint check (weight > 0);
alter table sweeps add column max_parallel bigint check (max_parallel > 0);
alter table sweeps add column budget_ms bigint check (budget_ms > 0);
-- Milliseconds for which slots were busy with it.
alter table sweeps add column used_ms bigint not null default 0 check (used_ms >= 0);

-- Of a trial that the spec's grid does not have: the trial of the grid whose settings it has, but
-- for the seed; and the trial that it runs again.
alter table trials add column origin bigint;
alter table trials add column retry_of bigint check (retry_of is null or origin is not null);

-- Requests that changed a sweep: the same again changes nothing.
create table requests (
    id word primary key not null,
    sweep bigint not null references sweeps (id),
    at bigint not null
);

create index requests_by_sweep on requests (sweep);

-- Neither the ids nor the requests of deleted sweeps are used again.
create table deleted_sweeps (
    id bigint primary key,
    request_id word not null unique,
    name word not null,
    deleted bigint not null,
    -- Last cursor of the log when it was deleted: cursors are not used again either.
    last_cursor bigint not null
);

-- The same views with more columns at their ends.
drop view trial_results;
drop view sweep_progress;

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
        select utc(min(a.started))
        from attempts a
        where a.sweep = t.sweep and a.trial_index = t.trial_index
    ) as started,
    utc(o.at) as finished,
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
    case when t.retry_of is not null then t.sweep || '.' || t.retry_of end as retry_of
from trials t
join sweeps s on s.id = t.sweep
left join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
left join workers w
    on w.id = coalesce(o.worker, case when t.phase = 'leased' then t.worker end);

create view sweep_progress as
with counted as (
    select
        s.id, s.name, s.total,
        case when s.paused then 'paused' else s.status end as status, s.metric_name, s.goal, s.submitted, s.finished,
        s.spec_hash, s.priority, s.weight, s.max_parallel, s.budget_ms, s.used_ms,
        (
            select count(*) from trials t where t.sweep = s.id and t.outcome = 'succeeded'
        ) as succeeded,
        (select count(*) from trials t where t.sweep = s.id and t.outcome = 'failed') as failed,
        (
            select count(*) from trials t where t.sweep = s.id and t.outcome = 'cancelled'
        ) as cancelled,
        (select count(*) from trials t where t.sweep = s.id and t.outcome = 'pruned') as pruned,
        (
            select count(*) from trials t
            where t.sweep = s.id and t.outcome is null and t.phase = 'leased'
        ) as running,
        case s.goal
            when 'minimize' then (
                select o.metric from outcomes o
                where o.sweep = s.id and o.metric is not null order by o.metric limit 1
            )
            else (
                select o.metric from outcomes o
                where o.sweep = s.id and o.metric is not null order by o.metric desc limit 1
            )
        end as best
    from sweeps s
)
select
    c.id as sweep,
    c.name as sweep_name,
    c.status as status,
    c.total as trials,
    c.succeeded as succeeded,
    c.failed as failed,
    c.cancelled as cancelled,
    c.pruned as pruned,
    c.running as running,
    -- The rest: to be leased again, or never leased and without a row.
    c.total - c.succeeded - c.failed - c.cancelled - c.pruned - c.running as pending,
    c.metric_name as metric_name,
    c.best as best,
    (
        select c.id || '.' || min(o.trial_index) from outcomes o
        where o.sweep = c.id and o.metric = c.best
    ) as best_trial,
    c.goal as goal,
    utc(c.submitted) as submitted,
    utc(c.finished) as finished,
    c.spec_hash as spec_hash,
    coalesce(c.priority, 0) as priority,
    coalesce(c.weight, 1) as weight,
    c.max_parallel as max_parallel,
    c.budget_ms / 3600000.0::double precision as budget_gpu_hours,
    c.used_ms / 3600000.0::double precision as used_gpu_hours
from counted c;
