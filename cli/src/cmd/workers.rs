//! `deptune workers`.

use std::time::Duration;

use deptune_proto::v1;
use serde_json::{Value, json};

use super::{connect, every_page};
use crate::args::Globals;
use crate::client::Client;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Right, Table};
use crate::output::{self, json as shown, number};

/// Lists the workers that are registered, and what they do
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune workers")]
pub(crate) struct Args {}

/// Lists workers.
pub(super) async fn run(globals: &Globals, _: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let found = all(&client).await?;
    if globals.json {
        found.iter().try_for_each(|worker| output::json_line(&document(worker)))?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        output::say(&format!(
            "no worker is registered; start one with: deptune worker --server {}",
            client.address()
        ));
        return Ok(Exit::Done);
    }
    output::data(&table(&found))?;
    Ok(Exit::Done)
}

/// Every registered worker, by id.
///
/// # Errors
/// When the coordinator cannot be asked.
pub(super) async fn all(client: &Client) -> Result<Vec<v1::WorkerStatus>, Error> {
    every_page(async |page_token| {
        let request = v1::ListWorkersRequest { page_size: 1000, page_token };
        let answer = client.call("list the workers", || {
            let (mut admin, request) = (client.admin(), request.clone());
            async move { admin.list_workers(request).await }
        });
        let answer = answer.await?.into_inner();
        Ok((answer.workers, answer.next_page_token))
    })
    .await
}

/// In one word, what may be wrong with a worker.
fn state(worker: &v1::WorkerStatus) -> String {
    if worker.draining {
        return "draining".to_owned();
    }
    match worker.quarantine_ms {
        0 => "ready".to_owned(),
        left => format!("quarantine, {}", span(left)),
    }
}

fn span(milliseconds: u64) -> String {
    number::span(Duration::from_millis(milliseconds).as_secs_f64())
}

fn slots(worker: &v1::WorkerStatus) -> (usize, usize, usize) {
    let busy = worker.slots.iter().filter(|slot| !slot.trials.is_empty()).count();
    let trials = worker.slots.iter().map(|slot| slot.trials.len()).sum();
    (worker.slots.len(), busy, trials)
}

fn table(workers: &[v1::WorkerStatus]) -> String {
    let mut table = Table::new([
        ("worker", Left),
        ("id", Left),
        ("state", Left),
        ("device", Left),
        ("slots", Right),
        ("busy", Right),
        ("trials", Right),
        ("labels", Left),
        ("heard", Right),
    ])
    .leaving_out_empty(&["labels"]);
    for worker in workers {
        let (all, busy, trials) = slots(worker);
        let device = worker.slots.first().and_then(|slot| slot.slot.as_ref());
        table.row([
            worker.name.clone(),
            worker.worker_id.chars().take(8).collect(),
            state(worker),
            device.map(|slot| slot.device.clone()).unwrap_or_default(),
            number::whole(all as u64),
            number::whole(busy as u64),
            number::whole(trials as u64),
            worker.labels.join(" "),
            format!("{} ago", span(worker.silent_ms)),
        ]);
    }
    table.render()
}

fn document(worker: &v1::WorkerStatus) -> Value {
    let slot = |status: &v1::SlotStatus| {
        let slot = status.slot.clone().unwrap_or_default();
        let trials: Vec<String> = status.trials.iter().copied().map(shown::trial_name).collect();
        json!({
            "slot": slot.slot,
            "kind": slot.kind,
            "device": slot.device,
            "threads": slot.threads,
            "max_pack": slot.max_pack,
            "memory_bytes": slot.memory_bytes,
            "trials": trials,
        })
    };
    json!({
        "worker_id": worker.worker_id,
        "name": worker.name,
        "version": worker.version,
        "labels": worker.labels,
        "slots": worker.slots.iter().map(slot).collect::<Vec<_>>(),
        "registered_unix_ms": worker.registered_unix_ms,
        "silent_ms": worker.silent_ms,
        "draining": worker.draining,
        "quarantine_ms": worker.quarantine_ms,
    })
}
