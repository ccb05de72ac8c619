//! `[method]`, and which keys of the spec belong to which method.

use super::axes::{Axes, LowrankAxis, RankAxis};
use super::document::Node;
use super::reader::{Report, Section, real, text};
use super::train::Training;
use super::{Method, Optimizer, PromptInit, Start, WarmStart, axes};
use crate::model::ModelConfig;

/// Keys of `[method]`.
pub(super) const KEYS: &[&str] = &["kind", "init", "init_text", "warm_start", "lora_alpha"];

/// A source that is none: the trial starts as if there were no axis of sources.
pub(super) const NO_SOURCE: &str = "none";

/// LoRA's alpha where the spec gives none.
const LORA_ALPHA: f64 = 8.0;

/// Most that LoRA's alpha can be.
const MAX_ALPHA: f64 = 1e4;

/// What was read; `None` where a value is wrong (and reported).
pub(super) struct MethodKeys<'a> {
    pub(super) section: Section<'a>,
    pub(super) kind: Option<Method>,
    pub(super) init: Option<PromptInit>,
    /// `None` inside when left out.
    pub(super) init_text: Option<Option<String>>,
    pub(super) warm_start: Option<WarmStart>,
    /// `None` inside when left out.
    pub(super) lora_alpha: Option<Option<f64>>,
}

impl MethodKeys<'_> {
    /// What prompts start from.
    pub(super) fn start(&self) -> Option<Start> {
        Some(Start {
            init: self.init?,
            init_text: self.init_text.clone()?,
            warm_start: self.warm_start?,
        })
    }

    /// LoRA's alpha, for LoRA.
    pub(super) fn alpha(&self) -> Option<Option<f64>> {
        let given = self.lora_alpha?;
        Some((self.kind? == Method::Lora).then(|| given.unwrap_or(LORA_ALPHA)))
    }
}

/// Reads the section.
pub(super) fn read<'a>(section: Section<'a>, report: &mut Report<'_>) -> MethodKeys<'a> {
    let planned = [("source", "name source adapters under source in [space]")];
    section.check_keys(&planned, axes::section_of, report);
    MethodKeys {
        section,
        kind: section.word("kind", Method::ALL, Method::as_str, Method::Dept, report),
        init: section.word(
            "init",
            PromptInit::ALL,
            PromptInit::as_str,
            PromptInit::default(),
            report,
        ),
        init_text: optional(section, "init_text", report, |path, node, report| {
            text(path, node, report).map(str::to_owned)
        }),
        warm_start: section.word(
            "warm_start",
            WarmStart::ALL,
            WarmStart::as_str,
            WarmStart::default(),
            report,
        ),
        lora_alpha: optional(section, "lora_alpha", report, |path, node, report| {
            let wanted = format!("a number more than 0, at most {MAX_ALPHA}");
            real(path, node, &wanted, |x| x > 0.0 && x <= MAX_ALPHA, report)
        }),
    }
}

fn optional<T>(
    section: Section<'_>,
    key: &'static str,
    report: &mut Report<'_>,
    read: impl FnOnce(&str, &Node, &mut Report<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match section.get(key) {
        None => Some(None),
        Some(entry) => read(&section.path(key), &entry.node, report).map(Some),
    }
}

/// Methods that a key has a meaning for; `None` for all of them.
fn owners(key: &str) -> Option<&'static [Method]> {
    match key {
        "lowrank_lr" | "warm_start" => Some(&[Method::Dept]),
        "prompt_length" | "prompt_lr" | "source" | "init" | "init_text" => {
            Some(&[Method::Dept, Method::Pt])
        }
        "rank" => Some(&[Method::Dept, Method::Lora]),
        "learning_rate" => Some(&[Method::Lora, Method::Full]),
        "lora_alpha" => Some(&[Method::Lora]),
        _ => None,
    }
}

