//! `[space]`: the axes of the grid.

use super::document::{Entry, Node, Value};
use super::reader::{Placed, Planned, Report, Section, axis, real, small, text, whole, wrong_kind};
use super::{MAX_SEED, Method, train};
use crate::space::Rounding;

/// Keys of `[space]` that are not training settings.
const OWN_KEYS: &[&str] =
    &["source", "prompt_lr", "lowrank_lr", "learning_rate", "prompt_length", "rank", "seeds"];

pub(super) const KEYS: &[&str] = &[
    "prompt_lr",
    "lowrank_lr",
    "learning_rate",
    "prompt_length",
    "rank",
    "source",
    "seeds",
    "steps",
    "batch_size",
    "gradient_accumulation",
    "max_length",
    "warmup_steps",
    "dropout",
];

const PLANNED: &[Planned] = &[
    ("zip", "list the combinations as separate sweeps"),
    ("when", "list the combinations as separate sweeps"),
];

/// Rates above this are certainly a mistake.
const MAX_RATE: f64 = 1e3;

/// Longest prompt and largest rank accepted.
pub(super) const MAX_ROWS: u32 = 8192;

/// The section that a misplaced key belongs in, if it is a key of `[space]` or `[train]`.
pub(super) fn section_of(key: &str) -> Option<&'static str> {
    if OWN_KEYS.contains(&key) {
        Some("space")
    } else if train::KEYS.contains(&key) {
        Some("train")
    } else {
        None
    }
}

/// What was read; `None` where a value is wrong or missing (and reported).
pub(super) struct Axes {
    /// Empty when left out.
    pub(super) source: Option<Vec<Placed<String>>>,
    /// Empty when left out.
    pub(super) prompt_length: Option<Vec<Placed<u32>>>,
    pub(super) rank: Option<RankAxis>,
    /// Empty when left out.
    pub(super) prompt_lr: Option<Vec<Placed<f64>>>,
    pub(super) lowrank_lr: Option<LowrankAxis>,
    /// Empty when left out.
    pub(super) learning_rate: Option<Vec<Placed<f64>>>,
    pub(super) seeds: Option<Vec<Placed<u64>>>,
}

/// The key `lowrank_lr`.
pub(super) enum LowrankAxis {
    /// Its values; none when left out.
    List(Vec<Placed<f64>>),
    /// The prompt's own rate, whatever it is.
    AsPrompt,
}

/// The key `rank`.
pub(super) enum RankAxis {
    LeftOut,
    List(Vec<Placed<u32>>),
    EqualParameters { to: u32, rounding: Rounding, at: usize },
}

/// Reads the section's own keys. Which of them are needed depends on the method; without a valid
/// one nothing is missed.
pub(super) fn read(space: Section<'_>, method: Option<Method>, report: &mut Report<'_>) -> Axes {
    space.check_keys(PLANNED, |key| section_of(key).filter(|section| *section != "space"), report);
    let needed: &[(&str, &str)] = match method {
        Some(Method::Dept | Method::Pt) => &[
            ("prompt_lr", "prompt_lr = [0.3, 0.4, 0.5]"),
            ("prompt_length", "prompt_length = [20, 40, 60, 80]"),
        ],
        Some(Method::Lora) => {
            &[("learning_rate", "learning_rate = [1e-4, 3e-4]"), ("rank", "rank = [4, 8]")]
        }
        Some(Method::Full) => &[("learning_rate", "learning_rate = [1e-5, 3e-5, 1e-4]")],
        None => &[],
    };
    for (key, example) in needed {
        if space.get(key).is_none() {
            space.missing(key, example, report);
        }
    }
    let no_rates = || Some(Vec::new());
    Axes {
        source: match space.get("source") {
            Some(entry) => axis(&space.path("source"), &entry.node, String::clone, source, report),
            None => Some(Vec::new()),
        },
        prompt_length: match space.get("prompt_length") {
            Some(entry) => {
                let path = space.path("prompt_length");
                axis(&path, &entry.node, |n| *n, rows, report)
            }
            None => Some(Vec::new()),
        },
        rank: read_rank(space, report),
        prompt_lr: space.get("prompt_lr").map_or_else(no_rates, |e| rates(space, e, report)),
        lowrank_lr: read_lowrank(space, report),
        learning_rate: space
            .get("learning_rate")
            .map_or_else(no_rates, |entry| rates(space, entry, report)),
        seeds: match space.get("seeds") {
            Some(entry) => {
                let path = space.path("seeds");
                axis(&path, &entry.node, u64::clone, seed, report)
            }
            // The seed of the runs that DePT's authors recorded.
            None => Some(vec![Placed { value: 42, at: space.at }]),
        },
    }
}

