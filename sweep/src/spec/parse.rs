//! From a text to a valid [`Spec`].

use super::axes::{Axes, RankAxis};
use super::cross::{self, Parts};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{self, Entry};
use super::reader::{Placed, Planned, Report, Section, nearest_hint, shorten};
use super::train::Training;
use super::{
    Decoding, Format, Goal, MAX_SPEC_BYTES, Method, ModelSpec, Objective, Spec, Train, axes,
    limits, method, requires, task, train,
};
use crate::hub::{ModelName, is_revision};
use crate::metric::MetricKind;
use crate::model::ModelConfig;
use crate::space::{Follow, Ranks, Space, TrainAxis};
use crate::task::{Recipe, TaskDef};

const SECTIONS: &[&str] = &[
    "name",
    "recipe",
    "model",
    "task",
    "method",
    "space",
    "search",
    "train",
    "objective",
    "limits",
    "requires",
];

const PLANNED_SECTIONS: &[Planned] =
    &[("pool", "start workers yourself"), ("pools", "start workers yourself")];

const GRID_ONLY: &str = "use kind = \"grid\"";

impl Spec {
    /// Reads a spec. `model` is the backbone's configuration; without it, ranks are checked
    /// against `max_length` alone, and `equal_parameters_to` is refused.
    ///
    /// # Errors
    /// Every problem that was found, in the order of the text.
    pub fn parse(
        text: &str,
        format: Format,
        model: Option<&ModelConfig>,
    ) -> Result<Spec, Diagnostics> {
        check_size("the spec", text, MAX_SPEC_BYTES)?;
        let entries = document::read(text, format).map_err(Diagnostics)?;
        read_spec(&entries, model, Report::new(text))
    }
}

/// Refuses a text that is too long to be looked at.
pub(super) fn check_size(what: &str, text: &str, most: usize) -> Result<(), Diagnostics> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Diagnostics(vec![Diagnostic {
        path: String::new(),
        position: None,
        message: format!("{what} has {} bytes, at most {most} are accepted", text.len()),
        hint: Some("shorten its lists; data go in files of their own".to_owned()),
    }]))
}

/// Reads a spec's tree; what the report holds already counts.
pub(super) fn read_spec(
    entries: &[Entry],
    model: Option<&ModelConfig>,
    mut report: Report<'_>,
) -> Result<Spec, Diagnostics> {
    let top = Section { path: "", at: 0, entries, known: SECTIONS };
    match read(top, model, &mut report) {
        Some(spec) if report.is_clean() => Ok(spec),
        _ => Err(report.finish()),
    }
}

fn read(top: Section<'_>, model: Option<&ModelConfig>, report: &mut Report<'_>) -> Option<Spec> {
    top.check_keys(PLANNED_SECTIONS, axes::section_of, report);
    for needed in ["model", "task", "space", "train"] {
        let optional = needed == "train" && has_steps(top);
        if top.get(needed).is_none() && !optional && !top.is_misspelt(needed) {
            let message = format!("section [{needed}] is missing");
            report.add(needed, 0, message, format!("add a section [{needed}]"));
        }
    }
    let name = read_name(top, report);
    let recipe = read_recipe(top, report);
    let model_section = top.table("model", &["path", "revision"], report);
    let model_spec = model_section.and_then(|section| read_model(section, report));
    let (task, resolved) = match top.table("task", task::KEYS, report) {
        Some(section) => task::read(section, recipe.unwrap_or_default(), report),
        None => (None, None),
    };
    let method = method::read(or_empty(top, "method", method::KEYS, report), report);
    read_search(or_empty(top, "search", &["kind"], report), report);
    let objective = or_empty(top, "objective", &["metric", "goal"], report);
    let metrics = resolved.as_ref().map(|def| def.metrics());
    let objective = read_objective(objective, metrics, report);
    let limits = or_empty(top, "limits", limits::KEYS, report);
    let limits = limits::read(limits, report);
    let requires = or_empty(top, "requires", requires::KEYS, report);
    let requires = requires::read(requires, report);
    let train = top.table("train", train::KEYS, report);
    let space = top.table("space", axes::KEYS, report)?;
    let axes = axes::read(space, method.kind, report);
    let train_or_empty = train.unwrap_or(Section::empty("train", train::KEYS));
    let training = train::read(train_or_empty, space, train.is_some(), report);
    method::check(&method, space, &axes, &training, train_or_empty, report);
    decoding(&training, train_or_empty, resolved.as_ref(), report);
    let parts = Parts { space, method: method.kind, axes: &axes, training: &training, model };
    cross::check(&parts, report);
    let (train, follow, train_axes) = settle(&training)?;
    let kind = method.kind?;
    let space = grid(&axes, kind, model, follow, train_axes)?;
    Some(Spec {
        name: name?,
        recipe: recipe?,
        model: model_spec?,
        task: task?,
        method: kind,
        start: method.start()?,
        lora_alpha: method.alpha()?,
        space,
        train,
        objective: objective?,
        limits: limits?,
        requires: requires?,
    })
}

