//! Rules that concern several keys.

use super::axes::{Axes, LowrankAxis, RankAxis};
use super::method;
use super::reader::{Placed, Report, Section};
use super::train::{Setting, Training};
use super::{MAX_TRIALS, Method};
use crate::model::ModelConfig;
use crate::space::{Rounding, equal_rank, nearest_pairs};

/// Everything that was read, for the rules to look at.
pub(super) struct Parts<'a> {
    pub(super) space: Section<'a>,
    pub(super) method: Option<Method>,
    pub(super) axes: &'a Axes,
    pub(super) training: &'a Training,
    pub(super) model: Option<&'a ModelConfig>,
}

/// Checks all of them.
pub(super) fn check(parts: &Parts<'_>, report: &mut Report<'_>) {
    updates(parts.training, report);
    positions(parts, report);
    let small_enough = count(parts, report);
    match parts.method {
        Some(Method::Pt) => prompt_tuning(parts, report),
        Some(Method::Dept) => {
            dept(parts, report);
            if small_enough {
                ranks(parts, report);
            }
        }
        Some(Method::Lora) => method::lora_ranks(parts.space, parts.axes, parts.model, report),
        Some(Method::Full) | None => {}
    }
}

fn updates(training: &Training, report: &mut Report<'_>) {
    let Some(steps) = &training.steps else { return };
    let Some(least) = steps.values.iter().map(|one| one.value).min() else { return };
    if let Some(warmup) = &training.warmup_steps {
        for one in warmup.values.iter().filter(|one| one.value >= least) {
            let message = format!("warmup_steps {} is not less than steps {least}", one.value);
            let hint = format!("warm-up must end before the last step: at most {}", least - 1);
            report.add(&warmup.path, one.at, message, hint);
        }
    }
    if let Some(Some(every)) = training.eval_every
        && every.value > least
    {
        let message = format!("eval_every {} is more than steps {least}", every.value);
        let hint = format!("no evaluation would ever happen: at most {least}");
        report.add("train.eval_every", every.at, message, hint);
    }
}

/// A decoder has a given number of positions for prompt, text and at least one token of an
/// answer.
fn positions(parts: &Parts<'_>, report: &mut Report<'_>) {
    let (Some(model), Some(lengths), Some(max_lengths)) =
        (parts.model, &parts.axes.prompt_length, &parts.training.max_length)
    else {
        return;
    };
    let longest = max_lengths.values.iter().max_by_key(|one| one.value);
    let (Some(available), Some(longest)) = (model.max_positions(), longest) else { return };
    let room = u64::from(available).saturating_sub(u64::from(longest.value) + 1);
    let prompt = lengths.iter().max_by_key(|one| one.value);
    if let Some(prompt) = prompt.filter(|one| u64::from(one.value) > room) {
        let message = format!(
            "prompt_length {} and max_length {} leave no room for an answer: {} has {available} \
             positions",
            prompt.value,
            longest.value,
            model.architecture(),
        );
        let hint = match room {
            0 => format!("give a max_length of less than {}", available.saturating_sub(1)),
            room => format!("give a prompt_length of at most {room}, or lower max_length"),
        };
        report.add(parts.space.path("prompt_length"), prompt.at, message, hint);
    }
}

