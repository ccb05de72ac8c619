-- Packs: trials that are leased together to one slot and train in one process.

-- Trials that the latest lease's pack began with.
alter table trials add column pack_members integer not null default 1 check (pack_members > 0);
-- Of a trial whose lease expired: the slot and the request of its last holder, who may come back.
alter table trials add column held_slot integer check (held_slot >= 0);
alter table trials add column held_request text;
alter table attempts add column members integer not null default 1 check (members > 0);

-- Most trials of a pack on the slot, and the bytes that one may use where that is known.
alter table worker_slots add column max_pack integer not null default 1 check (max_pack > 0);
alter table worker_slots add column memory integer check (memory >= 0);

-- Packs that ran out of memory: how large one of that shape may be on that device.
create table pack_limits (
    -- Hash of the model's and the batch's shapes.
    shape text not null,
    device text not null,
    members integer not null check (members > 0),
    at integer not null,
    primary key (shape, device)
);

-- The same view with one more column at its end.
drop view attempts_history;

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
    a.worker as worker_id,
    a.members as pack_members
from attempts a
join sweeps s on s.id = a.sweep
join workers w on w.id = a.worker;
