-- Tables of the store. People and scripts read the views of 0003_views.sql, which keep their
-- columns; these tables may change with any version.
--
-- Times are integers, milliseconds since 1970-01-01 UTC. Ids of workers and requests are UUIDs as
-- text, so that they can be read and compared with logs. A measured number that may have gone
-- wrong takes two columns: the number, null unless it is finite, and its state, 'finite', 'nan',
-- 'inf' or '-inf'. SQLite itself would turn NaN into null and lose why.
--
-- Not declared strict, because clients before SQLite 3.37 could then not open the file.

-- "DEPT" in ASCII: tells a database of deptune from any other.
pragma application_id = 1145393236;

-- One row: which coordinator opened the store last. Every commit checks the generation first, so
-- that a coordinator which was taken over cannot write any more.
create table coordinator (
    id integer primary key check (id = 1),
    generation integer not null check (generation >= 0),
    -- For people: who that was.
    pid integer,
    host text,
    address text,
    opened integer
);

insert into coordinator (id, generation) values (1, 0);

create table workers (
    -- One run of an agent; an agent that was started again is another worker.
    id text primary key not null,
    name text not null,
    version text not null,
    registered integer not null,
    -- When it left or was given up; null while it is here.
    left_at integer
);

create index workers_here on workers (id) where left_at is null;

create table worker_slots (
    worker text not null references workers (id),
    position integer not null,
    slot integer not null,
    -- 'cpu' or 'cuda'.
    kind text not null,
    threads integer not null,
    -- The device's name for people.
    device text not null,
    primary key (worker, position)
) without rowid;

create table sweeps (
    id integer primary key,
    -- The same request again finds the sweep instead of submitting it twice.
    request_id text not null unique,
    name text not null,
    spec_hash text not null,
    -- The submission, from which every trial's settings can be computed.
    spec text not null,
    format text not null,
    model_config text not null,
    model_dir text,
    model_uploaded integer not null check (model_uploaded in (0, 1)),
    total integer not null check (total >= 0),
    -- Trials from this index on have no row yet: a sweep of a million trials starts at once.
    next_index integer not null check (next_index between 0 and total),
    status text not null check (status in ('running', 'finished', 'cancelled')),
    submitted integer not null,
    finished integer,
    -- Read from the spec at submission, because views cannot read it.
    metric_name text not null,
    goal text not null check (goal in ('maximize', 'minimize')),
    -- Training settings that the grid varies besides the columns that every leaderboard has,
    -- between commas, as in ',steps,dropout,'.
    varied_settings text not null,
    check ((status = 'running') = (finished is null))
);

create index sweeps_by_name on sweeps (name, id);
create index sweeps_by_spec_hash on sweeps (spec_hash, id);

-- The files that a submission names by hash.
create table sweep_files (
    sweep integer not null references sweeps (id),
    role text not null check (role in ('model', 'data')),
    position integer not null,
    -- 'train', 'validation' or 'test' for data.
    split text,
    name text not null,
    hash text not null,
    size integer,
    primary key (sweep, role, position),
    check ((role = 'data') = (split is not null)),
    check ((role = 'data') = (size is not null))
) without rowid;

-- Whether anything still needs an artifact.
create index sweep_files_by_hash on sweep_files (hash);

create table trials (
    sweep integer not null references sweeps (id),
    trial_index integer not null check (trial_index >= 0),
    configuration integer not null check (configuration >= 0),
    -- One column per hyperparameter, so that SQL can group and compare without parsing.
    recipe text not null,
    method text not null,
    prompt_length integer not null,
    rank integer not null,
    prompt_lr real not null,
    lowrank_lr real,
    seed integer not null,
    steps integer not null,
    batch_size integer not null,
    gradient_accumulation integer not null,
    max_length integer not null,
    warmup_steps integer not null,
    eval_every integer not null,
    eval_batch_size integer not null,
    max_grad_norm real not null,
    -- Null: the model's own.
    dropout real,
    precision text not null,
    -- The fencing token: rises with each lease and with a cancellation, never falls.
    epoch integer not null check (epoch >= 1),
    phase text not null check (phase in ('pending', 'leased', 'ended')),
    -- While leased, the holder. While pending, the last holder if its report still counts.
    worker text references workers (id),
    slot integer,
    -- The exchange that granted the lease: the same request again gets the same lease.
    lease_request text,
    outcome text,
    -- Attempts that count against max_attempts, and losses of the worker.
    failures integer not null check (failures >= 0),
    losses integer not null check (losses >= 0),
    -- Must run alone because a pack with it crashed.
    alone integer not null check (alone in (0, 1)),
    -- Where the next attempt goes on.
    checkpoint_step integer,
    checkpoint_hash text,
    primary key (sweep, trial_index),
    -- An ended trial has its outcome, of the same epoch, by the end of the transaction.
    foreign key (sweep, trial_index, epoch, outcome)
        references outcomes (sweep, trial_index, epoch, outcome)
        deferrable initially deferred,
    check ((phase = 'leased') = (slot is not null)),
    check ((phase = 'leased') = (lease_request is not null)),
    check (phase <> 'leased' or worker is not null),
    check (phase <> 'ended' or worker is null),
    check ((phase = 'ended') = (outcome is not null)),
    check ((checkpoint_step is null) = (checkpoint_hash is null))
) without rowid;

