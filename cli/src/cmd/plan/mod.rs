//! `deptune plan`.

mod measure;

use std::collections::BTreeMap;
use std::path::PathBuf;

use deptune_sweep::footprint::ModelSize;
use deptune_sweep::measure::Measured;
use deptune_sweep::record::{LARGEST_STATE, SlotKind, SlotRecord, Submission};
use deptune_sweep::scheduler::{Forecast, forecast};
use deptune_sweep::spec::{Method, Settings};
use serde_json::{Value, json};

use super::{METHOD_COLUMNS, submit};
use crate::args::Globals;
use crate::hub::Freshness;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Right, Table, pairs};
use crate::output::{self, number};
use crate::spec_file::{Draft, SpecFile};

/// Says what a sweep would cost, without running it
///
/// Trials, packs, steps, trained parameters and memory. The time too with --measure, which trains a
/// few packs here for some seconds, or if the seconds of a step are known.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune plan sweep.toml
  deptune plan sweep.toml --measure --slots 2
  deptune plan sweep.toml --seconds-per-step 0.2 --slots 8")]
pub(crate) struct Args {
    /// The spec, TOML or JSON
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    /// The model's config.json, when the model is not on this machine
    #[arg(long, value_name = "FILE")]
    model_config: Option<PathBuf>,
    /// Seconds that one step of one trial takes, for an estimate of the time
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    seconds_per_step: Option<f64>,
    /// Slots that work at the same time, for the estimate
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// Most trials that train together on a slot, as the workers' --max-pack
    #[arg(long, value_name = "N", default_value_t = deptune_worker::CPU_PACK,
        value_parser = clap::value_parser!(u32).range(1..=256))]
    max_pack: u32,
    #[command(flatten)]
    measuring: measure::Options,
    /// At most this many configurations in the table
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err("expected more than 0".to_owned())
    }
}

/// One configuration of the plan.
struct Row {
    number: u64,
    settings: Settings,
    parameters: u64,
}

/// What the whole sweep needs.
struct Totals {
    trials: u64,
    configurations: u64,
    steps: u64,
    parameters: (u64, u64),
    /// Bytes of one trial's numbers with both Adam moments.
    state: u64,
    /// Bytes of a pack's memory: a rough bound.
    memory: u64,
}

/// Plans.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let config = args.model_config.as_deref();
    let spec = if args.measuring.measure {
        submit::read(&args.spec, config)?
    } else {
        Draft::read(&args.spec, config, Freshness::Cached)?.finish()?
    };
    let packs = packs(&spec, args)?;
    let totals = totals(&spec, packs.map_or(1, |packs| packs.largest));
    let largest = packs.map_or(1, |packs| packs.largest);
    let measured = if args.measuring.measure {
        measure::packs(&spec, args.slots, largest, &args.measuring, globals.verbose > 0).await?
    } else {
        Vec::new()
    };
    let seconds = seconds(&spec, args, &totals, packs, &measured);
    if globals.json {
        output::json_line(&as_json(&spec, &totals, packs, &measured, seconds))?;
        return Ok(Exit::Done);
    }
    let mut rows = vec![
        ("sweep", format!("{} ({})", spec.spec.name, spec.shown)),
        (
            "trials",
            format!(
                "{} ({} × {})",
                number::whole(totals.trials),
                number::count(totals.configurations, "configuration"),
                number::count(spec.spec.space.seeds.len() as u64, "seed")
            ),
        ),
        (
            "packs",
            packs.map_or_else(|| "not counted".to_owned(), |packs| in_words(packs, args.slots)),
        ),
        ("steps", format!("{} in all", number::whole(totals.steps))),
        ("parameters", range(totals.parameters)),
        ("state", state(totals.state)),
        ("memory", format!("about {} per pack", number::bytes(totals.memory))),
    ];
    rows.push(("time", time(args, seconds)));
    output::data(&pairs(&rows))?;
    if !measured.is_empty() {
        output::data(&format!("\n{}", measure::table(&measured)))?;
    }
    output::data(&format!("\n{}", table(&spec, args.top)))?;
    let left = totals.configurations.saturating_sub(args.top as u64);
    if left > 0 {
        output::say(&format!("{} more; --top N shows more", number::whole(left)));
    }
    Ok(Exit::Done)
}

