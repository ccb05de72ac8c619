-- The views that people and scripts read; docs/results.md describes every column. Columns keep
-- their names and meaning; new ones are added at the end.
--
-- They use no function that a client may lack (no sqrt, no JSON), so square roots are taken by
-- Newton's method: from a start not below the root it falls until rounding stops it.

create view trial_results as
select
    t.sweep as sweep,
    t.sweep || '.' || t.trial_index as trial_id,
    t.trial_index as trial_index,
    t.method as method,
    t.prompt_length as prompt_length,
    t.rank as rank,
    t.prompt_lr as prompt_lr,
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
    s.spec_hash as spec_hash
from trials t
join sweeps s on s.id = t.sweep
left join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
left join workers w
    on w.id = coalesce(o.worker, case when t.phase = 'leased' then t.worker end);

create view leaderboard as
with
-- A mean over a number that is not finite would lie, so there is none then.
configuration as (
    select
        t.sweep as sweep, t.configuration as configuration,
        -- The same for all trials of a configuration.
        min(t.method) as method, min(t.prompt_length) as prompt_length, min(t.rank) as rank,
        min(t.prompt_lr) as prompt_lr, min(t.lowrank_lr) as lowrank_lr, min(t.steps) as steps,
        min(t.batch_size) as batch_size,
        min(t.gradient_accumulation) as gradient_accumulation,
        min(t.max_length) as max_length, min(t.warmup_steps) as warmup_steps,
        min(t.dropout) as dropout,
        min(o.constant_metric) as constant_answer,
        min(o.test_constant) as test_constant_answer,
        max(o.trainable_parameters) as trainable_parameters,
        count(*) as seeds,
        case when count(*) = count(o.metric) then avg(o.metric) end as mean,
        case when count(*) = count(o.test_metric) then avg(o.test_metric) end as test_mean,
        avg(o.best_step) as best_step,
        avg(o.train_seconds) as train_seconds
    from trials t
    join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
    where o.outcome = 'succeeded'
    group by t.sweep, t.configuration
),
-- Ranked before the rest is worked out, so that reading the first places costs no more than they.
ranked as (
    select
        c.*, s.name as sweep_name, s.metric_name as metric_name, s.goal as goal,
        s.varied_settings as varied,
        row_number() over (
            partition by c.sweep
            order by
                c.mean is null,
                case s.goal when 'minimize' then c.mean else -c.mean end,
                c.configuration
        ) as place
    from configuration c
    join sweeps s on s.id = c.sweep
),
-- Distinct changes nothing here, but keeps SQLite from putting these sums into each place that
-- mentions them. For one seed they divide by zero, which SQLite answers with null.
spread as (
    select distinct
        r.*,
        (
            select sum((o.metric - r.mean) * (o.metric - r.mean)) / (r.seeds - 1)
            from trials t
            join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
            where t.sweep = r.sweep and t.configuration = r.configuration
                and o.outcome = 'succeeded'
        ) as variance,
        (
            select sum((o.test_metric - r.test_mean) * (o.test_metric - r.test_mean))
                / (r.seeds - 1)
            from trials t
            join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
            where t.sweep = r.sweep and t.configuration = r.configuration
                and o.outcome = 'succeeded'
        ) as test_variance
    from ranked r
),
deviation as (
    select distinct
        d.*,
        case when variance = 0 then 0.0 when variance > 0 then (
            with recursive newton (x) as (
                select (variance + 1) / 2
                union all
                select (x + variance / x) / 2 from newton where (x + variance / x) / 2 < x
            )
            select min(x) from newton
        ) end as std,
        case when test_variance = 0 then 0.0 when test_variance > 0 then (
            with recursive newton (x) as (
                select (test_variance + 1) / 2
                union all
                select (x + test_variance / x) / 2 from newton
                where (x + test_variance / x) / 2 < x
            )
            select min(x) from newton
        ) end as test_std,
        -- Half of the interval's width: t times the standard error of the mean.
        case when variance = 0 then 0.0 when variance > 0 then (
            with recursive newton (x) as (
                select (variance / seeds + 1) / 2
                union all
                select (x + variance / seeds / x) / 2 from newton
                where (x + variance / seeds / x) / 2 < x
            )
            select min(x) from newton
        ) * (
            select t975 from student_t where df <= seeds - 1 order by df desc limit 1
        ) end as half_width
    from spread d
)
select
    sweep,
    place,
    method,
    prompt_length,
    rank,
    prompt_lr,
    lowrank_lr,
    seeds,
    mean,
    std,
    mean - half_width as ci_low,
    mean + half_width as ci_high,
    constant_answer,
    trainable_parameters,
    sweep_name,
    configuration,
    metric_name,
    goal,
    test_mean,
    test_std,
    test_constant_answer,
    best_step,
    train_seconds,
    -- A JSON object, put together by hand.
    '{' || substr(
        case when instr(varied, ',steps,') > 0 then ',"steps":' || steps else '' end
        || case when instr(varied, ',batch_size,') > 0
            then ',"batch_size":' || batch_size else '' end
        || case when instr(varied, ',gradient_accumulation,') > 0
            then ',"gradient_accumulation":' || gradient_accumulation else '' end
        || case when instr(varied, ',max_length,') > 0
            then ',"max_length":' || max_length else '' end
        || case when instr(varied, ',warmup_steps,') > 0
            then ',"warmup_steps":' || warmup_steps else '' end
        || case when instr(varied, ',dropout,') > 0
            then ',"dropout":' || coalesce(dropout, 'null') else '' end,
        2
    ) || '}' as other_settings
