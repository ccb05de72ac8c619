//! A space that is added to a sweep: other values for the axes, all else as in the sweep's spec.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{self, Entry, Node, Value};
use super::reader::{Report, shorten};
use super::{Format, Spec, axes, parse};
use crate::model::ModelConfig;

const ONLY: &str =
    "an added space is a section [space] alone; all else stays as in the sweep's spec";

/// Longest text of an added space, in bytes.
pub const MAX_SPACE_BYTES: usize = 64 << 10;

impl Spec {
    /// Reads an added space: the section `[space]` of a text of its own. An axis that it leaves
    /// out keeps the values of the spec, and a training setting that it has takes the place of
    /// the one in `[train]`. The spec that comes out differs from `spec`'s in the grid alone.
    ///
    /// # Errors
    /// Every problem that was found, with its position in the space's text.
    pub fn with_space(
        spec: (&str, Format),
        space: (&str, Format),
        model: Option<&ModelConfig>,
    ) -> Result<Spec, Diagnostics> {
        parse::check_size("the space", space.0, MAX_SPACE_BYTES)?;
        let mut entries = document::read(spec.0, spec.1).map_err(Diagnostics)?;
        let mut added = document::read(space.0, space.1).map_err(Diagnostics)?;
        // Positions count on behind the spec's text.
        let text = format!("{}\n{}", spec.0, space.0);
        added.iter_mut().for_each(|entry| shift(entry, spec.0.len() + 1));
        let mut report = Report::new(&text);
        let of_spec = u32::try_from(spec.0.matches('\n').count() + 1).unwrap_or(u32::MAX);
        if !take(&mut entries, added, &mut report) {
            return Err(within_space(report.finish(), of_spec));
        }
        parse::read_spec(&entries, model, report).map_err(|found| within_space(found, of_spec))
    }
}

/// Puts the added axes into the spec's entries; `false` when there are none to put.
fn take(entries: &mut Vec<Entry>, added: Vec<Entry>, report: &mut Report<'_>) -> bool {
    let mut space = None;
    for entry in added {
        match (entry.key.as_str(), &entry.node.value) {
            ("space", Value::Table(_)) => space = Some(entry),
            ("space", other) => {
                let message = format!("'space' is {}, expected a table", other.kind());
                report.add("space", entry.at, message, "write a section [space]".to_owned());
                return false;
            }
            (key, _) => {
                let message = format!("'{}' has no place here", shorten(key));
                report.add(key, entry.at, message, ONLY.to_owned());
            }
        }
    }
    let Some(mut space) = space else {
        if report.is_clean() {
            let message = "section [space] is missing".to_owned();
            report.add("space", report.end(), message, ONLY.to_owned());
        }
        return false;
    };
    let Value::Table(axes) = &mut space.node.value else { return false };
    if axes.is_empty() {
        let hint = "give at least one axis, as in prompt_lr = [0.6, 0.7]".to_owned();
        report.add("space", space.at, "[space] is empty".to_owned(), hint);
        return false;
    }
    let given: Vec<String> = axes.iter().map(|axis| axis.key.clone()).collect();
    let is_given = |key: &str| given.iter().any(|given| given == key);
    for section in entries.iter_mut() {
        let Value::Table(keys) = &mut section.node.value else { continue };
        match section.key.as_str() {
            "space" => axes.extend(keys.drain(..).filter(|axis| !is_given(&axis.key))),
            "train" => {
                keys.retain(|key| !is_given(&key.key) || !axes::KEYS.contains(&key.key.as_str()))
            }
            _ => {}
        }
    }
    entries.retain(|section| section.key != "space");
    entries.push(space);
    true
}

fn shift(entry: &mut Entry, by: usize) {
    entry.at += by;
    shift_node(&mut entry.node, by);
}

// Nesting is bounded by the readers of the texts.
fn shift_node(node: &mut Node, by: usize) {
    node.at += by;
    match &mut node.value {
        Value::List(nodes) => nodes.iter_mut().for_each(|node| shift_node(node, by)),
        Value::Table(entries) => entries.iter_mut().for_each(|entry| shift(entry, by)),
        _ => {}
    }
}

/// Positions in the space's text; what stands in the spec, whose text has `lines` lines, has none.
fn within_space(mut found: Diagnostics, lines: u32) -> Diagnostics {
    let shown = |one: &mut Diagnostic| {
        one.position = one.position.filter(|at| at.line > lines).map(|mut at| {
            at.line -= lines;
            at
        });
    };
    found.0.iter_mut().for_each(shown);
    found
}
