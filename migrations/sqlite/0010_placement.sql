-- What workers are asked by, and those that were asked to end.

-- 1: it is leased nothing more, and goes when it hears of it.
alter table workers add column draining integer not null default 0 check (draining in (0, 1));

-- Words by which a sweep may ask for a worker.
create table worker_labels (
    worker text not null references workers (id),
    label text not null,
    primary key (worker, label)
);
