//! Packs of a spec, timed on this machine.

use std::path::PathBuf;

use clap::Args;
use deptune_sweep::child::{AdapterFile, Job, Member, PROTOCOL};
use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::measure::{Measured, Request};
use deptune_sweep::spec::{Method, Settings};
use deptune_worker::SlotOptions;
use deptune_worker::slot;

use crate::cmd::{train, worker};
use crate::output::error::Error;
use crate::output::say;
use crate::spec_file::SpecFile;
use crate::trainer;

/// Seconds that updates are made for, and evaluations, of each size of pack.
const SECONDS: f64 = 2.0;

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Trains packs of the sweep here for a few seconds, and says what they take
    #[arg(long, conflicts_with = "seconds_per_step")]
    pub(crate) measure: bool,
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
pub(crate) async fn packs(
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
    let wanted = SlotOptions {
        slots: Some(1),
        threads: Some(threads),
        max_pack: Some(1),
        device: options.device.choice(),
    };
    let mut found = slot::discover(&wanted, &program).map_err(worker::failure)?;
    let slot = found.pop().ok_or_else(|| Error::Usage {
        what: "there is nothing to measure on".to_owned(),
        hint: "try --device cpu".to_owned(),
    })?;
    let mut adapters = Vec::new();
    for source in &spec.sources {
        adapters
            .push(AdapterFile { name: source.name.clone(), path: train::absolute(&source.path)? });
    }
    let job = Job {
        protocol: PROTOCOL,
        model: train::model(spec)?,
        model_files: Vec::new(),
        data: train::data(spec)?,
        adapters,
        scratch: std::env::temp_dir(),
        device: slot.device(),
        threads: slot.record.threads,
        trials: members(spec, largest),
    };
    let mut all = Vec::new();
    for members in sizes(job.trials.len()) {
        say(&format!("measuring a pack of {members} …"));
        let trials = job.trials.iter().take(members).cloned().collect();
        let request = Request { job: Job { trials, ..job.clone() }, seconds: SECONDS };
        all.push(trainer::measure(&program, &request, verbose).await?);
    }
    Ok(all)
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
        let trial = TrialId { sweep: SweepId(0), index };
        together.then_some(Member { trial, settings, resume: None })
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
