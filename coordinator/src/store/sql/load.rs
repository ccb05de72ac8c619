//! Reading everything that the scheduler is rebuilt from.

use std::collections::BTreeMap;

use deptune_sweep::child::FileHash;
use deptune_sweep::hub::HubModel;
use deptune_sweep::id::{Epoch, RequestId, SweepId, TrialId, WorkerId};
use deptune_sweep::outcome::{Outcome, SweepStatus};
use deptune_sweep::record::{
    Added, CheckpointRef, Controls, DataRef, DeletedRecord, Holder, PackLimit, PackMemory, Phase,
    RequestRecord, SlotRecord, SpaceRecord, SpaceText, Submission, SweepRecord, TrialRecord,
    WorkerRecord,
};
use deptune_sweep::scheduler::Snapshot;
use futures::TryStreamExt;
use sqlx::Error;
use uuid::Uuid;

use super::database::{Connection, Pool, Row};
use super::statement::statement;
use super::value::wrong;
use crate::store::LoadError;

pub(in crate::store) async fn load(pool: &Pool) -> Result<Snapshot, LoadError> {
    let failed = |what| move |source| LoadError { what, source };
    // One read transaction: all of it as of one moment.
    let mut reading = pool.begin().await.map_err(failed("the database"))?;
    let connection = &mut reading.connection();
    let sweeps = sweeps(connection).await.map_err(failed("sweeps"))?;
    let spaces = spaces(connection).await.map_err(failed("added spaces"))?;
    let trials = trials(connection).await.map_err(failed("trials"))?;
    let reporters = reporters(connection).await.map_err(failed("outcomes"))?;
    let workers = workers(connection).await.map_err(failed("workers"))?;
    let last_cursor = last_cursor(connection).await.map_err(failed("the log"))?;
    let requests = requests(connection).await.map_err(failed("requests"))?;
    let deleted = deleted(connection).await.map_err(failed("deleted sweeps"))?;
    let pack_limits = pack_limits(connection).await.map_err(failed("sizes of packs"))?;
    let pack_memories = pack_memories(connection).await.map_err(failed("memory of packs"))?;
    Ok(Snapshot {
        sweeps,
        spaces,
        trials,
        reporters,
        workers,
        requests,
        deleted,
        pack_limits,
        pack_memories,
        last_cursor,
    })
}

async fn sweeps(connection: &mut Connection<'_>) -> Result<Vec<SweepRecord>, Error> {
    let mut files = files(connection).await?;
    statement(
        "select
             id, request_id, name, spec_hash, spec, format, model_config, model_dir,
             model_uploaded, total, next_index, status, submitted, finished, model_repo,
             model_commit, paused, priority, weight, max_parallel, budget_ms, used_ms
         from sweeps
         order by id",
    )
    .fetch(connection)
    .and_then(|row| {
        let record = sweep(&row, &mut files);
        async { record }
    })
    .try_collect()
    .await
}

type Files = BTreeMap<SweepId, (Vec<FileHash>, Vec<DataRef>)>;

fn sweep(row: &Row, files: &mut Files) -> Result<SweepRecord, Error> {
    let id = SweepId(row.unsigned("id")?);
    let (model_files, data) = files.remove(&id).unwrap_or_default();
    Ok(SweepRecord {
        id,
        request_id: RequestId(row.parsed::<Uuid>("request_id")?),
        name: row.try_get("name")?,
        submission: Submission {
            spec: row.try_get("spec")?,
            format: row.try_get("format")?,
            model_config: row.try_get("model_config")?,
            model_dir: row.try_get("model_dir")?,
            model_files,
            model_uploaded: row.try_get("model_uploaded")?,
            model_hub: hub_model(row)?,
            data,
        },
        spec_hash: row.parsed("spec_hash")?,
        total: row.unsigned("total")?,
        next_index: row.unsigned("next_index")?,
        status: match row.parsed("status")? {
            SweepStatus::Running if row.try_get("paused")? => SweepStatus::Paused,
            status => status,
        },
        submitted: row.try_get("submitted")?,
        finished: row.try_get("finished")?,
        controls: controls(row)?,
        used: row.unsigned("used_ms")?,
    })
}

fn controls(row: &Row) -> Result<Option<Controls>, Error> {
    let (priority, weight) = (row.maybe_signed("priority")?, row.maybe_small("weight")?);
    let Some((priority, weight)) = priority.zip(weight) else { return Ok(None) };
    let max_parallel = row.maybe_small("max_parallel")?;
    Ok(Some(Controls { priority, weight, max_parallel, budget: row.maybe_unsigned("budget_ms")? }))
}