-- The seeds of a configuration.
create index trials_by_configuration on trials (sweep, configuration);
-- Counts by outcome and phase.
create index trials_by_state on trials (sweep, outcome, phase);
create index trials_by_checkpoint on trials (checkpoint_hash) where checkpoint_hash is not null;

create table attempts (
    sweep integer not null,
    trial_index integer not null,
    epoch integer not null,
    worker text not null references workers (id),
    slot integer not null,
    first_step integer not null,
    last_step integer not null,
    started integer not null,
    ended integer,
    ending text check (ending in ('succeeded', 'failed', 'released', 'expired', 'cancelled')),
    failure_class text,
    message text not null default '',
    primary key (sweep, trial_index, epoch),
    foreign key (sweep, trial_index) references trials (sweep, trial_index),
    check ((ended is null) = (ending is null)),
    check (ending is not null or failure_class is null)
) without rowid;

create table outcomes (
    sweep integer not null,
    trial_index integer not null,
    epoch integer not null,
    outcome text not null check (outcome in ('succeeded', 'failed', 'cancelled', 'pruned')),
    failure_class text,
    message text not null,
    -- Null when no worker reported it (cancelled).
    worker text references workers (id),
    at integer not null,
    adapter text,
    -- From here to result: of a success only.
    metric_name text,
    metric real,
    metric_state text,
    best_step integer,
    constant_metric real,
    constant_state text,
    -- The selection metric on the test split, if there is one.
    test_metric real,
    test_metric_state text,
    test_constant real,
    test_constant_state text,
    steps integer,
    trainable_parameters integer,
    train_seconds real,
    -- The whole result as it was reported, JSON.
    result text,
    -- At most one outcome per trial, whatever happens.
    primary key (sweep, trial_index),
    unique (sweep, trial_index, epoch, outcome),
    foreign key (sweep, trial_index) references trials (sweep, trial_index),
    check ((outcome = 'succeeded') = (result is not null)),
    check ((outcome = 'failed') = (failure_class is not null)),
    check ((metric is not null) = (coalesce(metric_state, '') = 'finite')),
    check ((constant_metric is not null) = (coalesce(constant_state, '') = 'finite')),
    check ((test_metric is not null) = (coalesce(test_metric_state, '') = 'finite')),
    check ((test_constant is not null) = (coalesce(test_constant_state, '') = 'finite'))
) without rowid;

-- The best trial without reading all of them.
create index outcomes_by_metric on outcomes (sweep, metric);
create index outcomes_by_adapter on outcomes (adapter) where adapter is not null;

create trigger outcomes_never_change before update on outcomes
begin
    select raise(abort, 'an outcome never changes');
end;

create table evaluations (
    sweep integer not null,
    trial_index integer not null,
    step integer not null,
    split text not null,
    -- The attempt that made it. A resumed attempt may make it again; the latest one stays.
    epoch integer not null,
    loss real,
    loss_state text not null,
    -- Null with a null state: not measured, as on the test split.
    train_loss real,
    train_loss_state text,
    rows integer not null,
    seconds real not null,
    at integer not null,
    primary key (sweep, trial_index, step, split),
    foreign key (sweep, trial_index) references trials (sweep, trial_index),
    check ((loss is not null) = (loss_state = 'finite')),
    check ((train_loss is not null) = (coalesce(train_loss_state, '') = 'finite'))
) without rowid;

create table evaluation_metrics (
    sweep integer not null,
    trial_index integer not null,
    step integer not null,
    split text not null,
    -- 'trial': of the trial. 'constant': of the best constant answer on the same rows.
    source text not null check (source in ('trial', 'constant')),
    -- The selection metric is at 0.
    position integer not null,
    name text not null,
    value real,
    value_state text not null,
    primary key (sweep, trial_index, step, split, source, position),
    foreign key (sweep, trial_index, step, split)
        references evaluations (sweep, trial_index, step, split),
    check ((value is not null) = (value_state = 'finite'))
) without rowid;

create table log (
    -- Watchers follow it; one sequence for all sweeps.
    cursor integer primary key,
    sweep integer not null references sweeps (id),
    trial_index integer,
    at integer not null,
    -- What happened, JSON with its kind.
    entry text not null
);

create index log_by_sweep on log (sweep, cursor);

-- Reports that came after their lease was over: evidence, never results.
create table stale_reports (
    id integer primary key,
    sweep integer not null,
    trial_index integer not null,
    epoch integer not null,
    worker text not null references workers (id),
    report text not null,
    at integer not null,
    foreign key (sweep, trial_index) references trials (sweep, trial_index)
);