fn or_empty<'a>(
    top: Section<'a>,
    key: &'static str,
    known: &'a [&'static str],
    report: &mut Report<'_>,
) -> Section<'a> {
    top.table(key, known, report).unwrap_or(Section::empty(key, known))
}

fn has_steps(top: Section<'_>) -> bool {
    let space = top.get("space").map(|entry| &entry.node.value);
    matches!(space, Some(document::Value::Table(entries)) if entries.iter().any(|e| e.key == "steps"))
}

fn read_name(top: Section<'_>, report: &mut Report<'_>) -> Option<String> {
    let Some(entry) = top.get("name") else {
        top.missing("name", "name = \"rte-dept\"", report);
        return None;
    };
    let name = top.text("name", report)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.chars().all(fits) && name.len() <= 100 {
        return Some(name.to_owned());
    }
    let message = format!("'{}' is no name for a sweep", shorten(name));
    let hint = "use letters, digits, '-', '_' and '.', at most 100 of them".to_owned();
    report.add("name", entry.node.at, message, hint);
    None
}

pub(super) fn read_recipe(top: Section<'_>, report: &mut Report<'_>) -> Option<Recipe> {
    if top.get("recipe").is_none() {
        return Some(Recipe::Default);
    }
    let choices = [("default", Recipe::Default), ("reference", Recipe::Reference)];
    top.choice("recipe", &choices, &[], report)
}

fn read_model(section: Section<'_>, report: &mut Report<'_>) -> Option<ModelSpec> {
    section.check_keys(&[("dtype", "leave it out")], |_| None, report);
    if section.get("path").is_none() {
        section.missing("path", "path = \"models/t5-base\"", report);
    }
    let path = section.text("path", report)?.to_owned();
    let Some(entry) = section.get("revision") else {
        return Some(ModelSpec { path, revision: None });
    };
    let revision = section.text("revision", report)?.to_owned();
    let (message, hint) = if path.contains('@') {
        ("the revision stands in model.path already", "leave one of the two out")
    } else if !is_revision(&revision) {
        ("no such revision can be", "give a branch, a tag or a whole commit hash")
    } else if ModelName::parse(&path, None).is_none() {
        ("a directory has no revision", "leave it out, or name a model of the hub, ORG/NAME")
    } else {
        return Some(ModelSpec { path, revision: Some(revision) });
    };
    report.add("model.revision", entry.node.at, message.to_owned(), hint.to_owned());
    None
}

/// Only labels that are known beforehand can be scored.
fn decoding(
    training: &Training,
    train: Section<'_>,
    task: Option<&TaskDef>,
    report: &mut Report<'_>,
) {
    if let (Some(Decoding::Labels), Some(task)) = (training.decoding, task)
        && task.classes().is_empty()
    {
        let at = train.get("decoding").map_or(train.at, |entry| entry.node.at);
        let message =
            format!("decoding 'labels' needs known labels; task '{}' has none", task.name());
        let hint = "use decoding = \"greedy\", or give 'labels' in [task]".to_owned();
        report.add(train.path("decoding"), at, message, hint);
    }
}

fn read_search(section: Section<'_>, report: &mut Report<'_>) {
    let kinds = ["random", "asha", "tpe"].map(|kind| (kind, GRID_ONLY));
    if section.get("kind").is_some() {
        section.choice("kind", &[("grid", ())], &kinds, report);
    }
    let planned =
        ["trials", "eta", "grace", "rungs", "seed"].map(|key| (key, "a grid takes no settings"));
    section.check_keys(&planned, axes::section_of, report);
}

fn read_objective(
    section: Section<'_>,
    metrics: Option<&[MetricKind]>,
    report: &mut Report<'_>,
) -> Option<Objective> {
    section.check_keys(&[], axes::section_of, report);
    let goal = match section.get("goal") {
        None => Some(Goal::Maximize),
        Some(_) => {
            let choices = [("maximize", Goal::Maximize), ("minimize", Goal::Minimize)];
            section.choice("goal", &choices, &[], report)
        }
    };
    let metric = match (section.get("metric"), metrics) {
        (None, metrics) => metrics.and_then(|all| all.first().copied()),
        (Some(entry), metrics) => {
            let word = section.text("metric", report)?;
            let all: &[MetricKind] = metrics.unwrap_or(&MetricKind::ALL);
            let found = all.iter().find(|kind| kind.name() == word).copied();
            if found.is_none() {
                let names: Vec<&str> = all.iter().map(|kind| kind.name()).collect();
                let whose = if metrics.is_some() { "this task's metrics" } else { "the metrics" };
                let message = format!("objective.metric '{}' is not among {whose}", shorten(word));
                report.add("objective.metric", entry.node.at, message, nearest_hint(word, &names));
            }
            found
        }
    };
    Some(Objective { metric: metric?, goal: goal? })
}

