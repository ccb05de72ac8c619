-- Tables of the store, as in ../sqlite/0001_tables.sql: the same columns with the same meaning. What
-- differs is said where it does. Every whole number is a bigint and every measured one a double
-- precision, as the program reads them; texts compare byte by byte (collate "C"), as in SQLite and
-- in the program, whatever the database's own order is.
--
-- Times are integers, milliseconds since 1970-01-01 UTC. Ids of workers and requests are UUIDs as
-- text. A measured number that may have gone wrong takes two columns, the number, null unless it is
-- finite, and its state, as in SQLite.

create domain word as text collate "C";

-- One row: which coordinator leads. Every commit locks the row and checks the generation first, so
-- that a coordinator which was taken over cannot write any more.
create table coordinator (
    id bigint primary key check (id = 1),
    generation bigint not null check (generation >= 0),
    -- Who leads, for the others and for people.
    pid bigint,
    host word,
    address word,
    opened bigint,
    -- In Postgres only: until when, on the database's clock, nobody else may take over.
    leads_until timestamptz
);

insert into coordinator (id, generation) values (1, 0);

create table workers (
    -- One run of an agent; an agent that was started again is another worker.
    id word primary key not null,
    name word not null,
    version word not null,
    registered bigint not null,
    -- When it left or was given up; null while it is here.
    left_at bigint
);

create index workers_here on workers (id) where left_at is null;

create table worker_slots (
    worker word not null references workers (id),
    position bigint not null,
    slot bigint not null,
    -- 'cpu' or 'cuda'.
    kind word not null,
    threads bigint not null,
    -- The device's name for people.
    device word not null,
    primary key (worker, position)
);

create table sweeps (
    id bigint primary key,
    -- The same request again finds the sweep instead of submitting it twice.
    request_id word not null unique,
    name word not null,
    spec_hash word not null,
    -- The submission, from which every trial's settings can be computed.
    spec word not null,
    format word not null,
    model_config word not null,
    model_dir word,
    model_uploaded boolean not null,
    total bigint not null check (total >= 0),
    -- Trials from this index on have no row yet: a sweep of a million trials starts at once.
    next_index bigint not null check (next_index between 0 and total),
    status word not null check (status in ('running', 'finished', 'cancelled')),
    submitted bigint not null,
    finished bigint,
    -- Read from the spec at submission, because views cannot read it.
    metric_name word not null,
    goal word not null check (goal in ('maximize', 'minimize')),
    -- Training settings that the grid varies besides the columns that every leaderboard has,
    -- between commas, as in ',steps,dropout,'.
    varied_settings word not null,
    check ((status = 'running') = (finished is null))
);

create index sweeps_by_name on sweeps (name, id);
create index sweeps_by_spec_hash on sweeps (spec_hash, id);

-- The files that a submission names by hash.
create table sweep_files (
    sweep bigint not null references sweeps (id),
    role word not null check (role in ('model', 'data')),
    position bigint not null,
    -- 'train', 'validation' or 'test' for data.
    split word,
    name word not null,
    hash word not null,
    size bigint,
    primary key (sweep, role, position),
    check ((role = 'data') = (split is not null)),
    check ((role = 'data') = (size is not null))
);

-- Whether anything still needs an artifact.
create index sweep_files_by_hash on sweep_files (hash);

create table trials (
    sweep bigint not null references sweeps (id),
    trial_index bigint not null check (trial_index >= 0),
    configuration bigint not null check (configuration >= 0),
    -- One column per hyperparameter, so that SQL can group and compare without parsing.
    recipe word not null,
    method word not null,
    prompt_length bigint not null,
    rank bigint not null,
    prompt_lr double precision not null,
    lowrank_lr double precision,
    seed bigint not null,
    steps bigint not null,
    batch_size bigint not null,
    gradient_accumulation bigint not null,
    max_length bigint not null,
    warmup_steps bigint not null,
    eval_every bigint not null,
    eval_batch_size bigint not null,
    max_grad_norm double precision not null,
    -- Null: the model's own.
    dropout double precision,
    precision word not null,
    -- The fencing token: rises with each lease and with a cancellation, never falls.
    epoch bigint not null check (epoch >= 1),
    phase word not null check (phase in ('pending', 'leased', 'ended')),
    -- While leased, the holder. While pending, the last holder if its report still counts.
    worker word references workers (id),
    slot bigint,
    -- The exchange that granted the lease: the same request again gets the same lease.
    lease_request word,
    outcome word,
    -- Attempts that count against max_attempts, and losses of the worker.
    failures bigint not null check (failures >= 0),
    losses bigint not null check (losses >= 0),
    -- Must run alone because a pack with it crashed.
    alone boolean not null,
    -- Where the next attempt goes on.
    checkpoint_step bigint,
    checkpoint_hash word,
    primary key (sweep, trial_index),
    check ((phase = 'leased') = (slot is not null)),
    check ((phase = 'leased') = (lease_request is not null)),
    check (phase <> 'leased' or worker is not null),
    check (phase <> 'ended' or worker is null),
    check ((phase = 'ended') = (outcome is not null)),
    check ((checkpoint_step is null) = (checkpoint_hash is null))
);

