-- Until when nobody else may take over has a row of its own: the leader renews it while one of its
-- own commits, however long, holds the coordinator's row.

create table lease (
    id bigint primary key check (id = 1),
    -- Of the coordinator that may renew it.
    generation bigint not null check (generation >= 0),
    -- On the database's clock; null when nobody leads.
    leads_until timestamptz
);

insert into lease (id, generation, leads_until)
select id, generation, leads_until from coordinator;

alter table coordinator drop column leads_until;
