-- Spaces that were added to sweeps: more points, besides those of the spec's grid.
create table sweep_spaces (
    sweep bigint not null references sweeps (id),
    -- From 1; a trial's origin counts through the grid's points and then through theirs.
    number bigint not null check (number > 0),
    text text not null,
    format word not null,
    at bigint not null,
    primary key (sweep, number)
);
