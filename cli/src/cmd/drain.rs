//! `deptune drain`.

use std::time::Duration;

use deptune_proto::v1;

use super::{connect, workers};
use crate::args::Globals;
use crate::client::Client;
use crate::output::error::{Error, Exit};
use crate::output::{self, number};

/// Time between two looks whether a worker has gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Has workers hand back their trials and end
///
/// A drained worker is leased nothing more. It checkpoints what it trains, hands it back and exits
/// with 0; the trials go on elsewhere from there, and the attempt is not counted against them. To
/// use the node again, start a worker on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune drain node7 --wait")]
pub(crate) struct Args {
    /// The workers, by name or by the beginning of their id; a name means all workers of that name
    #[arg(value_name = "WORKER", required = true)]
    workers: Vec<String>,
    /// Returns once they have gone
    #[arg(long)]
    wait: bool,
}

/// Drains.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let known = workers::all(&client).await?;
    let mut meant: Vec<&v1::WorkerStatus> = Vec::new();
    for word in &args.workers {
        let before = meant.len();
        let of_name = |worker: &&v1::WorkerStatus| worker.name == *word;
        let of_id = |worker: &&v1::WorkerStatus| worker.worker_id.starts_with(word.as_str());
        meant.extend(known.iter().filter(of_name));
        if meant.len() == before {
            meant.extend(known.iter().filter(of_id));
        }
        if meant.len() == before {
            return Err(Error::Usage {
                what: format!("no worker '{word}' is registered"),
                hint: "'deptune workers' lists them".to_owned(),
            });
        }
    }
    for worker in &meant {
        let request = v1::DrainWorkerRequest { worker_id: worker.worker_id.clone() };
        client
            .call("drain a worker", || {
                let (mut admin, request) = (client.admin(), request.clone());
                async move { admin.drain_worker(request).await }
            })
            .await?;
        let trials: usize = worker.slots.iter().map(|slot| slot.trials.len()).sum();
        output::say(&format!(
            "{} ({:.8}) ends once it has handed back {}",
            worker.name,
            worker.worker_id,
            number::count(trials as u64, "trial")
        ));
    }
    if args.wait {
        until_gone(&client, &meant).await?;
    }
    Ok(Exit::Done)
}

async fn until_gone(client: &Client, meant: &[&v1::WorkerStatus]) -> Result<(), Error> {
    loop {
        let here = workers::all(client).await?;
        if !meant.iter().any(|worker| here.iter().any(|it| it.worker_id == worker.worker_id)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