fn source(path: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    text(path, node, report).map(str::to_owned)
}

fn read_lowrank(space: Section<'_>, report: &mut Report<'_>) -> Option<LowrankAxis> {
    let Some(entry) = space.get("lowrank_lr") else { return Some(LowrankAxis::List(Vec::new())) };
    match &entry.node.value {
        Value::Text(word) if word == "prompt_lr" => Some(LowrankAxis::AsPrompt),
        Value::Text(word) if word.parse::<f64>().is_err() => {
            let wanted = "learning rates, or \"prompt_lr\" for the prompt's own";
            wrong_kind(&space.path("lowrank_lr"), &entry.node, wanted, report);
            None
        }
        _ => rates(space, entry, report).map(LowrankAxis::List),
    }
}

fn rows(path: &str, node: &Node, report: &mut Report<'_>) -> Option<u32> {
    small(path, node, 0..=MAX_ROWS, report)
}

fn seed(path: &str, node: &Node, report: &mut Report<'_>) -> Option<u64> {
    whole(path, node, 0..=MAX_SEED, report)
}

fn rates(space: Section<'_>, entry: &Entry, report: &mut Report<'_>) -> Option<Vec<Placed<f64>>> {
    let wanted = format!("a learning rate: a number more than 0, at most {MAX_RATE}");
    axis(
        &space.path(&entry.key),
        &entry.node,
        |rate: &f64| rate.to_bits(),
        |path, node, report| {
            real(path, node, &wanted, |rate| rate > 0.0 && rate <= MAX_RATE, report)
        },
        report,
    )
}

fn read_rank(space: Section<'_>, report: &mut Report<'_>) -> Option<RankAxis> {
    let Some(entry) = space.get("rank") else { return Some(RankAxis::LeftOut) };
    let path = space.path("rank");
    match &entry.node.value {
        Value::Table(entries) => read_equal(&path, entry, entries, report),
        Value::Text(_) | Value::Bool(_) | Value::Null | Value::Date => {
            let wanted = "a whole number, a list of them, or { equal_parameters_to = 100 }";
            wrong_kind(&path, &entry.node, wanted, report);
            None
        }
        Value::Integer(_) | Value::Float(_) | Value::List(_) => {
            axis(&path, &entry.node, |n| u64::from(*n), rows, report).map(RankAxis::List)
        }
    }
}

fn read_equal(
    path: &str,
    entry: &Entry,
    entries: &[Entry],
    report: &mut Report<'_>,
) -> Option<RankAxis> {
    let table =
        Section { path, at: entry.node.at, entries, known: &["equal_parameters_to", "rounding"] };
    table.check_keys(&[], |_| None, report);
    if table.get("equal_parameters_to").is_none() {
        table.missing("equal_parameters_to", "equal_parameters_to = 100", report);
    }
    let rounding = match table.get("rounding") {
        None => Some(Rounding::Exact),
        Some(_) => {
            let choices = [("exact", Rounding::Exact), ("nearest", Rounding::Nearest)];
            table.choice("rounding", &choices, &[], report)
        }
    };
    let to = table.get("equal_parameters_to").and_then(|entry| {
        small(&table.path("equal_parameters_to"), &entry.node, 1..=MAX_ROWS, report)
    });
    Some(RankAxis::EqualParameters { to: to?, rounding: rounding?, at: entry.at })
}