async fn spaces(connection: &mut Connection<'_>) -> Result<Vec<SpaceRecord>, Error> {
    let rows = statement(
        "select sweep, number, text, format, at from sweep_spaces order by sweep, number",
    );
    let space = |row: &Row| {
        Ok(SpaceRecord {
            sweep: SweepId(row.unsigned("sweep")?),
            number: row.small("number")?,
            space: SpaceText { text: row.try_get("text")?, format: row.parsed("format")? },
            at: row.try_get("at")?,
        })
    };
    rows.fetch_all(connection).await?.iter().map(space).collect()
}

async fn requests(connection: &mut Connection<'_>) -> Result<Vec<RequestRecord>, Error> {
    let rows = statement("select id, sweep, at, content, answer from requests order by id");
    let request = |row: &Row| {
        Ok(RequestRecord {
            id: RequestId(row.parsed::<Uuid>("id")?),
            sweep: SweepId(row.unsigned("sweep")?),
            content: row.maybe_parsed("content")?,
            answer: row.try_get("answer")?,
            at: row.try_get("at")?,
        })
    };
    rows.fetch_all(connection).await?.iter().map(request).collect()
}

async fn deleted(connection: &mut Connection<'_>) -> Result<Vec<DeletedRecord>, Error> {
    let rows = statement("select id, request_id, spec_hash from deleted_sweeps order by id");
    let sweep = |row: &Row| {
        Ok(DeletedRecord {
            id: SweepId(row.unsigned("id")?),
            request_id: RequestId(row.parsed::<Uuid>("request_id")?),
            spec_hash: row.maybe_parsed("spec_hash")?,
        })
    };
    rows.fetch_all(connection).await?.iter().map(sweep).collect()
}

fn hub_model(row: &Row) -> Result<Option<HubModel>, Error> {
    let repo: Option<String> = row.try_get("model_repo")?;
    let commit: Option<String> = row.try_get("model_commit")?;
    Ok(repo.zip(commit).map(|(repo, commit)| HubModel { repo, commit }))
}

async fn files(connection: &mut Connection<'_>) -> Result<Files, Error> {
    let mut rows = statement(
        "select sweep, role, split, name, hash, size
         from sweep_files
         order by sweep, role, position",
    )
    .fetch(connection);
    let mut files = Files::new();
    while let Some(row) = rows.try_next().await? {
        let (model, data) = files.entry(SweepId(row.unsigned("sweep")?)).or_default();
        let name = row.try_get("name")?;
        match row.try_get("role")? {
            "model" => model.push(FileHash { name, hash: row.try_get("hash")? }),
            _ => data.push(DataRef {
                split: row.try_get("split")?,
                name,
                hash: row.parsed("hash")?,
                size: row.unsigned("size")?,
            }),
        }
    }
    Ok(files)
}

async fn trials(connection: &mut Connection<'_>) -> Result<Vec<TrialRecord>, Error> {
    statement(
        "select
             sweep, trial_index, epoch, phase, worker, slot, lease_request, outcome, failures,
             losses, alone, checkpoint_step, checkpoint_hash, origin, retry_of, seed,
             pack_members, held_slot, held_request
         from trials
         order by sweep, trial_index",
    )
    .fetch(connection)
    .and_then(|row| {
        let record = trial(&row);
        async { record }
    })
    .try_collect()
    .await
}

fn trial(row: &Row) -> Result<TrialRecord, Error> {
    let step = row.maybe_unsigned("checkpoint_step")?;
    let hash = row.maybe_parsed("checkpoint_hash")?;
    Ok(TrialRecord {
        id: id(row)?,
        epoch: Epoch(row.small("epoch")?),
        phase: phase(row)?,
        failures: row.small("failures")?,
        losses: row.small("losses")?,
        alone: row.try_get("alone")?,
        pack_members: row.small("pack_members")?,
        checkpoint: step.zip(hash).map(|(step, hash)| CheckpointRef { step, hash }),
        added: added(row)?,
    })
}

fn added(row: &Row) -> Result<Option<Added>, Error> {
    let Some(origin) = row.maybe_unsigned("origin")? else { return Ok(None) };
    let retry_of = row.maybe_unsigned("retry_of")?;
    Ok(Some(Added { origin, seed: row.unsigned("seed")?, retry_of }))
}

fn phase(row: &Row) -> Result<Phase, Error> {
    match row.try_get("phase")? {
        "pending" => Ok(Phase::Pending { last_holder: holder(row, "held_slot", "held_request")? }),
        "leased" => {
            let holder = holder(row, "slot", "lease_request")?;
            holder.map(Phase::Leased).ok_or_else(|| wrong("worker", "a leased trial without one"))
        }
        "ended" => Ok(Phase::Ended { outcome: row.parsed::<Outcome>("outcome")? }),
        other => Err(wrong("phase", format!("'{other}' is no phase"))),
    }
}

