//! Runs simulated worlds, one per seed, and says what happened in them.
//!
//! ```text
//! sim --seeds N [--first S] [--small | --large] [--trace]
//! sim --mutations          (built with --features mutations)
//! ```

#![allow(clippy::print_stdout, reason = "this program's output is for people and scripts")]

use std::process::ExitCode;
use std::time::Instant;

use deptune_tests::sim::{self, Counters, Size};

/// A world makes and frees small values all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Worlds from which on a fault that never happened is a failure of the simulator.
const ENOUGH: u64 = 1_000;

struct Arguments {
    seeds: u64,
    first: u64,
    size: Size,
    trace: bool,
    mutations: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut found =
        Arguments { seeds: 100, first: 1, size: Size::Medium, trace: false, mutations: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or(format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("'{value}' is no number"))
        };
        match word.as_str() {
            "--seeds" => found.seeds = number()?,
            "--first" => found.first = number()?,
            "--small" => found.size = Size::Small,
            "--large" => found.size = Size::Large,
            "--trace" => found.trace = true,
            "--mutations" => found.mutations = true,
            _ => return Err(format!("unknown option '{word}'")),
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(words) => {
            println!(
                "{words}; usage: sim --seeds N [--first S] [--small | --large] [--trace], or sim \
                 --mutations"
            );
            return ExitCode::from(2);
        }
    };
    if arguments.mutations {
        return mutations();
    }
    worlds(&arguments)
}

/// Hunts every deliberate bug.
#[cfg(feature = "mutations")]
fn mutations() -> ExitCode {
    use sim::mutations::{ALL, LIMIT, hunt};
    const HUNTS: u64 = 5;
    // A panic is a way to notice; its words stand in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = 0;
    println!("{:<38} {:>6} {:>6}  noticed by, and where the bug is", "bug", "median", "worst");
    for mutation in ALL {
        let found = hunt(*mutation, HUNTS);
        let worst = found.worlds.last().copied().unwrap_or(LIMIT + 1);
        let median = found.worlds.get(found.worlds.len() / 2).copied().unwrap_or(LIMIT + 1);
        missed += u64::from(worst > LIMIT);
        let by = found.first.map_or("nothing", |broken| broken.id);
        println!("{:<38} {median:>6} {worst:>6}  {by:<4} {}", mutation.name, mutation.path);
    }
    println!("{} bugs, {HUNTS} hunts each, {missed} missed in {LIMIT} seeds", ALL.len());
    if missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(not(feature = "mutations"))]
fn mutations() -> ExitCode {
    println!("the deliberate bugs are not built in; build with --features mutations");
    ExitCode::from(2)
}

/// Runs the worlds.
fn worlds(arguments: &Arguments) -> ExitCode {
    let size = match arguments.size {
        Size::Small => " --small",
        Size::Medium => "",
        Size::Large => " --large",
    };
    let began = Instant::now();
    let (mut counters, mut violations, mut events) = (Counters::default(), 0, 0);
    for seed in arguments.first..arguments.first + arguments.seeds {
        let outcome = sim::run(seed, arguments.size, arguments.trace);
        counters.add(&outcome.counters);
        events += outcome.events;
        if let Some(broken) = outcome.broken {
            violations += 1;
            println!("seed {seed}: {} is violated: {}", broken.id, broken.words);
            println!(
                "  again: cargo run --release -p deptune-tests --bin sim -- --seeds 1 --first \
                 {seed}{size} --trace"
            );
        }
    }
    println!("{counters}");
    let zeros = counters.zeros();
    let thin = arguments.seeds >= ENOUGH && !zeros.is_empty();
    if thin {
        println!("never happened: {}", zeros.join(", "));
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} seeds, {violations} violations, {:.1} seeds/s, {events} events",
        arguments.seeds,
        arguments.seeds as f64 / seconds.max(1e-9),
    );
    if violations > 0 || thin { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
