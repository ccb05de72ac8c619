//! An arm of the training benchmark (`benches/training`): trains a pack on made-up rows whose
//! lengths come from a file, as many updates (or batches of inference) at a time as standard input
//! asks for, and answers with the seconds that they took. The protocol is described in `benches/training/arms.py`.

#![allow(clippy::print_stdout, reason = "speaks to the benchmark through it")]

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use deptune_sweep::spec::DropoutMasks;
use deptune_trainer::{Backward, Batch, Example, Member, Method, Model, Pack, Padding, Settings};
use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use tch::{Device, Kind};

#[derive(Parser)]
struct Args {
    /// Directory of the model.
    #[arg(long)]
    model: PathBuf,
    /// One length per line.
    #[arg(long)]
    lengths: PathBuf,
    /// K: trials of the pack.
    #[arg(long, default_value_t = 1)]
    pack: usize,
    #[arg(long)]
    bf16: bool,
    #[arg(long, default_value_t = 8)]
    batch: usize,
    #[arg(long, default_value_t = 256)]
    max_length: usize,
    #[arg(long, default_value_t = 40)]
    prompt_length: usize,
    /// 0: prompt tuning.
    #[arg(long, default_value_t = 40)]
    rank: usize,
    #[arg(long, default_value_t = 0.1)]
    dropout: f64,
    #[arg(long, default_value_t = 4)]
    groups: usize,
    /// Pad every batch to `max_length`.
    #[arg(long)]
    padded: bool,
    #[arg(long, default_value_t = 2)]
    threads: i32,
    /// Trials of seeds of their own, with masks of their own.
    #[arg(long)]
    seeds: bool,
    #[arg(long)]
    cuda: bool,
    /// Let libtorch record the way back.
    #[arg(long)]
    recorded: bool,
    /// Let libtorch's kernels draw the masks of dropout, where it records.
    #[arg(long)]
    kernel_masks: bool,
    /// Compute activations again on the way back, where libtorch records.
    #[arg(long)]
    checkpointing: bool,
}

/// "Classify this text is postive or not:" in T5's tokens.
const INIT: [i64; 11] = [4501, 4921, 48, 1499, 19, 442, 757, 42, 59, 10, 1];
const LABELS: [&[i64]; 2] = [&[3, 632, 1], &[209, 1]];

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    deptune_trainer::load_cuda();
    tch::set_num_threads(args.threads);
    let kind = if args.bf16 { Kind::BFloat16 } else { Kind::Float };
    let device = if args.cuda { Device::Cuda(0) } else { Device::Cpu };
    let model = Rc::new(Model::load(&args.model, kind, device)?);
    let text = std::fs::read_to_string(&args.lengths)?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lengths: Vec<usize> = lines.map(str::parse).collect::<Result<_, _>>()?;
    let method = match args.rank {
        0 => Method::PromptTuning { prompt_length: args.prompt_length },
        rank => Method::Dept { prompt_length: args.prompt_length, rank },
    };
    let member = |k: usize| {
        let seed = if args.seeds { 42 + k as u64 } else { 42 };
        Member::prompt(method, 0.3 + 0.01 * k as f64, 5e-3, seed)
    };
    let settings = Settings {
        steps: 1_000_000,
        max_length: args.max_length,
        dropout: args.dropout,
        dropout_masks: if args.kernel_masks { DropoutMasks::Kernel } else { DropoutMasks::Exact },
        activation_checkpointing: args.checkpointing,
        groups: args.groups,
        padding: if args.padded { Padding::MaxLength } else { Padding::Longest { multiple: 8 } },
        backward: if args.recorded { Backward::Recorded } else { Backward::Written },
        ..Settings::default()
    };
    let mut pack = Pack::new(model, (0..args.pack).map(member).collect(), settings, &INIT)?;

    let before = if args.cuda { device_memory() } else { Some(memory("VmRSS")?) };
    std::fs::write("/proc/self/clear_refs", "5")?;
    println!("{}", serde_json::json!({ "ready": "deptune" }));
    let mut steps = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let inference = line.strip_prefix("inference ");
        let count: usize = inference.unwrap_or(&line).trim().parse()?;
        let (started, cpu, mut tokens) = (Instant::now(), cpu_seconds()?, 0);
        for _ in 0..count {
            let batch = batch(&lengths, steps, &args);
            steps += 1;
            let rows = batch.examples.iter();
            tokens += rows.map(|e| e.input_ids.len() + args.prompt_length).sum::<usize>();
            if inference.is_some() {
                pack.eval_loss(&batch)?;
            } else {
                pack.advance(&[batch])?;
            }
        }
        pack.reports()?;
        let seconds = started.elapsed().as_secs_f64();
        // libtorch keeps what it took of a device: that is its peak.
        let peak = if args.cuda { device_memory() } else { Some(memory("VmHWM")?) };
        let peak = peak.zip(before).map(|(peak, before)| peak.saturating_sub(before));
        let answer = serde_json::json!({
            "seconds": seconds, "cpu_seconds": cpu_seconds()? - cpu, "tokens": tokens * args.pack, "steps": count * args.pack,
            "peak_bytes": peak,
        });
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The rows of an update, from 0: the same as in `arms.py`.
fn batch(lengths: &[usize], step: usize, args: &Args) -> Batch {
    let row = |row: usize| {
        let length = lengths[row % lengths.len()].min(args.max_length);
        let id = |i: usize| 2 + ((i * i * 31 + row * 17 + i * 7) % 30_000) as i64;
        let input_ids = (0..length - 1).map(id).chain([1]).collect();
        Example { input_ids, labels: LABELS[row % 2].to_vec() }
    };
    Batch { examples: (step * args.batch..(step + 1) * args.batch).map(row).collect() }
}

/// Processor time of all threads so far, to a hundredth of a second.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// What this process has of the first CUDA device, where the driver says.
fn device_memory() -> Option<u64> {
    let nvml = Nvml::init().ok()?;
    let processes = nvml.device_by_index(0).ok()?.running_compute_processes().ok()?;
    let own = processes.into_iter().find(|one| one.pid == std::process::id())?;
    match own.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    }
}

/// A line of /proc/self/status in bytes.
fn memory(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).context("no such line")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024)
}