/// How long the sweep takes, as far as one can say.
#[allow(clippy::cast_precision_loss, reason = "an estimate for people")]
fn seconds(
    spec: &SpecFile,
    args: &Args,
    totals: &Totals,
    packs: Option<Forecast>,
    measured: &[Measured],
) -> Option<f64> {
    if let (Some(measured), Some(settings)) = (measured.last(), spec.spec.settings(0)) {
        let members = u64::from(measured.members.max(1));
        let alone = totals.trials.div_ceil(members).div_ceil(u64::from(args.slots));
        let rounds = packs.map_or(alone, |packs| packs.rounds);
        // Where the grid varies the number of steps, a pack has them on average.
        let steps = totals.steps / totals.trials.max(1);
        return Some(rounds as f64 * measured.pack_seconds(steps, settings.train.eval_every));
    }
    args.seconds_per_step
        .map(|each| each * totals.steps as f64 / f64::from(args.slots).min(totals.trials as f64))
}

fn time(args: &Args, seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "unknown; --measure trains packs for some seconds and estimates it".to_owned();
    };
    let (span, slots) = (number::span(seconds), number::count(u64::from(args.slots), "slot"));
    if args.measuring.measure {
        let others = if args.slots > 1 { ", measured with the other slots idle" } else { "" };
        format!("about {span} on {slots}, evaluations included{others}")
    } else {
        format!("about {span} on {slots} (evaluations not counted)")
    }
}

/// Most trials whose packs are worked out: that takes about a second.
const FORECAST: u64 = 100_000;

/// The packs that the sweep would make on slots of unknown memory; `None` for a very large one.
fn packs(spec: &SpecFile, args: &Args) -> Result<Option<Forecast>, Error> {
    if spec.spec.total() > FORECAST {
        return Ok(None);
    }
    let submission = Submission {
        spec: spec.text.clone(),
        format: spec.format.to_string(),
        model_config: spec.model_config.clone(),
        model_dir: None,
        model_files: Vec::new(),
        model_uploaded: false,
        model_hub: None,
        data: Vec::new(),
    };
    let forecast = forecast(submission, spec.spec.clone(), &slot(args.max_pack), args.slots);
    forecast.map(Some).map_err(|refusal| Error::Usage {
        what: refusal.to_string(),
        hint: "look at the sweep with `deptune check`".to_owned(),
    })
}

/// A slot of one thread and unknown memory.
fn slot(max_pack: u32) -> SlotRecord {
    let (kind, device) = (SlotKind::Cpu, String::new());
    SlotRecord { slot: 0, kind, threads: 1, device, max_pack, memory: None }
}

fn in_words(packs: Forecast, slots: u32) -> String {
    format!(
        "{} of at most {} on {}, {} one after the other",
        number::whole(packs.packs),
        number::count(u64::from(packs.largest), "trial"),
        number::count(u64::from(slots), "slot"),
        number::whole(packs.rounds),
    )
}

/// How much a trial's checkpoint holds, and where it goes.
fn state(bytes: u64) -> String {
    let size = format!("about {} per trial, with both Adam moments", number::bytes(bytes));
    if bytes <= LARGEST_STATE {
        return size;
    }
    format!(
        "{size}; checkpoints above {} stay with the worker, and another one starts anew, unless \
         the workers share an --artifact-dir",
        number::bytes(LARGEST_STATE)
    )
}

fn range((least, most): (u64, u64)) -> String {
    if least == most {
        format!("{} per trial", number::whole(least))
    } else {
        format!("{} to {} per trial", number::whole(least), number::whole(most))
    }
}

