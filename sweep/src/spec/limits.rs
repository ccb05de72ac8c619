//! The section `[limits]`.

use super::Limits;
use super::document::{Node, Value};
use super::reader::{Report, Section, real, wrong_kind};
use crate::record::Controls;

/// Its keys.
pub(super) const KEYS: &[&str] =
    &["max_attempts", "max_parallel", "max_pack", "priority", "weight", "budget_gpu_hours"];

pub(super) fn read(section: Section<'_>, report: &mut Report<'_>) -> Option<Limits> {
    let later = "remove it; bound the sweep by its grid and its steps";
    let planned = [("trial_hours", later), ("time_limit", later)];
    section.check_keys(&planned, |_| None, report);
    let attempts = section.whole("max_attempts", 1..=100, Some(3), report);
    let parallel = match section.get("max_parallel") {
        None => Some(None),
        Some(_) => {
            let most = u64::from(Controls::MAX_PARALLEL);
            section.whole("max_parallel", 1..=most, None, report).map(Some)
        }
    };
    let pack = match section.get("max_pack") {
        None => Some(None),
        Some(_) => section.whole("max_pack", 1..=256, None, report).map(Some),
    };
    let priority = match section.get("priority") {
        None => Some(0),
        Some(entry) => priority(&section.path("priority"), &entry.node, report),
    };
    let weight = section.whole("weight", 1..=u64::from(Controls::MAX_WEIGHT), Some(1), report);
    let budget = match section.get("budget_gpu_hours") {
        None => Some(None),
        Some(entry) => {
            let wanted = "a number of hours above 0, at most 1,000,000";
            let path = section.path("budget_gpu_hours");
            let fits = |hours: f64| hours > 0.0 && hours <= 1e6;
            real(&path, &entry.node, wanted, fits, report).map(|h| Some(milliseconds(h)))
        }
    };
    Some(Limits {
        priority: priority?,
        weight: u32::try_from(weight?).ok()?,
        budget: budget?,
        max_attempts: u32::try_from(attempts?).ok()?,
        max_parallel: match parallel? {
            Some(bound) => Some(u32::try_from(bound).ok()?),
            None => None,
        },
        max_pack: match pack? {
            Some(most) => Some(u32::try_from(most).ok()?),
            None => None,
        },
    })
}

/// A whole number that may be negative.
fn priority(path: &str, node: &Node, report: &mut Report<'_>) -> Option<i32> {
    let most = Controls::MAX_PRIORITY;
    let wanted = format!("a whole number from -{most} to {most}");
    let Value::Integer(number) = node.value else {
        wrong_kind(path, node, &wanted, report);
        return None;
    };
    let fits = i32::try_from(number).ok().filter(|n| (-most..=most).contains(n));
    if fits.is_none() {
        report.add(path, node.at, format!("{path} is {number}, expected {wanted}"), String::new());
    }
    fits
}

/// Hours, at most a million, in milliseconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range")]
fn milliseconds(hours: f64) -> u64 {
    ((hours * 3_600_000.0).round() as u64).max(1)
}
