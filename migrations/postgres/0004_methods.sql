-- Methods besides DePT and prompt tuning, other starts, optimisers and schedules; reports by class.
--
-- prompt_lr is 0, which no rate can be, where a method has no prompt, and null in the views.

alter table trials add column learning_rate double precision;
alter table trials add column lora_alpha double precision;
alter table trials add column init word not null default 'text';
-- Null: the text of DePT's authors.
alter table trials add column init_text word;
-- The source adapter's name in the spec.
alter table trials add column source word;
alter table trials add column warm_start word not null default 'all';
alter table trials add column optimizer word not null default 'adamw';
alter table trials add column scheduler word not null default 'linear';
alter table trials add column weight_decay double precision not null default 0;
alter table trials add column patience bigint;
alter table trials add column decoding word not null default 'greedy';
alter table trials add column k_shot bigint;

-- How each class fared in an evaluation; no rows where any text may be an answer.
create table evaluation_classes (
    sweep bigint not null,
    trial_index bigint not null,
    step bigint not null,
    split word not null,
    position bigint not null,
    label word not null,
    -- Percent.
    precision double precision not null,
    recall double precision not null,
    f1 double precision not null,
    support bigint not null,
    primary key (sweep, trial_index, step, split, position),
    foreign key (sweep, trial_index, step, split)
        references evaluations (sweep, trial_index, step, split)
);

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
    o.steps < t.steps as stopped_early
from trials t
join sweeps s on s.id = t.sweep
left join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
left join workers w
    on w.id = coalesce(o.worker, case when t.phase = 'leased' then t.worker end);

create view leaderboard as
with
-- A mean over a number that is not finite would lie, so there is none then; nor over one beyond
-- 1e150, whose square Postgres refuses to compute.
finished as (
    select
        t.*, o.constant_metric, o.test_constant, o.trainable_parameters, o.best_step,
        least(o.train_seconds, 1e150) as train_seconds,
        case when abs(o.metric) <= 1e150 then o.metric end as metric,
        case when abs(o.test_metric) <= 1e150 then o.test_metric end as test_metric
    from trials t
    join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
    where o.outcome = 'succeeded'
),
configuration as (
    select
        sweep, configuration,
        -- The same for all trials of a configuration.
        min(method) as method, min(prompt_length) as prompt_length, min(rank) as rank,
        nullif(min(prompt_lr), 0) as prompt_lr, min(lowrank_lr) as lowrank_lr,
        min(learning_rate) as learning_rate, min(source) as source, min(steps) as steps,
        min(batch_size) as batch_size, min(gradient_accumulation) as gradient_accumulation,
        min(max_length) as max_length, min(warmup_steps) as warmup_steps,
        min(dropout) as dropout,
        min(constant_metric) as constant_answer,
        min(test_constant) as test_constant_answer,
        max(trainable_parameters) as trainable_parameters,
        count(*) as seeds,
        case when count(*) = count(metric) then avg(metric) end as mean,
        case when count(*) = count(metric) then stddev_samp(metric) end as std,
        case when count(*) = count(test_metric) then avg(test_metric) end as test_mean,
        case when count(*) = count(test_metric) then stddev_samp(test_metric) end as test_std,
        avg(best_step::double precision) as best_step,
        avg(train_seconds) as train_seconds
    from finished
    group by sweep, configuration
),
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
        ) as place,
        -- Half of the interval's width: t times the standard error of the mean.
        c.std / sqrt(c.seeds) * (
            select t975 from student_t where df <= c.seeds - 1 order by df desc limit 1
        ) as half_width
    from configuration c
    join sweeps s on s.id = c.sweep
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
        case when strpos(varied, ',steps,') > 0 then ',"steps":' || steps else '' end
        || case when strpos(varied, ',batch_size,') > 0
            then ',"batch_size":' || batch_size else '' end
        || case when strpos(varied, ',gradient_accumulation,') > 0
            then ',"gradient_accumulation":' || gradient_accumulation else '' end
        || case when strpos(varied, ',max_length,') > 0
            then ',"max_length":' || max_length else '' end
        || case when strpos(varied, ',warmup_steps,') > 0
            then ',"warmup_steps":' || warmup_steps else '' end
        || case when strpos(varied, ',dropout,') > 0
            then ',"dropout":' || case
                when dropout is null then 'null'
                -- A real number in JSON too.
                when dropout = trunc(dropout) then dropout::bigint || '.0'
                else dropout::text
            end else '' end,
        2
    ) || '}' as other_settings,
    learning_rate,
    source
from ranked;

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
    utc(e.at) as recorded,
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
