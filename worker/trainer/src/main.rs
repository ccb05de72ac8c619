//! `deptune-trainer`: the child process that agents and the command line spawn. People use
//! `deptune`.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use deptune_sweep::child::{MAX_LINE, Order};
#[cfg(debug_assertions)]
use deptune_sweep::crash;
use deptune_trainer::run::{self, Orders, emit::Emitter};
use deptune_trainer::{answer, measure};
use serde::de::DeserializeOwned;

/// Trains and applies DePT adapters for deptune's agents and command line
#[derive(Debug, Parser)]
#[command(version, about)]
enum Command {
    /// Train one pack: reads a job (one JSON line) from standard input, answers in JSON lines
    Run,
    /// Say which devices this trainer can use, as one JSON line
    Devices,
    /// Apply an adapter: reads a request (one JSON line) from standard input, answers in JSON
    /// lines
    Answer,
    /// Say what a pack takes here: reads a request (one JSON line) from standard input, answers
    /// with one JSON line
    Measure,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    deptune_trainer::load_cuda();
    // As the other programs do, for tests.
    #[cfg(debug_assertions)]
    if let Ok(asked) = std::env::var(crash::VARIABLE) {
        crash::arm(&asked, |name| {
            tracing::error!("ended at {name}");
            std::process::abort();
        });
    }
    match execute(&Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(4)
        }
    }
}

fn execute(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run => {
            let job = input().context("cannot read the job from standard input")?;
            let orders = Arc::new(Orders::default());
            for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
                signal_hook::flag::register(signal, orders.stop_flag())
                    .context("cannot listen for signals")?;
            }
            let heard = Arc::clone(&orders);
            std::thread::spawn(move || hear(&heard));
            run::run(&job, &mut Emitter::new(std::io::stdout()), &orders)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Devices => {
            let cuda = if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
            let line = serde_json::json!({ "cuda": cuda });
            writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Answer => {
            let request = input().context("cannot read the request from standard input")?;
            let answered = answer::answer(&request, &mut std::io::stdout())?;
            Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Measure => {
            let request = input().context("cannot read the request from standard input")?;
            let measured = measure::measure(&request, &mut std::io::stdout())?;
            Ok(if measured { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Passes on what the agent asks, a line each, until it has nothing more to say.
fn hear(orders: &Orders) {
    while let Ok(order) = input::<Order>() {
        match order {
            Order::Drop { trial } => orders.drop_trial(trial),
        }
    }
}

/// One JSON line of bounded length.
fn input<T: DeserializeOwned>() -> anyhow::Result<T> {
    let mut line = String::new();
    let limit = 16 * MAX_LINE as u64;
    std::io::Read::take(std::io::stdin().lock(), limit).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