from deviation;

create view learning_curves as
select
    e.sweep as sweep,
    e.sweep || '.' || e.trial_index as trial_id,
    e.trial_index as trial_index,
    t.method as method,
    t.prompt_length as prompt_length,
    t.rank as rank,
    t.prompt_lr as prompt_lr,
    t.lowrank_lr as lowrank_lr,
    t.seed as seed,
    e.step as step,
    e.split as split,
    e.loss as loss,
    e.train_loss as train_loss,
    m.name as metric_name,
    m.value as metric,
    c.value as constant_answer,
    s.name as sweep_name,
    t.configuration as configuration,
    e.loss_state as loss_state,
    e.train_loss_state as train_loss_state,
    m.value_state as metric_state,
    e.rows as rows,
    e.seconds as seconds,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.at / 1000.0, 'unixepoch') as recorded
from evaluations e
join trials t on t.sweep = e.sweep and t.trial_index = e.trial_index
join sweeps s on s.id = e.sweep
left join evaluation_metrics m
    on m.sweep = e.sweep and m.trial_index = e.trial_index and m.step = e.step
    and m.split = e.split and m.source = 'trial'
left join evaluation_metrics c
    on c.sweep = m.sweep and c.trial_index = m.trial_index and c.step = m.step
    and c.split = m.split and c.source = 'constant' and c.position = m.position
    and c.name = m.name;

create view sweep_progress as
with counted as (
    select
        s.id, s.name, s.status, s.total, s.metric_name, s.goal, s.submitted, s.finished,
        s.spec_hash,
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
    strftime('%Y-%m-%dT%H:%M:%fZ', c.submitted / 1000.0, 'unixepoch') as submitted,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.finished / 1000.0, 'unixepoch') as finished,
    c.spec_hash as spec_hash
from counted c;

create view attempts_history as
select
    a.sweep as sweep,
    a.sweep || '.' || a.trial_index as trial_id,
    a.trial_index as trial_index,
    a.epoch as epoch,
    w.name as worker,
    a.slot as slot,
    a.first_step as first_step,
    a.last_step as last_step,
    a.ending as ending,
    a.failure_class as failure_class,
    a.message as message,
    strftime('%Y-%m-%dT%H:%M:%fZ', a.started / 1000.0, 'unixepoch') as started,
    strftime('%Y-%m-%dT%H:%M:%fZ', a.ended / 1000.0, 'unixepoch') as ended,
    (a.ended - a.started) / 1000.0 as seconds,
    s.name as sweep_name,
    (
        select d.device from worker_slots d
        where d.worker = a.worker and d.slot = a.slot order by d.position limit 1
    ) as device,
    w.version as worker_version,
    a.worker as worker_id
from attempts a
join sweeps s on s.id = a.sweep
join workers w on w.id = a.worker;