/// Refuses a grid that is too large, by arithmetic alone. False when it is, so that nothing walks
/// over products of axes then. An axis that could not be read counts as one value.
fn count(parts: &Parts<'_>, report: &mut Report<'_>) -> bool {
    let (axes, training) = (parts.axes, parts.training);
    let rank = match &axes.rank {
        Some(RankAxis::List(values)) => Some(values.len()),
        Some(RankAxis::LeftOut | RankAxis::EqualParameters { .. }) => Some(1),
        None => None,
    };
    fn settings<T>(setting: Option<&Setting<T>>) -> Option<usize> {
        setting.map(|setting| setting.values.len().max(1))
    }
    fn values<T>(axis: Option<&Vec<T>>) -> Option<usize> {
        axis.map(|values| values.len().max(1))
    }
    let lowrank_lr = axes.lowrank_lr.as_ref().map(|axis| match axis {
        LowrankAxis::List(values) => values.len().max(1),
        LowrankAxis::AsPrompt => 1,
    });
    let axes = [
        ("source", values(axes.source.as_ref())),
        ("prompt_length", values(axes.prompt_length.as_ref())),
        ("rank", rank),
        ("prompt_lr", values(axes.prompt_lr.as_ref())),
        ("lowrank_lr", lowrank_lr),
        ("learning_rate", values(axes.learning_rate.as_ref())),
        ("steps", settings(training.steps.as_ref())),
        ("batch_size", settings(training.batch_size.as_ref())),
        ("gradient_accumulation", settings(training.gradient_accumulation.as_ref())),
        ("max_length", settings(training.max_length.as_ref())),
        ("warmup_steps", settings(training.warmup_steps.as_ref())),
        ("dropout", settings(training.dropout.as_ref())),
        ("seeds", axes.seeds.as_ref().map(Vec::len)),
    ];
    let mut lengths = axes.iter().map(|(_, length)| length.unwrap_or(1) as u128);
    let total = lengths.try_fold(1, u128::checked_mul);
    if total.is_none_or(|total| total > u128::from(MAX_TRIALS)) {
        let total = match total {
            Some(total) => grouped(total),
            None => "more than 10^38".to_owned(),
        };
        let factors: Vec<String> = axes
            .iter()
            .filter_map(|(key, length)| Some((key, (*length)?)))
            .filter(|(_, length)| *length > 1)
            .map(|(key, length)| format!("{key} {length}"))
            .collect();
        let message =
            format!("the grid has {total} trials, at most {} are accepted", grouped(MAX_TRIALS));
        let hint = format!("shorten an axis ({})", factors.join(" × "));
        report.add("space", parts.space.at, message, hint);
        return false;
    }
    true
}

/// Digits in groups of three.
fn grouped(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn prompt_tuning(parts: &Parts<'_>, report: &mut Report<'_>) {
    let zero = parts.axes.prompt_length.iter().flatten().find(|one| one.value == 0);
    if let Some(zero) = zero {
        let message = "prompt_length 0 with method 'pt' leaves nothing to train".to_owned();
        report.add(parts.space.path("prompt_length"), zero.at, message, at_least_one());
    }
}

fn at_least_one() -> String {
    "give a prompt_length of at least 1".to_owned()
}

fn dept(parts: &Parts<'_>, report: &mut Report<'_>) {
    let space = parts.space;
    let all_zero = match &parts.axes.rank {
        Some(RankAxis::LeftOut) => {
            let example = "rank = { equal_parameters_to = 100 } or rank = [30, 45]";
            space.missing("rank", example, report);
            return;
        }
        Some(RankAxis::List(values)) => values.iter().all(|one| one.value == 0),
        Some(RankAxis::EqualParameters { .. }) => false,
        None => return,
    };
    match (space.get("lowrank_lr"), all_zero) {
        (None, false) => space.missing("lowrank_lr", "lowrank_lr = [1e-4, 5e-4, 5e-3]", report),
        (Some(entry), true) => {
            let message = "lowrank_lr has no effect: every rank is 0".to_owned();
            let hint = "remove lowrank_lr, or give a rank of at least 1".to_owned();
            report.add(space.path("lowrank_lr"), entry.at, message, hint);
        }
        (None, true) | (Some(_), false) => {}
    }
}

fn ranks(parts: &Parts<'_>, report: &mut Report<'_>) {
    let (Some(lengths), Some(rank)) = (&parts.axes.prompt_length, &parts.axes.rank) else {
        return;
    };
    let Some(max_lengths) = &parts.training.max_length else { return };
    match rank {
        RankAxis::LeftOut => {}
        RankAxis::List(ranks) => {
            let shortest = max_lengths.values.iter().map(|one| one.value).min().unwrap_or(0);
            let limit = RankLimit::new(shortest, parts.model);
            for one in ranks.iter().filter(|one| one.value > limit.most) {
                limit.refuse(one.value, parts.space.path("rank"), one.at, report);
            }
            let zero = |values: &[Placed<u32>]| values.iter().find(|one| one.value == 0).copied();
            if let (Some(zero), Some(_)) = (zero(lengths), zero(ranks)) {
                nothing_to_train(parts.space, zero.at, report);
            }
        }
        RankAxis::EqualParameters { to, rounding, at } => {
            let Some(model) = parts.model else {
                let message = "equal_parameters_to needs the model's config.json".to_owned();
                let hint = "check model.path, or give the file with --model-config".to_owned();
                report.add(parts.space.path("rank"), *at, message, hint);
                return;
            };
            for one in lengths.iter().filter(|one| one.value > *to) {
                let m = one.value;
                let message = format!(
                    "prompt_length {m} alone has more parameters than equal_parameters_to = {to}"
                );
                let hint = format!("give a prompt_length of at most {to}");
                report.add(parts.space.path("prompt_length"), one.at, message, hint);
            }
            for max_length in max_lengths.plain() {
                let line =
                    Line { to: *to, rounding: *rounding, max_length, model, at: *at, lengths };
                line.check(parts.space, report);
            }
        }
    }
}

fn nothing_to_train(space: Section<'_>, at: usize, report: &mut Report<'_>) {
    let message = "prompt_length 0 and rank 0 together leave nothing to train".to_owned();
    let hint = "remove 0 from prompt_length or from rank".to_owned();
    report.add(space.path("prompt_length"), at, message, hint);
}

/// min(s, d): a larger rank has parameters but no more freedom.
struct RankLimit {
    most: u32,
    why: String,
}

impl RankLimit {
    fn new(max_length: u32, model: Option<&ModelConfig>) -> RankLimit {
        match model {
            Some(model) => RankLimit {
                most: max_length.min(model.hidden_size()),
                why: format!("min(max_length {max_length}, hidden size {})", model.hidden_size()),
            },
            None => RankLimit { most: max_length, why: format!("max_length {max_length}") },
        }
    }

    fn refuse(&self, rank: u32, path: String, at: usize, report: &mut Report<'_>) {
        let message = format!("rank {rank} is more than {}", self.why);
        report.add(path, at, message, format!("give a rank of at most {}", self.most));
    }
}

/// The equal-parameter line for one input length.
struct Line<'a> {
    to: u32,
    rounding: Rounding,
    max_length: u32,
    model: &'a ModelConfig,
    at: usize,
    lengths: &'a [Placed<u32>],
}

