//! Coordinator, workers and children are killed at random times while sweeps of short trials run,
//! on SQLite and on Postgres, until 200 were killed: every trial ends with its one right result,
//! whether it trained alone or in a pack.
//!
//! `DEPTUNE_KILLS` is another number of kills, `DEPTUNE_SEED` the seed of a run to repeat.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test that calls them"
)]

use std::time::{Duration, Instant};

use deptune_tests::{
    Coordinator, Process, Store, World, assert_whole, expected_metrics, fake_trainer, quickstart,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far longer than one sweep takes.
const PATIENCE: Duration = Duration::from_secs(600);

const TRIALS: i64 = 500;
/// Trials of one seed, which may train as a pack.
const RATES: i64 = 4;
const WORKERS: usize = 3;

/// A generator of choices (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Kills by what was killed.
#[derive(Debug, Default)]
struct Kills {
    coordinators: u32,
    workers: u32,
    children: u32,
    /// Workers with a child, and children: there was a live lease.
    at_work: u32,
}

impl Kills {
    fn all(&self) -> u32 {
        self.coordinators + self.workers + self.children
    }
}

struct Scene {
    world: World,
    address: String,
    coordinator: Process,
    workers: Vec<Process>,
}

impl Scene {
    fn start(store: &Store) -> Scene {
        let world = store.world();
        let Coordinator { process, address, .. } = world.serve();
        let workers = (0..WORKERS).map(|n| worker(&world, n)).collect();
        Scene { world, address, coordinator: process, workers }
    }

    /// Kills one after the other a coordinator, a worker at work and a child; nothing while there
    /// is none at work.
    fn kill_one(&mut self, dice: &mut Dice, kills: &mut Kills) {
        if kills.all().is_multiple_of(3) {
            self.coordinator.kill();
            kills.coordinators += 1;
            self.coordinator = self.world.serve_at(&self.address, &[]).process;
            return;
        }
        let first = usize::try_from(dice.below(WORKERS as u64)).unwrap();
        let busy = (0..WORKERS).map(|n| (first + n) % WORKERS).find_map(|n| {
            let child = self.workers[n].children().first().copied()?;
            Some((n, child))
        });
        let Some((n, child)) = busy else { return };
        kills.at_work += 1;
        if kills.all() % 3 == 1 {
            self.workers[n].kill();
            kills.workers += 1;
            self.workers[n] = worker(&self.world, n);
        } else if kill(Pid::from_raw(i32::try_from(child).unwrap()), Signal::SIGKILL).is_ok() {
            kills.children += 1;
        } else {
            // It ended by itself since.
            kills.at_work -= 1;
        }
    }
}

fn worker(world: &World, n: usize) -> Process {
    let name = format!("node{n}");
    // The first takes one trial at a time, the others packs.
    let most = if n == 0 { "1" } else { "3" };
    let args = ["--slots", "2", "--max-pack", most];
    world.worker_with("step_ms=10", &name, &fake_trainer(), &[&quickstart()], &args)
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().unwrap())
}

fn kills_change_no_result(store: &Store) {
    let wanted = u32::try_from(number("DEPTUNE_KILLS", 200)).unwrap();
    let seed = number("DEPTUNE_SEED", u64::from(std::process::id()));
    eprintln!("DEPTUNE_SEED={seed}");
    let mut dice = Dice(seed);
    let mut kills = Kills::default();
    let mut scene = Scene::start(store);
    let seeds: Vec<i64> = (1..=TRIALS / RATES).collect();
    let project = scene
        .world
        .project("project")
        .with("seeds = [42]", &format!("seeds = {seeds:?}"))
        .with("prompt_lr = [0.3]", "prompt_lr = [0.3, 0.4, 0.5, 0.6]")
        .with("eval_every = 3", "eval_every = 3\n\n[limits]\nmax_attempts = 100");
    let expected = expected_metrics(&project, TRIALS);
    let mut sweeps = 0;
    while kills.all() < wanted || sweeps == 0 {
        sweeps += 1;
        let mut waiting = scene.world.start("submit", &["submit", &project.spec(), "--wait"]);
        // The submission itself is repeated for a few seconds only.
        waiting.wait_for("submitted");
        let start = Instant::now();
        while waiting.is_running() {
            assert!(start.elapsed() < PATIENCE, "sweep {sweeps} does not end: {kills:?}");
            std::thread::sleep(Duration::from_millis(100 + dice.below(500)));
            if kills.all() < wanted && waiting.is_running() {
                scene.kill_one(&mut dice, &mut kills);
            }
        }
        waiting.wait(PATIENCE).code(0);
        assert_eq!(store.metrics(&scene.world, sweeps), expected, "sweep {sweeps}");
    }
    assert_whole(|sql| store.number(&scene.world, sql), sweeps * TRIALS);
    let packed = store.number(&scene.world, "select count(*) from attempts where members > 1");
    assert!(packed > 0, "no trial was in a pack");
    eprintln!(
        "{sweeps} sweeps of {TRIALS} trials, {kills:?}: every trial has its one right result"
    );
    if wanted >= 200 {
        let Kills { coordinators, workers, children, at_work } = kills;
        assert!(coordinators.min(workers).min(children) >= 50 && at_work >= 100);
    }
}

#[test]
#[ignore = "takes minutes: make nightly"]
fn on_sqlite() {
    kills_change_no_result(&Store::Sqlite);
}

#[test]
#[ignore = "takes minutes: make nightly"]
fn on_postgres() {
    let Some(store) = Store::postgres() else { return };
    kills_change_no_result(&store);
}
