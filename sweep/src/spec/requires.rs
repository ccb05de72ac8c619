//! The section `[requires]`: which slots take the sweep's trials.

use serde::{Deserialize, Serialize};

use super::document::Value;
use super::reader::{Report, Section, text, wrong_kind};
use crate::record::{SlotKind, SlotRecord, WorkerRecord};

/// Bytes of a gigabyte.
const GB: u64 = 1_000_000_000;

/// Its keys.
pub(super) const KEYS: &[&str] = &["device", "memory_gb", "labels"];

/// Most labels of a sweep or of a worker.
pub const MAX_LABELS: usize = 32;

/// What a slot must be like. The default takes any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Requires {
    /// `cpu` or `cuda`. Default: either.
    pub device: Option<SlotKind>,
    /// Least memory of the slot, in bytes; a slot of unknown memory has not enough. Default: any.
    pub memory: Option<u64>,
    /// Labels that the worker must have. Default: none.
    pub labels: Vec<String>,
}

/// Why a slot does not take a sweep's trials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It computes on something else.
    #[error("computes on {has}, not on {wanted}")]
    Device {
        /// What is required.
        wanted: SlotKind,
        /// What it computes on.
        has: SlotKind,
    },
    /// It has not enough memory.
    #[error("has {}, not the {} that are required", memory(*.has), memory(Some(*.wanted)))]
    Memory {
        /// Bytes required.
        wanted: u64,
        /// Bytes it has, where known.
        has: Option<u64>,
    },
    /// Its worker lacks a label.
    #[error("lacks the label '{0}'")]
    Label(String),
}

impl Requires {
    /// Whether a slot takes the sweep's trials.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn fits(&self, worker: &WorkerRecord, slot: &SlotRecord) -> Result<(), Misfit> {
        if let Some(label) = self.labels.iter().find(|label| !worker.labels.contains(label)) {
            return Err(Misfit::Label(label.clone()));
        }
        if let Some(wanted) = self.device.filter(|wanted| *wanted != slot.kind) {
            return Err(Misfit::Device { wanted, has: slot.kind });
        }
        match self.memory {
            Some(wanted) if slot.memory.is_none_or(|has| has < wanted) => {
                Err(Misfit::Memory { wanted, has: slot.memory })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a word can be a label: letters, digits, `-`, `_`, `.`, `=`, at most 100 of them.
#[must_use]
pub fn is_label(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
    (1..=100).contains(&word.len()) && word.chars().all(fits)
}

pub(super) fn read(section: Section<'_>, report: &mut Report<'_>) -> Option<Requires> {
    section.check_keys(&[], |_| None, report);
    let device = match section.get("device") {
        None => Some(None),
        Some(_) => {
            let choices = [("cpu", SlotKind::Cpu), ("cuda", SlotKind::Cuda)];
            section.choice("device", &choices, &[("gpu", "write \"cuda\"")], report).map(Some)
        }
    };
    let memory = match section.get("memory_gb") {
        None => Some(None),
        Some(_) => section.whole("memory_gb", 1..=100_000, None, report).map(|gb| Some(gb * GB)),
    };
    let labels = labels(section, report);
    Some(Requires { device: device?, memory: memory?, labels: labels? })
}

fn labels(section: Section<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let Some(entry) = section.get("labels") else { return Some(Vec::new()) };
    let path = section.path("labels");
    let Value::List(nodes) = &entry.node.value else {
        wrong_kind(&path, &entry.node, "a list of labels", report);
        return None;
    };
    if nodes.len() > MAX_LABELS {
        let message =
            format!("{path} has {} labels, at most {MAX_LABELS} are allowed", nodes.len());
        report.add(&path, entry.node.at, message, String::new());
        return None;
    }
    let mut labels = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let label = text(&path, node, report)?;
        if !is_label(label) {
            let hint = "use letters, digits, '-', '_', '.' and '=', at most 100 of them".to_owned();
            report.add(&path, node.at, format!("{path} is no label"), hint);
            return None;
        }
        labels.push(label.to_owned());
    }
    Some(labels)
}

/// Memory in words.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn memory(bytes: Option<u64>) -> String {
    match bytes {
        None => "memory of unknown size".to_owned(),
        Some(bytes) => format!("{:.1} GB of memory", bytes as f64 / GB as f64),
    }
}
