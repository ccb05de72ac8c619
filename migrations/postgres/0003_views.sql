-- The views that people and scripts read; docs/results.md describes every column. Columns keep
-- their names and meaning; new ones are added at the end. Times are texts, as in SQLite.
--
-- trial_results, leaderboard and learning_curves come with all their columns in 0004_methods.sql,
-- which made them anew in SQLite.

-- A time as text, like 2023-11-14T22:13:20.123Z.
create function utc(milliseconds bigint) returns text
language sql immutable strict parallel safe as $$
    select to_char(
        timestamp 'epoch' + milliseconds * interval '1 millisecond',
        'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
    )
$$;

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
    utc(c.submitted) as submitted,
    utc(c.finished) as finished,
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
    utc(a.started) as started,
    utc(a.ended) as ended,
    (a.ended - a.started)::double precision / 1000 as seconds,
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
