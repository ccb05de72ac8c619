//! Packs of a spec, timed on this machine.

use std::path::PathBuf;

use clap::Args;
use deptune_sweep::child::{Job, Member};
use deptune_sweep::measure::{Measured, Request};
use deptune_sweep::spec::{Method, Settings};

use super::super::{train, worker};
use crate::output::error::Error;
use crate::output::table::{Right, Table};
use crate::output::{number, say};
use crate::spec_file::SpecFile;
use crate::trainer;

/// Seconds that updates are made for, and evaluations, of each size of pack.
const SECONDS: f64 = 2.0;

/// How to measure.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Trains packs of the sweep here for a few seconds, and says what they take
    #[arg(long, conflicts_with = "seconds_per_step")]
    pub(super) measure: bool,
    /// Threads to measure with [default: the CPUs divided by the slots]
    #[arg(long, value_name = "N", requires = "measure",
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// What to measure on
    #[arg(long, value_name = "DEVICE", default_value = "auto", requires = "measure")]
    device: worker::Device,
    /// The trainer program [default: deptune-trainer beside this program, or in PATH]
    #[arg(long, env = "DEPTUNE_TRAINER", hide_env_values = true, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

/// What packs of 1, 2, 4 and so on up to `largest` of the sweep's trials take. The trials are
/// those of one seed that have the first one's training settings.
///
/// # Errors
/// When the model or the data are not here, or the trainer cannot be run or says no.
pub(super) async fn packs(
    spec: &SpecFile,
    slots: u32,
    largest: u32,
    options: &Options,
    verbose: bool,
) -> Result<Vec<Measured>, Error> {
    let program = trainer::find(options.trainer.as_deref())?;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpus = u32::try_from(cpus).unwrap_or(1);
    let threads = options.threads.unwrap_or_else(|| (cpus / slots.max(1)).max(1));
    let slot = train::slot(Some(threads), options.device, &program)?;
    // Nothing is written there.
    let (scratch, trials) = (std::env::temp_dir(), members(spec, largest));
    let job = train::job(spec, train::model(spec)?, &slot, scratch, trials)?;
    let mut all = Vec::new();
    for members in sizes(job.trials.len()) {
        say(&format!("measuring a pack of {members} …"));
        let trials = job.trials.iter().take(members).cloned().collect();
        let request = Request { job: Job { trials, ..job.clone() }, seconds: SECONDS };
        all.push(trainer::measure(&program, &request, verbose).await?);
    }
    Ok(all)
}

/// What packs took here.
pub(super) fn table(measured: &[Measured]) -> String {
    let mut table = Table::new([
        ("trials in a pack", Right),
        ("s per update", Right),
        ("trial-updates/s", Right),
        ("s per validation", Right),
        ("s for test", Right),
        ("s to load", Right),
        ("memory", Right),
    ]);
    for one in measured {
        table.row([
            one.members.to_string(),
            format!("{:.3}", one.update_seconds),
            format!("{:.1}", f64::from(one.members) / one.update_seconds.max(1e-9)),
            format!("{:.1}", one.validation_seconds),
            format!("{:.1}", one.test_seconds),
            format!("{:.1}", one.load_seconds),
            if one.peak_bytes > 0 { number::bytes(one.peak_bytes) } else { String::new() },
        ]);
    }
    table.render()
}

/// The first trials of the grid that may train together.
fn members(spec: &SpecFile, largest: u32) -> Vec<Member> {
    let seeds = (spec.spec.space.seeds.len() as u64).max(1);
    let indices = (0..spec.spec.configurations()).map(|number| number * seeds);
    let mut first: Option<Settings> = None;
    let trials = indices.filter_map(|index| {
        let settings = spec.spec.settings(index)?;
        let known = first.get_or_insert_with(|| settings.clone());
        let together =
            settings.train == known.train && (known.method != Method::Full || settings == *known);
        together.then(|| train::member(index, settings))
    });
    trials.take(largest.max(1) as usize).collect()
}

/// 1, 2, 4 and so on, and the largest.
fn sizes(largest: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = std::iter::successors(Some(1), |size| Some(size * 2))
        .take_while(|&n| n < largest)
        .collect();
    sizes.push(largest.max(1));
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_double_up_to_the_largest() {
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(6), [1, 2, 4, 6]);
        assert_eq!(sizes(8), [1, 2, 4, 8]);
    }
}