/// Refuses keys of `section` that have no meaning for the method.
fn foreign_keys(section: Section<'_>, method: Method, report: &mut Report<'_>) {
    for entry in section.entries {
        let Some(owners) = owners(&entry.key).filter(|owners| !owners.contains(&method)) else {
            continue;
        };
        let key = &entry.key;
        let kinds: Vec<String> = owners.iter().map(|one| format!("kind = \"{one}\"")).collect();
        let message = format!("'{key}' has no meaning for method '{method}'");
        let hint = format!("remove it, or set {} in [method]", kinds.join(" or "));
        report.add(section.path(key), entry.at, message, hint);
    }
}

/// Checks what depends on the method alone.
pub(super) fn check(
    keys: &MethodKeys<'_>,
    space: Section<'_>,
    axes: &Axes,
    training: &Training,
    train: Section<'_>,
    report: &mut Report<'_>,
) {
    let Some(method) = keys.kind else { return };
    foreign_keys(keys.section, method, report);
    foreign_keys(space, method, report);
    if let (Some(Optimizer::Adafactor), false) = (training.optimizer, method.has_prompt()) {
        let at = train.get("optimizer").map_or(train.at, |entry| entry.node.at);
        let message = format!("optimizer 'adafactor' does not fit method '{method}'");
        let hint = "leave it out, or set kind = \"pt\" or kind = \"dept\" in [method]".to_owned();
        report.add(train.path("optimizer"), at, message, hint);
    }
    if method.has_prompt() {
        starts(keys, axes, report);
    }
}

/// Rules about what a prompt starts from.
fn starts(keys: &MethodKeys<'_>, axes: &Axes, report: &mut Report<'_>) {
    let section = keys.section;
    let sources = axes.source.as_deref().unwrap_or_default();
    let from_source = sources.iter().any(|one| one.value != NO_SOURCE);
    let from_nothing = sources.is_empty() || sources.iter().any(|one| one.value == NO_SOURCE);
    if let (Some(entry), true, Some(_)) =
        (section.get("warm_start"), !from_source, axes.source.as_ref())
    {
        let message = "warm_start has no effect: no trial starts from a source adapter".to_owned();
        let hint = "remove it, or add source = [\"adapter.safetensors\"] to [space]".to_owned();
        report.add(section.path("warm_start"), entry.at, message, hint);
    }
    for key in ["init", "init_text"] {
        if let (Some(entry), false) = (section.get(key), from_nothing) {
            let message = format!("{key} has no effect: every trial starts from a source adapter");
            let hint = format!("remove it, or add \"{NO_SOURCE}\" to source in [space]");
            report.add(section.path(key), entry.at, message, hint);
        }
    }
    if let (Some(entry), Some(init @ (PromptInit::Vocabulary | PromptInit::Random))) =
        (section.get("init_text"), keys.init)
    {
        let message = format!("init_text has no effect with init = \"{init}\"");
        let hint = "remove one of the two".to_owned();
        report.add(section.path("init_text"), entry.at, message, hint);
    }
}

/// Rules about the ranks of LoRA.
pub(super) fn lora_ranks(
    space: Section<'_>,
    axes: &Axes,
    model: Option<&ModelConfig>,
    report: &mut Report<'_>,
) {
    match &axes.rank {
        Some(RankAxis::EqualParameters { at, .. }) => {
            let message = "equal_parameters_to has no meaning for method 'lora'".to_owned();
            let hint = "give ranks, as in rank = [4, 8]".to_owned();
            report.add(space.path("rank"), *at, message, hint);
        }
        Some(RankAxis::List(ranks)) => {
            let most = model.map_or(axes::MAX_ROWS, ModelConfig::hidden_size);
            for one in ranks.iter().filter(|one| one.value == 0 || one.value > most) {
                let message = format!("rank {} does not fit method 'lora'", one.value);
                let hint = format!("give a rank from 1 to {most}");
                report.add(space.path("rank"), one.at, message, hint);
            }
        }
        Some(RankAxis::LeftOut) | None => {}
    }
}

/// The values of `lowrank_lr`, and whether they are the prompt's own.
pub(super) fn lowrank(axis: &LowrankAxis) -> (Vec<f64>, bool) {
    match axis {
        LowrankAxis::List(values) => (values.iter().map(|one| one.value).collect(), false),
        LowrankAxis::AsPrompt => (Vec::new(), true),
    }
}
