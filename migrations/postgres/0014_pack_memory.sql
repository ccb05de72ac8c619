-- What packs took of the machine's memory: packs of the same shape on the same device are sized by it.
create table packs_measured (
    -- Hash of the model's and the batch's shapes.
    shape word not null,
    device word not null,
    -- Trials that the pack began with.
    members bigint not null check (members > 0),
    bytes bigint not null check (bytes > 0),
    estimated bigint not null check (estimated > 0),
    -- The trial of it whose report said so; it may have been deleted since.
    sweep bigint not null,
    trial_index bigint not null,
    at bigint not null,
    primary key (shape, device, members)
);

create view pack_memory as
select
    k.shape as shape,
    k.device as device,
    m.members as pack_members,
    m.bytes as bytes,
    m.estimated as estimated_bytes,
    m.sweep as sweep,
    m.sweep || '.' || m.trial_index as trial_id,
    utc(m.at) as measured,
    l.members as most_members,
    utc(l.at) as ran_out
from (
    select shape, device from packs_measured
    union
    select shape, device from pack_limits
) k
left join packs_measured m on m.shape = k.shape and m.device = k.device
left join pack_limits l on l.shape = k.shape and l.device = k.device;
