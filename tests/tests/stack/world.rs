//! The world of a seed: first with faults, then without, and then everything must have ended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deptune_coordinator::store::{MemoryDatabase, MemoryStore};
use deptune_coordinator::{Options, TOKEN_FILE, serve_connections};
use deptune_sweep::id::ArtifactHash;
use turmoil::Sim;

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::net::{TOKEN, listen};
use crate::person::DATA;
use crate::worker::{ADAPTER, HEARTBEAT};
use crate::{person, worker};

const WORKERS: u64 = 3;
const COORDINATOR: &str = "coordinator";
const PERSON: &str = "person";

/// How long faults happen.
const FAULTS: Duration = Duration::from_secs(40);
/// By when everything must have ended.
const END: Duration = Duration::from_secs(300);

/// What is wrong now, and since when it should be over.
#[derive(Debug)]
enum Fault {
    Crash(String, Duration),
    Cut(String, Duration),
    Hold(String, Duration),
}

#[derive(Debug, Default)]
struct Count {
    crashes: u64,
    cuts: u64,
    holds: u64,
}

/// Runs it, and says in a line how it went.
pub(crate) fn run(seed: u64) -> String {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let ledger = Ledger::default();
    let mut sim = turmoil::Builder::new()
        .simulation_duration(END)
        .tick_duration(Duration::from_millis(10))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(80))
        .tcp_capacity(4096)
        .rng_seed(seed)
        .enable_random_order()
        .build();
    coordinator(&mut sim, directory.path());
    for number in 0..WORKERS {
        let (ledger, runs) = (ledger.clone(), Arc::new(AtomicU64::new(0)));
        sim.host(format!("worker-{number}"), move || {
            // A worker that was started again is another one.
            let run = runs.fetch_add(1, Ordering::Relaxed);
            let dice = Dice::new(seed, 100 + number * 1000 + run);
            let ledger = ledger.clone();
            async move {
                worker::run(dice, ledger).await;
                Ok(())
            }
        });
    }
    let (dice, noted) = (Dice::new(seed, 1), ledger.clone());
    sim.client(PERSON, async move {
        person::run(dice, noted).await;
        Ok(())
    });
    let count = live(&mut sim, Dice::new(seed, 2), &ledger);
    let hash = ledger.hash();
    let entries = ledger.entries();
    format!(
        "seed {seed} trace {hash} crashes {} cuts {} holds {} retries {} stale {}",
        count.crashes, count.cuts, count.holds, entries.retries, entries.stale
    )
}

/// What the coordinator needs on its disk: the token, and the files that are named.
fn prepare(directory: &Path) {
    std::fs::write(directory.join(TOKEN_FILE), TOKEN).unwrap();
    for content in [DATA, ADAPTER] {
        let hash = ArtifactHash::of(content);
        let (head, tail) = hash.as_str().split_at(2);
        let shard = directory.join("artifacts").join(head);
        std::fs::create_dir_all(&shard).unwrap();
        std::fs::write(shard.join(tail), content).unwrap();
    }
}

fn coordinator(sim: &mut Sim<'_>, directory: &Path) {
    let mut options = Options::new(([127, 0, 0, 1], 0).into(), directory.to_owned());
    options.scheduler.lease_ttl = u64::try_from(HEARTBEAT.as_millis() * 3).unwrap();
    options.patience = Duration::from_secs(2);
    // What is in it outlives the coordinator, as a file does.
    let database = MemoryDatabase::default();
    sim.host(COORDINATOR, move || {
        let (options, database) = (options.clone(), database.clone());
        async move {
            let store = Arc::new(MemoryStore::open(&database));
            serve_connections(&options, store, listen().await?).await?;
            Ok(())
        }
    });
}

/// Lets time pass until the person has seen what there was to see.
fn live(sim: &mut Sim<'_>, mut dice: Dice, ledger: &Ledger) -> Count {
    let (mut count, mut faults) = (Count::default(), Vec::new());
    let mut next = dice.millis(500, 3_000);
    loop {
        let now = sim.elapsed();
        if now >= next && now < FAULTS {
            faults.push(strike(sim, &mut dice, ledger, &mut count));
            next = now + dice.millis(200, 6_000);
        }
        faults.retain(|fault| !mend(sim, fault, now, ledger));
        if sim.step().unwrap() {
            return count;
        }
    }
}

fn strike(sim: &mut Sim<'_>, dice: &mut Dice, ledger: &Ledger, count: &mut Count) -> Fault {
    let number = dice.below(WORKERS + 2);
    let host = match number {
        0 => COORDINATOR.to_owned(),
        1 => PERSON.to_owned(),
        worker => format!("worker-{}", worker - 2),
    };
    let until = sim.elapsed() + dice.millis(100, 9_000);
    // The person goes on living: only the line to them breaks.
    let kind = if host == PERSON { 1 + dice.below(2) } else { dice.below(3) };
    ledger.trace(&format!("fault {kind} at {host}"));
    match kind {
        0 => {
            count.crashes += 1;
            if sim.is_host_running(host.as_str()) {
                sim.crash(host.as_str());
            }
            Fault::Crash(host, until)
        }
        1 => {
            count.cuts += 1;
            others(&host).for_each(|other| sim.partition(host.as_str(), other.as_str()));
            Fault::Cut(host, until)
        }
        _ => {
            count.holds += 1;
            others(&host).for_each(|other| sim.hold(host.as_str(), other.as_str()));
            Fault::Hold(host, until)
        }
    }
}

/// Ends a fault whose time is over.
fn mend(sim: &mut Sim<'_>, fault: &Fault, now: Duration, ledger: &Ledger) -> bool {
    let (Fault::Crash(host, until) | Fault::Cut(host, until) | Fault::Hold(host, until)) = fault;
    if now < *until {
        return false;
    }
    ledger.trace(&format!("mended {host}"));
    match fault {
        Fault::Crash(..) => {
            // It may have been struck twice.
            if !sim.is_host_running(host.as_str()) {
                sim.bounce(host.as_str());
            }
        }
        Fault::Cut(..) => {
            others(host).for_each(|other| sim.repair(host.as_str(), other.as_str()));
        }
        Fault::Hold(..) => {
            others(host).for_each(|other| sim.release(host.as_str(), other.as_str()));
        }
    }
    true
}

/// The hosts that a host speaks with.
fn others(host: &str) -> impl Iterator<Item = String> {
    let all: Vec<String> = if host == COORDINATOR {
        let workers = (0..WORKERS).map(|number| format!("worker-{number}"));
        workers.chain([PERSON.to_owned()]).collect()
    } else {
        vec![COORDINATOR.to_owned()]
    };
    all.into_iter()
}