-- The seeds of a configuration.
create index trials_by_configuration on trials (sweep, configuration);
-- Counts by outcome and phase.
create index trials_by_state on trials (sweep, outcome, phase);
create index trials_by_checkpoint on trials (checkpoint_hash) where checkpoint_hash is not null;

create table attempts (
    sweep bigint not null,
    trial_index bigint not null,
    epoch bigint not null,
    worker word not null references workers (id),
    slot bigint not null,
    first_step bigint not null,
    last_step bigint not null,
    started bigint not null,
    ended bigint,
    ending word check (ending in ('succeeded', 'failed', 'released', 'expired', 'cancelled')),
    failure_class word,
    message word not null default '',
    primary key (sweep, trial_index, epoch),
    foreign key (sweep, trial_index) references trials (sweep, trial_index),
    check ((ended is null) = (ending is null)),
    check (ending is not null or failure_class is null)
);

create table outcomes (
    sweep bigint not null,
    trial_index bigint not null,
    epoch bigint not null,
    outcome word not null check (outcome in ('succeeded', 'failed', 'cancelled', 'pruned')),
    failure_class word,
    message word not null,
    -- Null when no worker reported it (cancelled).
    worker word references workers (id),
    at bigint not null,
    adapter word,
    -- From here to result: of a success only.
    metric_name word,
    metric double precision,
    metric_state word,
    best_step bigint,
    constant_metric double precision,
    constant_state word,
    -- The selection metric on the test split, if there is one.
    test_metric double precision,
    test_metric_state word,
    test_constant double precision,
    test_constant_state word,
    steps bigint,
    trainable_parameters bigint,
    train_seconds double precision,
    -- The whole result as it was reported, JSON.
    result word,
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
);

-- The best trial without reading all of them.
create index outcomes_by_metric on outcomes (sweep, metric);
create index outcomes_by_adapter on outcomes (adapter) where adapter is not null;

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'an outcome never changes';
end
$$;

create trigger outcomes_never_change before update on outcomes
for each row execute function refuse_change();

-- An ended trial has its outcome, of the same epoch, by the end of the transaction.
alter table trials add constraint trials_have_outcomes
    foreign key (sweep, trial_index, epoch, outcome)
    references outcomes (sweep, trial_index, epoch, outcome)
    deferrable initially deferred;

create table evaluations (
    sweep bigint not null,
    trial_index bigint not null,
    step bigint not null,
    split word not null,
    -- The attempt that made it. A resumed attempt may make it again; the latest one stays.
    epoch bigint not null,
    loss double precision,
    loss_state word not null,
    -- Null with a null state: not measured, as on the test split.
    train_loss double precision,
    train_loss_state word,
    rows bigint not null,
    seconds double precision not null,
    at bigint not null,
    primary key (sweep, trial_index, step, split),
    foreign key (sweep, trial_index) references trials (sweep, trial_index),
    check ((loss is not null) = (loss_state = 'finite')),
    check ((train_loss is not null) = (coalesce(train_loss_state, '') = 'finite'))
);

create table evaluation_metrics (
    sweep bigint not null,
    trial_index bigint not null,
    step bigint not null,
    split word not null,
    -- 'trial': of the trial. 'constant': of the best constant answer on the same rows.
    source word not null check (source in ('trial', 'constant')),
    -- The selection metric is at 0.
    position bigint not null,
    name word not null,
    value double precision,
    value_state word not null,
    primary key (sweep, trial_index, step, split, source, position),
    foreign key (sweep, trial_index, step, split)
        references evaluations (sweep, trial_index, step, split),
    check ((value is not null) = (value_state = 'finite'))
);

create table log (
    -- Watchers follow it; one sequence for all sweeps.
    cursor bigint primary key,
    sweep bigint not null references sweeps (id),
    trial_index bigint,
    at bigint not null,
    -- What happened, JSON with its kind.
    entry word not null
);

create index log_by_sweep on log (sweep, cursor);

-- Reports that came after their lease was over: evidence, never results.
create table stale_reports (
    id bigint generated always as identity primary key,
    sweep bigint not null,
    trial_index bigint not null,
    epoch bigint not null,
    worker word not null references workers (id),
    report word not null,
    at bigint not null,
    foreign key (sweep, trial_index) references trials (sweep, trial_index)
);
