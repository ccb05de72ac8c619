-- What workers are asked by, and those that were asked to end.

-- True: it is leased nothing more, and goes when it hears of it.
alter table workers add column draining boolean not null default false;

-- Words by which a sweep may ask for a worker.
create table worker_labels (
    worker word not null references workers (id),
    label word not null,
    primary key (worker, label)
);