/// The settings of trials before any axis is applied, and the axes.
fn settle(training: &Training) -> Option<(Train, Follow, Vec<TrainAxis>)> {
    let steps = training.steps.as_ref()?;
    let batch_size = training.batch_size.as_ref()?;
    let accumulation = training.gradient_accumulation.as_ref()?;
    let max_length = training.max_length.as_ref()?;
    let warmup = training.warmup_steps.as_ref()?;
    let dropout = training.dropout.as_ref()?;
    let eval_every = training.eval_every?;
    let eval_batch_size = training.eval_batch_size?;
    let first_steps = steps.first()?;
    let train = Train {
        steps: first_steps,
        batch_size: batch_size.first()?,
        gradient_accumulation: accumulation.first()?,
        max_length: max_length.first()?,
        warmup_steps: warmup.first().unwrap_or_else(|| train::default_warmup_steps(first_steps)),
        eval_every: eval_every
            .map_or_else(|| train::default_eval_every(first_steps), |every| every.value),
        eval_batch_size: match eval_batch_size {
            Some(rows) => rows,
            None => batch_size.first()?,
        },
        max_grad_norm: training.max_grad_norm?,
        dropout: dropout.first(),
        dropout_masks: training.dropout_masks?,
        activation_checkpointing: training.activation_checkpointing?,
        precision: training.precision?,
        optimizer: training.optimizer?,
        scheduler: training.scheduler?,
        weight_decay: training.weight_decay?,
        patience: training.patience?,
        decoding: training.decoding?,
        save_predictions: training.save_predictions?,
    };
    let follow = Follow {
        warmup_steps: warmup.values.is_empty(),
        eval_every: eval_every.is_none(),
        eval_batch_size: eval_batch_size.is_none(),
    };
    let axes = [
        (steps.is_axis, TrainAxis::Steps(steps.plain())),
        (batch_size.is_axis, TrainAxis::BatchSize(batch_size.plain())),
        (accumulation.is_axis, TrainAxis::GradientAccumulation(accumulation.plain())),
        (max_length.is_axis, TrainAxis::MaxLength(max_length.plain())),
        (warmup.is_axis, TrainAxis::WarmupSteps(warmup.plain())),
        (dropout.is_axis, TrainAxis::Dropout(dropout.plain())),
    ];
    let axes = axes.into_iter().filter(|(is_axis, _)| *is_axis).map(|(_, axis)| axis).collect();
    Some((train, follow, axes))
}

fn grid(
    axes: &Axes,
    method: Method,
    model: Option<&ModelConfig>,
    follow: Follow,
    train: Vec<TrainAxis>,
) -> Option<Space> {
    let rank = match (axes.rank.as_ref()?, method) {
        (_, Method::Pt | Method::Full) => Ranks::List(vec![0]),
        (RankAxis::LeftOut, Method::Dept | Method::Lora) => return None,
        (RankAxis::List(values), Method::Dept | Method::Lora) => {
            Ranks::List(values.iter().map(|one| one.value).collect())
        }
        (RankAxis::EqualParameters { to, rounding, .. }, Method::Dept | Method::Lora) => {
            let hidden = model?.hidden_size();
            Ranks::EqualParameters { to: *to, hidden, rounding: *rounding }
        }
    };
    let (lowrank_lr, one_rate) = method::lowrank(axes.lowrank_lr.as_ref()?);
    let rates = |axis: &Option<Vec<Placed<f64>>>| {
        Some(axis.as_ref()?.iter().map(|one| one.value).collect())
    };
    let prompt_length: Vec<u32> = match method.has_prompt() {
        true => axes.prompt_length.as_ref()?.iter().map(|one| one.value).collect(),
        false => vec![0],
    };
    let sources = axes.source.as_ref()?.iter().map(|one| &one.value);
    Some(Space {
        source: sources.map(|name| (name != method::NO_SOURCE).then(|| name.clone())).collect(),
        prompt_length,
        rank,
        prompt_lr: rates(&axes.prompt_lr)?,
        lowrank_lr,
        one_rate,
        learning_rate: rates(&axes.learning_rate)?,
        train,
        follow,
        seeds: axes.seeds.as_ref()?.iter().map(|one| one.value).collect(),
    })
}