/// The configurations in order, computed one by one.
fn rows(spec: &SpecFile) -> impl Iterator<Item = Row> {
    let seeds = (spec.spec.space.seeds.len() as u64).max(1);
    let model = ModelSize::new(spec.model.clone());
    (0..spec.spec.configurations()).filter_map(move |number| {
        let settings = spec.spec.settings(number * seeds)?;
        let parameters = settings.trainable_parameters(&model);
        Some(Row { number, settings, parameters })
    })
}

/// `largest`: trials of the largest pack.
fn totals(spec: &SpecFile, largest: u32) -> Totals {
    let slot = slot(largest);
    let seeds = spec.spec.space.seeds.len() as u64;
    let mut steps: u64 = 0;
    let mut parameters = (u64::MAX, 0);
    let mut memory = 0;
    let model = ModelSize::new(spec.model.clone());
    for row in rows(spec) {
        steps = steps.saturating_add(row.settings.train.steps.saturating_mul(seeds));
        parameters = (parameters.0.min(row.parameters), parameters.1.max(row.parameters));
        memory = memory.max(row.settings.pack_bytes(&model, &slot, largest));
    }
    Totals {
        trials: spec.spec.total(),
        configurations: spec.spec.configurations(),
        steps,
        parameters: (parameters.0.min(parameters.1), parameters.1),
        state: parameters.1.saturating_mul(12),
        memory,
    }
}

fn table(spec: &SpecFile, top: usize) -> String {
    let mut table = Table::new([
        ("configuration", Right),
        ("prompt_length", Right),
        ("rank", Right),
        ("prompt_lr", Right),
        ("lowrank_lr", Right),
        ("learning_rate", Right),
        ("source", Left),
        ("other settings", Left),
        ("steps", Right),
        ("parameters", Right),
    ])
    .leaving_out_empty(METHOD_COLUMNS);
    for row in rows(spec).take(top) {
        let settings = &row.settings;
        let other: Vec<String> =
            varied(spec, settings).iter().map(|(key, value)| format!("{key} {value}")).collect();
        table.row([
            row.number.to_string(),
            if settings.method.has_prompt() {
                settings.prompt_length.to_string()
            } else {
                String::new()
            },
            match settings.method {
                Method::Full => String::new(),
                Method::Dept | Method::Pt | Method::Lora => settings.rank.to_string(),
            },
            settings.prompt_lr.map(number::rate).unwrap_or_default(),
            settings.lowrank_lr.map(number::rate).unwrap_or_default(),
            settings.learning_rate.map(number::rate).unwrap_or_default(),
            settings.source.clone().unwrap_or_default(),
            other.join(", "),
            number::whole(settings.train.steps),
            number::whole(row.parameters),
        ]);
    }
    table.render()
}

/// Training settings that the grid varies.
fn varied(spec: &SpecFile, settings: &Settings) -> BTreeMap<&'static str, Value> {
    let all = serde_json::to_value(&settings.train).unwrap_or(Value::Null);
    let axes = spec.spec.space.train.iter().map(|axis| axis.key()).filter(|key| *key != "steps");
    axes.map(|key| (key, all.get(key).cloned().unwrap_or(Value::Null))).collect()
}

fn as_json(
    spec: &SpecFile,
    totals: &Totals,
    packs: Option<Forecast>,
    measured: &[Measured],
    seconds: Option<f64>,
) -> Value {
    json!({
        "name": spec.spec.name,
        "trials": totals.trials,
        "configurations": totals.configurations,
        "packs": packs.map(|packs| packs.packs),
        "largest_pack": packs.map(|packs| packs.largest),
        "rounds": packs.map(|packs| packs.rounds),
        "steps": totals.steps,
        "parameters_least": totals.parameters.0,
        "parameters_most": totals.parameters.1,
        "state_bytes": totals.state,
        "memory_bytes": totals.memory,
        "measured": measured,
        "seconds": seconds,
    })
}