impl Line<'_> {
    fn check(&self, space: Section<'_>, report: &mut Report<'_>) {
        let hidden = self.model.hidden_size();
        let limit = RankLimit::new(self.max_length, Some(self.model));
        let mut off = Vec::new();
        for one in self.lengths.iter().filter(|one| one.value <= self.to) {
            let m = one.value;
            match equal_rank(self.to, m, self.max_length, hidden, self.rounding) {
                None => off.push(m),
                Some(0) if m == 0 => nothing_to_train(space, one.at, report),
                Some(rank) if rank > limit.most => {
                    limit.refuse(rank, space.path("rank"), self.at, report);
                }
                Some(_) => {}
            }
        }
        if let Some(first) = off.first() {
            self.no_whole_rank(*first, &off, space, report);
        }
    }

    fn no_whole_rank(&self, first: u32, off: &[u32], space: Section<'_>, report: &mut Report<'_>) {
        let hidden = self.model.hidden_size();
        let each = f64::from(self.max_length) + f64::from(hidden);
        let listed: Vec<String> = off
            .iter()
            .take(5)
            .map(|m| {
                let rank = f64::from(self.to - m) * f64::from(hidden) / each;
                format!("prompt_length {m} (r = {rank:.2})")
            })
            .collect();
        let more = if off.len() > 5 { ", …" } else { "" };
        let message = format!(
            "equal_parameters_to = {} gives no whole rank for {}{more} with max_length {} and \
             hidden size {hidden}",
            self.to,
            listed.join(", "),
            self.max_length
        );
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for m in off.iter().take(5).chain([&first]) {
            pairs.extend(nearest_pairs(self.to, *m, self.max_length, hidden, 2));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let pairs: Vec<String> = pairs.iter().map(|(m, r)| format!("({m}, {r})")).collect();
        let nearest = if pairs.is_empty() {
            "no pair of whole numbers lies on this line".to_owned()
        } else {
            format!("the nearest whole pairs (prompt_length, rank) are {}", pairs.join(" "))
        };
        let hint = format!("{nearest}; or allow rounding with rounding = \"nearest\"");
        report.add(space.path("rank"), self.at, message, hint);
    }
}
