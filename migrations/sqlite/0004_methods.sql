-- Methods besides DePT and prompt tuning, other starts, optimisers and schedules; reports by class.
--
-- Rows of earlier versions get the values that those versions trained with. prompt_lr was made not
-- null and stays so: it is 0, which no rate can be, where a method has no prompt, and null in the
-- views.

alter table trials add column learning_rate real;
alter table trials add column lora_alpha real;
alter table trials add column init text not null default 'text';
-- Null: the text of DePT's authors.
alter table trials add column init_text text;
-- The source adapter's name in the spec.
alter table trials add column source text;
alter table trials add column warm_start text not null default 'all';
alter table trials add column optimizer text not null default 'adamw';
alter table trials add column scheduler text not null default 'linear';
alter table trials add column weight_decay real not null default 0;
alter table trials add column patience integer;
alter table trials add column decoding text not null default 'greedy';
alter table trials add column k_shot integer;

-- How each class fared in an evaluation; no rows where any text may be an answer.
create table evaluation_classes (
    sweep integer not null,
    trial_index integer not null,
    step integer not null,
    split text not null,
    position integer not null,
    label text not null,
    -- Percent.
    precision real not null,
    recall real not null,
    f1 real not null,
    support integer not null,
    primary key (sweep, trial_index, step, split, position),
    foreign key (sweep, trial_index, step, split)
        references evaluations (sweep, trial_index, step, split)
) without rowid;

create view class_reports as
select
    c.sweep as sweep,
    c.sweep || '.' || c.trial_index as trial_id,
    c.trial_index as trial_index,
    c.step as step,
    c.split as split,
    c.label as label,
    c.precision as precision,
    c.recall as recall,
    c.f1 as f1,
    c.support as support,
    s.name as sweep_name
from evaluation_classes c
join sweeps s on s.id = c.sweep;

-- The same views with more columns at their ends.
drop view trial_results;
drop view leaderboard;
drop view learning_curves;

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
    o.steps < t.steps as stopped_early
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
        nullif(min(t.prompt_lr), 0) as prompt_lr, min(t.lowrank_lr) as lowrank_lr,
        min(t.learning_rate) as learning_rate, min(t.source) as source, min(t.steps) as steps,
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
    ) || '}' as other_settings,
    learning_rate,
    source
from deviation;

create view learning_curves as
select
    e.sweep as sweep,
    e.sweep || '.' || e.trial_index as trial_id,
    e.trial_index as trial_index,
    t.method as method,
    t.prompt_length as prompt_length,
    t.rank as rank,
    nullif(t.prompt_lr, 0) as prompt_lr,
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
    strftime('%Y-%m-%dT%H:%M:%fZ', e.at / 1000.0, 'unixepoch') as recorded,
    t.learning_rate as learning_rate,
    t.source as source
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
