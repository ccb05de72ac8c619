//! `[train]`, and the training settings that may stand in `[space]` instead.

use std::fmt::Display;

use super::document::Node;
use super::reader::{Placed, Planned, Report, Section, axis, flag, real, small, whole};
use super::{Decoding, DropoutMasks, Optimizer, Precision, Scheduler};

/// Keys of `[train]`.
pub(super) const KEYS: &[&str] = &[
    "steps",
    "batch_size",
    "gradient_accumulation",
    "max_length",
    "warmup_steps",
    "eval_every",
    "eval_batch_size",
    "max_grad_norm",
    "dropout",
    "dropout_masks",
    "activation_checkpointing",
    "precision",
    "optimizer",
    "scheduler",
    "weight_decay",
    "patience",
    "decoding",
    "save_predictions",
];

const PLANNED: &[Planned] = &[("time_limit", "remove it; trials run to their last step")];

/// Weight decay above this is certainly a mistake.
const MAX_DECAY: f64 = 10.0;

/// Default of `warmup_steps`.
pub(crate) fn default_warmup_steps(steps: u64) -> u64 {
    (steps / 10).min(500)
}

/// Default of `eval_every`.
pub(crate) fn default_eval_every(steps: u64) -> u64 {
    steps.min(1000)
}

/// A training setting: one value, or an axis of them.
#[derive(Debug, Clone)]
pub(super) struct Setting<T> {
    /// The values; one unless it is an axis; none for an optional one that was left out.
    pub(super) values: Vec<Placed<T>>,
    /// Whether it stands in `[space]`.
    pub(super) is_axis: bool,
    /// Its path: `train.steps` or `space.steps`.
    pub(super) path: String,
}

impl<T: Copy> Setting<T> {
    /// The first value.
    pub(super) fn first(&self) -> Option<T> {
        self.values.first().map(|one| one.value)
    }

    /// The values without their places.
    pub(super) fn plain(&self) -> Vec<T> {
        self.values.iter().map(|one| one.value).collect()
    }
}

/// What was read; `None` where a value is wrong (and reported).
pub(super) struct Training {
    pub(super) steps: Option<Setting<u64>>,
    pub(super) batch_size: Option<Setting<u32>>,
    pub(super) gradient_accumulation: Option<Setting<u32>>,
    pub(super) max_length: Option<Setting<u32>>,
    /// No values when left out.
    pub(super) warmup_steps: Option<Setting<u64>>,
    /// No values when left out.
    pub(super) dropout: Option<Setting<f64>>,
    pub(super) dropout_masks: Option<DropoutMasks>,
    pub(super) activation_checkpointing: Option<bool>,
    /// `None` inside when left out.
    pub(super) eval_every: Option<Option<Placed<u64>>>,
    pub(super) eval_batch_size: Option<Option<u32>>,
    pub(super) max_grad_norm: Option<f64>,
    pub(super) precision: Option<Precision>,
    pub(super) optimizer: Option<Optimizer>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) weight_decay: Option<f64>,
    /// `None` inside when left out.
    pub(super) patience: Option<Option<u32>>,
    pub(super) decoding: Option<Decoding>,
    pub(super) save_predictions: Option<bool>,
}