/// The holder of a lease. Rows of earlier versions do not say which slot the last holder of a
/// pending trial had: that one cannot take the trial up again.
fn holder(row: &Row, slot: &str, request: &str) -> Result<Option<Holder>, Error> {
    let request_id = row.maybe_parsed::<Uuid>(request)?.map(RequestId);
    match (row.maybe_worker("worker")?, request_id) {
        (Some(worker), Some(request_id)) => {
            Ok(Some(Holder { worker, slot: row.small(slot)?, request_id }))
        }
        _ => Ok(None),
    }
}

fn id(row: &Row) -> Result<TrialId, Error> {
    Ok(TrialId { sweep: SweepId(row.unsigned("sweep")?), index: row.unsigned("trial_index")? })
}

async fn reporters(connection: &mut Connection<'_>) -> Result<Vec<(TrialId, WorkerId)>, Error> {
    let mut rows = statement(
        "select sweep, trial_index, worker
         from outcomes
         where worker is not null
         order by sweep, trial_index",
    )
    .fetch(connection);
    let mut reporters = Vec::new();
    while let Some(row) = rows.try_next().await? {
        reporters.push((id(&row)?, WorkerId(row.parsed::<Uuid>("worker")?)));
    }
    Ok(reporters)
}

async fn workers(connection: &mut Connection<'_>) -> Result<Vec<WorkerRecord>, Error> {
    let mut workers: BTreeMap<WorkerId, WorkerRecord> = BTreeMap::new();
    let rows = statement(
        "select id, name, version, registered, draining from workers
         where left_at is null order by id",
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let id = WorkerId(row.parsed::<Uuid>("id")?);
        let record = WorkerRecord {
            id,
            name: row.try_get("name")?,
            version: row.try_get("version")?,
            labels: Vec::new(),
            draining: row.try_get("draining")?,
            slots: Vec::new(),
            registered: row.try_get("registered")?,
            left: None,
        };
        workers.insert(id, record);
    }
    let rows = statement(
        "select l.worker, l.label from worker_labels l
         join workers w on w.id = l.worker
         where w.left_at is null
         order by l.worker, l.label",
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        if let Some(worker) = workers.get_mut(&WorkerId(row.parsed::<Uuid>("worker")?)) {
            worker.labels.push(row.try_get("label")?);
        }
    }
    let rows = statement(
        "select s.worker, s.slot, s.kind, s.threads, s.device, s.max_pack, s.memory
         from worker_slots s
         join workers w on w.id = s.worker
         where w.left_at is null
         order by s.worker, s.position",
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        if let Some(worker) = workers.get_mut(&WorkerId(row.parsed::<Uuid>("worker")?)) {
            worker.slots.push(SlotRecord {
                slot: row.small("slot")?,
                kind: row.parsed("kind")?,
                threads: row.small("threads")?,
                device: row.try_get("device")?,
                max_pack: row.small("max_pack")?,
                memory: row.maybe_unsigned("memory")?,
            });
        }
    }
    Ok(workers.into_values().collect())
}

async fn pack_limits(connection: &mut Connection<'_>) -> Result<Vec<PackLimit>, Error> {
    let rows = statement("select shape, device, members from pack_limits order by shape, device")
        .fetch_all(connection)
        .await?;
    let limit = |row: &Row| {
        Ok(PackLimit {
            shape: row.parsed("shape")?,
            device: row.try_get("device")?,
            members: row.small("members")?,
        })
    };
    rows.iter().map(limit).collect()
}

async fn pack_memories(connection: &mut Connection<'_>) -> Result<Vec<PackMemory>, Error> {
    let rows = statement(
        "select shape, device, members, bytes, estimated, sweep, trial_index
         from packs_measured
         order by shape, device, members",
    )
    .fetch_all(connection)
    .await?;
    let memory = |row: &Row| {
        let (sweep, index) = (SweepId(row.unsigned("sweep")?), row.unsigned("trial_index")?);
        Ok(PackMemory {
            shape: row.parsed("shape")?,
            device: row.try_get("device")?,
            members: row.small("members")?,
            bytes: row.unsigned("bytes")?,
            estimated: row.unsigned("estimated")?,
            trial: TrialId { sweep, index },
        })
    };
    rows.iter().map(memory).collect()
}

async fn last_cursor(connection: &mut Connection<'_>) -> Result<u64, Error> {
    let row = statement(
        "select coalesce(max(cursor), 0) as last
         from (
             select max(cursor) as cursor from log
             union all
             select max(last_cursor) as cursor from deleted_sweeps
         ) cursors",
    )
    .fetch_one(connection)
    .await?;
    row.unsigned("last")
}
