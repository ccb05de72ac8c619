-- A request is known by what it asked for, and after its sweep was deleted: the same again has the
-- same answer, another one under its id is refused.
create table all_requests (
    id text primary key not null,
    -- No reference: the sweep may be gone.
    sweep integer not null,
    at integer not null,
    -- Hash of what was asked for; null in rows of earlier versions.
    content text,
    -- What was answered where nobody could look it up later: to a deletion. JSON.
    answer text
);
insert into all_requests (id, sweep, at) select id, sweep, at from requests;
drop table requests;
alter table all_requests rename to requests;

-- Null in rows of earlier versions.
alter table deleted_sweeps add column spec_hash text;