/// Reads the settings from both sections.
///
/// `expected` is false when the missing of `[train]` as a whole has been noted already.
pub(super) fn read(
    train: Section<'_>,
    space: Section<'_>,
    expected: bool,
    report: &mut Report<'_>,
) -> Training {
    train.check_keys(PLANNED, super::axes::section_of, report);
    let both = Both { train, space };
    let steps = both.setting("steps", &[], u64::clone, steps_of, report);
    let misspelt = both.space.is_misspelt("steps");
    if expected
        && !misspelt
        && both.train.get("steps").is_none()
        && both.space.get("steps").is_none()
    {
        train.missing("steps", "steps = 30000", report);
    }
    let rows =
        |path: &str, node: &Node, report: &mut Report<'_>| small(path, node, 1..=4096, report);
    Training {
        steps: steps.filter(|steps| !steps.values.is_empty()),
        batch_size: both.setting("batch_size", &[32], |n| u64::from(*n), rows, report),
        gradient_accumulation: both.setting(
            "gradient_accumulation",
            &[1],
            |n| u64::from(*n),
            |path, node, report| small(path, node, 1..=1024, report),
            report,
        ),
        max_length: both.setting(
            "max_length",
            &[256],
            |n| u64::from(*n),
            |path, node, report| small(path, node, 1..=8192, report),
            report,
        ),
        warmup_steps: both.setting(
            "warmup_steps",
            &[],
            u64::clone,
            |path, node, report| whole(path, node, 0..=9_999_999, report),
            report,
        ),
        dropout: both.setting("dropout", &[], |x| x.to_bits(), dropout_of, report),
        dropout_masks: train.word(
            "dropout_masks",
            DropoutMasks::ALL,
            DropoutMasks::as_str,
            DropoutMasks::default(),
            report,
        ),
        activation_checkpointing: optional(train, "activation_checkpointing", report, flag)
            .map(Option::unwrap_or_default),
        eval_every: optional(train, "eval_every", report, |path, node, report| {
            let value = steps_of(path, node, report)?;
            Some(Placed { value, at: node.at })
        }),
        eval_batch_size: optional(train, "eval_batch_size", report, rows),
        max_grad_norm: optional(train, "max_grad_norm", report, |path, node, report| {
            real(path, node, "a number more than 0", |x| x > 0.0, report)
        })
        .map(|norm| norm.unwrap_or(1.0)),
        precision: precision_of(train, report),
        optimizer: train.word(
            "optimizer",
            Optimizer::ALL,
            Optimizer::as_str,
            Optimizer::default(),
            report,
        ),
        scheduler: train.word(
            "scheduler",
            Scheduler::ALL,
            Scheduler::as_str,
            Scheduler::default(),
            report,
        ),
        weight_decay: optional(train, "weight_decay", report, |path, node, report| {
            let wanted = format!("a number from 0 to {MAX_DECAY}");
            real(path, node, &wanted, |x| (0.0..=MAX_DECAY).contains(&x), report)
        })
        .map(Option::unwrap_or_default),
        patience: optional(train, "patience", report, |path, node, report| {
            small(path, node, 1..=1_000_000, report)
        }),
        decoding: train.word(
            "decoding",
            Decoding::ALL,
            Decoding::as_str,
            Decoding::default(),
            report,
        ),
        save_predictions: optional(train, "save_predictions", report, flag)
            .map(Option::unwrap_or_default),
    }
}

fn steps_of(path: &str, node: &Node, report: &mut Report<'_>) -> Option<u64> {
    whole(path, node, 1..=10_000_000, report)
}

fn dropout_of(path: &str, node: &Node, report: &mut Report<'_>) -> Option<f64> {
    if matches!(&node.value, super::document::Value::Text(word) if word == "kernel") {
        let message = format!("{path} is a rate");
        let hint = "write dropout_masks = \"kernel\"; dropout = 0.1 gives the rate, and without it \
                    the model's own holds";
        report.add(path, node.at, message, hint.to_owned());
        return None;
    }
    real(path, node, "a number from 0 to below 1", |x| (0.0..1.0).contains(&x), report)
}

fn precision_of(train: Section<'_>, report: &mut Report<'_>) -> Option<Precision> {
    if train.get("precision").is_none() {
        return Some(Precision::Fp32);
    }
    let instead = "use precision = \"fp32\" or precision = \"bf16\"";
    let planned = [("fp16", instead), ("tf32", instead)];
    let choices = [("fp32", Precision::Fp32), ("bf16", Precision::Bf16)];
    train.choice("precision", &choices, &planned, report)
}

/// `Some(None)` when left out, `None` when wrong.
fn optional<T>(
    section: Section<'_>,
    key: &'static str,
    report: &mut Report<'_>,
    read: impl FnOnce(&str, &Node, &mut Report<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match section.get(key) {
        Some(entry) => read(&section.path(key), &entry.node, report).map(Some),
        None => Some(None),
    }
}

struct Both<'a> {
    train: Section<'a>,
    space: Section<'a>,
}

impl Both<'_> {
    fn setting<T: Copy + Display>(
        &self,
        key: &'static str,
        default: &[T],
        same_as: impl Fn(&T) -> u64,
        read: impl Fn(&str, &Node, &mut Report<'_>) -> Option<T>,
        report: &mut Report<'_>,
    ) -> Option<Setting<T>> {
        let (train, space) = (self.train.get(key), self.space.get(key));
        if let (Some(_), Some(second)) = (train, space) {
            let message = format!("'{key}' stands in [train] and in [space]");
            let hint = format!("keep one of them: [space] if {key} varies, else [train]");
            report.add(self.space.path(key), second.at, message, hint);
        }
        if let Some(entry) = space {
            let path = self.space.path(key);
            let values = axis(&path, &entry.node, same_as, read, report)?;
            return Some(Setting { values, is_axis: true, path });
        }
        if self.train.is_misspelt(key) || self.space.is_misspelt(key) {
            return None;
        }
        let path = self.train.path(key);
        let values = match train {
            Some(entry) => {
                let value = read(&path, &entry.node, report)?;
                vec![Placed { value, at: entry.node.at }]
            }
            None => default.iter().map(|value| Placed { value: *value, at: 0 }).collect(),
        };
        Some(Setting { values, is_axis: false, path })
    }
}
