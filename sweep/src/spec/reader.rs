//! Reads values out of a spec's tree and writes down what is wrong with them, without stopping.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::diagnostic::{Diagnostic, Diagnostics, Position, nearest};
use super::document::{Entry, Node, Value};

/// Most problems that are reported; further ones are counted.
const MAX_PROBLEMS: usize = 100;

/// Collects problems.
pub(super) struct Report<'a> {
    text: &'a str,
    found: Vec<(usize, Diagnostic)>,
    more: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str) -> Report<'a> {
        Report { text, found: Vec::new(), more: 0 }
    }

    /// Notes a problem with the value or key at `at`.
    pub(super) fn add(&mut self, path: impl Display, at: usize, message: String, hint: String) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let problem = Diagnostic {
            path: path.to_string(),
            position: Some(Position::of(self.text, at)),
            message,
            hint: (!hint.is_empty()).then_some(hint),
        };
        self.found.push((at, problem));
    }

    /// Whether further problems are only counted.
    fn is_full(&self) -> bool {
        self.found.len() >= MAX_PROBLEMS
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// Where the text ends.
    pub(super) fn end(&self) -> usize {
        self.text.len()
    }

    /// All problems, in the order of the text.
    pub(super) fn finish(mut self) -> Diagnostics {
        self.found.sort_by_key(|(at, _)| *at);
        let mut all: Vec<Diagnostic> = self.found.into_iter().map(|(_, one)| one).collect();
        if self.more > 0 {
            all.push(Diagnostic {
                path: String::new(),
                position: None,
                message: format!("{} more problems are not shown", self.more),
                hint: Some("solve those above first".to_owned()),
            });
        }
        Diagnostics(all)
    }
}

/// A table of the spec. One that is not there reads as an empty one.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    /// Path from the top; empty for the top.
    pub(super) path: &'a str,
    /// Where it begins; 0 when it is not there.
    pub(super) at: usize,
    /// Its keys.
    pub(super) entries: &'a [Entry],
    /// Every key that it can have.
    pub(super) known: &'a [&'static str],
}

/// A key that is planned but not enforced yet, and what to do instead.
pub(super) type Planned = (&'static str, &'static str);

impl<'a> Section<'a> {
    /// The entry with this key.
    pub(super) fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The key's path from the top.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The section's name as people know it.
    pub(super) fn name(&self) -> String {
        if self.path.is_empty() { "the spec".to_owned() } else { format!("[{}]", self.path) }
    }

    /// The table under `key`, `None` when it is not there or is no table.
    pub(super) fn table(
        &self,
        key: &'static str,
        known: &'a [&'static str],
        report: &mut Report<'_>,
    ) -> Option<Section<'a>> {
        let entry = self.get(key)?;
        match &entry.node.value {
            Value::Table(entries) => Some(Section { path: key, at: entry.at, entries, known }),
            other => {
                let message = format!("'{key}' is {}, expected a table", other.kind());
                report.add(key, entry.at, message, format!("write a section [{key}]"));
                None
            }
        }
    }

    /// The table of this name when the spec has none.
    pub(super) fn empty(path: &'a str, known: &'a [&'static str]) -> Section<'a> {
        Section { path, at: 0, entries: &[], known }
    }

    /// Whether `key` is not there because it is misspelt, which has been said already.
    pub(super) fn is_misspelt(&self, key: &str) -> bool {
        let unknown = |entry: &&Entry| !self.known.contains(&entry.key.as_str());
        let meant = |entry: &Entry| nearest(&entry.key, self.known.iter().copied()) == Some(key);
        // More unknown keys than are reported need no closer look.
        let mut unknown = self.entries.iter().filter(unknown).take(MAX_PROBLEMS);
        self.get(key).is_none() && unknown.any(meant)
    }

    /// Notes every key that is neither known nor planned, and every planned one.
    ///
    /// `elsewhere` finds the section in which a key would be right.
    pub(super) fn check_keys(
        &self,
        planned: &[Planned],
        elsewhere: impl Fn(&str) -> Option<&'static str>,
        report: &mut Report<'_>,
    ) {
        for entry in self.entries {
            let key = entry.key.as_str();
            if self.known.contains(&key) {
                continue;
            }
            if report.is_full() {
                report.more += 1;
                continue;
            }
            let (name, shown) = (self.name(), shorten(key));
            if let Some((_, instead)) = planned.iter().find(|(planned, _)| *planned == key) {
                let message = format!("'{shown}' in {name} is not supported in this version");
                report.add(self.path(key), entry.at, message, (*instead).to_owned());
                continue;
            }
            let what = if self.path.is_empty() && matches!(entry.node.value, Value::Table(_)) {
                format!("unknown section [{shown}]")
            } else {
                format!("unknown key '{shown}' in {name}")
            };
            let hint = match (elsewhere(key), nearest(key, self.known.iter().copied())) {
                (Some(section), _) => format!("'{shown}' belongs in [{section}]"),
                (None, Some(meant)) => format!("did you mean '{meant}'?"),
                (None, None) => format!("known here: {}", self.known.join(", ")),
            };
            report.add(self.path(key), entry.at, what, hint);
        }
    }

    /// Notes that a needed key is not there.
    pub(super) fn missing(&self, key: &str, example: &str, report: &mut Report<'_>) {
        if self.is_misspelt(key) {
            return;
        }
        let message = format!("'{key}' is missing in {}", self.name());
        report.add(self.path(key), self.at, message, format!("add, for example, {example}"));
    }

    /// The whole number under `key`, or `default`.
    pub(super) fn whole(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: Option<u64>,
        report: &mut Report<'_>,
    ) -> Option<u64> {
        match self.get(key) {
            Some(entry) => whole(&self.path(key), &entry.node, range, report),
            None => default,
        }
    }

    /// The string under `key`, if there is one.
    pub(super) fn text(&self, key: &'static str, report: &mut Report<'_>) -> Option<&'a str> {
        let entry = self.get(key)?;
        text(&self.path(key), &entry.node, report)
    }

    /// The value among `all`, each known by its `name`, that the string under `key` names;
    /// `default` when it is left out.
    pub(super) fn word<T: Copy>(
        &self,
        key: &'static str,
        all: &[T],
        name: fn(T) -> &'static str,
        default: T,
        report: &mut Report<'_>,
    ) -> Option<T> {
        if self.get(key).is_none() {
            return Some(default);
        }
        let choices: Vec<(&'static str, T)> = all.iter().map(|one| (name(*one), *one)).collect();
        self.choice(key, &choices, &[], report)
    }

    /// The value among `choices` that the string under `key` names. `planned` are names that this
    /// version refuses.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
        planned: &[Planned],
        report: &mut Report<'_>,
    ) -> Option<T> {
        let word = self.text(key, report)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*value);
        }
        let (path, shown) = (self.path(key), shorten(word));
        let at = self.get(key).map_or(self.at, |entry| entry.node.at);
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        if let Some((_, instead)) = planned.iter().find(|(planned, _)| *planned == word) {
            let message = format!("{path} = '{shown}' is not supported in this version");
            report.add(path, at, message, (*instead).to_owned());
            return None;
        }
        let hint = nearest_hint(word, &names);
        report.add(&path, at, format!("unknown {path} '{shown}'"), hint);
        None
    }
}

/// A value together with where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// The values of an axis: a list, or a single value, read one by one by `read`. `None` when one
/// of them is wrong; each value stands once, by what `same_as` makes of it.
pub(super) fn axis<T: Display, K: Ord>(
    path: &str,
    node: &Node,
    same_as: impl Fn(&T) -> K,
    mut read: impl FnMut(&str, &Node, &mut Report<'_>) -> Option<T>,
    report: &mut Report<'_>,
) -> Option<Vec<Placed<T>>> {
    let Value::List(items) = &node.value else {
        let value = read(path, node, report)?;
        return Some(vec![Placed { value, at: node.at }]);
    };
    if items.is_empty() {
        let message = format!("{path} is an empty list");
        report.add(path, node.at, message, "give at least one value".to_owned());
        return None;
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut values = Vec::with_capacity(items.len());
    let mut fine = true;
    for (i, item) in items.iter().enumerate() {
        let item_path = format!("{path}[{i}]");
        let Some(value) = read(&item_path, item, report) else {
            fine = false;
            continue;
        };
        if !seen.insert(same_as(&value)) {
            let hint = "each value stands once; remove the second".to_owned();
            report.add(item_path, item.at, format!("{path} has {value} twice"), hint);
            fine = false;
        }
        values.push(Placed { value, at: item.at });
    }
    fine.then_some(values)
}

/// A whole number in `range`.
pub(super) fn whole(
    path: &str,
    node: &Node,
    range: RangeInclusive<u64>,
    report: &mut Report<'_>,
) -> Option<u64> {
    let (least, most) = (*range.start(), *range.end());
    let wanted = format!("a whole number from {least} to {most}");
    let Value::Integer(number) = node.value else {
        wrong_kind(path, node, &wanted, report);
        return None;
    };
    if let Some(fits) = u64::try_from(number).ok().filter(|n| range.contains(n)) {
        return Some(fits);
    }
    report.add(path, node.at, format!("{path} is {number}, expected {wanted}"), String::new());
    None
}

/// As [`whole`], for ranges within 32 bits.
pub(super) fn small(
    path: &str,
    node: &Node,
    range: RangeInclusive<u32>,
    report: &mut Report<'_>,
) -> Option<u32> {
    let range = u64::from(*range.start())..=u64::from(*range.end());
    whole(path, node, range, report).and_then(|n| u32::try_from(n).ok())
}

/// A finite number that `fits`; `wanted` says in words which those are.
pub(super) fn real(
    path: &str,
    node: &Node,
    wanted: &str,
    fits: impl Fn(f64) -> bool,
    report: &mut Report<'_>,
) -> Option<f64> {
    let number = match node.value {
        Value::Float(number) => number,
        // Beyond 2^53 the nearest double is taken, as a float literal would be.
        #[allow(clippy::cast_precision_loss)]
        Value::Integer(number) => number as f64,
        _ => {
            wrong_kind(path, node, wanted, report);
            return None;
        }
    };
    if number.is_finite() && fits(number) {
        // Turns -0 into 0, which is the same value.
        return Some(number + 0.0);
    }
    report.add(path, node.at, format!("{path} is {number}, expected {wanted}"), String::new());
    None
}

/// A string of 1 to 4096 bytes, without control characters other than tabs and line ends.
pub(super) fn text<'a>(path: &str, node: &'a Node, report: &mut Report<'_>) -> Option<&'a str> {
    let Value::Text(text) = &node.value else {
        wrong_kind(path, node, "a string", report);
        return None;
    };
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > 4096 {
        "is longer than 4096 bytes"
    } else if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')) {
        "has a control character in it"
    } else {
        return Some(text);
    };
    report.add(path, node.at, format!("{path} {problem}"), "give a text".to_owned());
    None
}

/// `true` or `false`.
pub(super) fn flag(path: &str, node: &Node, report: &mut Report<'_>) -> Option<bool> {
    let Value::Bool(flag) = node.value else {
        wrong_kind(path, node, "true or false", report);
        return None;
    };
    Some(flag)
}

/// Notes that a value is of another kind than wanted.
pub(super) fn wrong_kind(path: &str, node: &Node, wanted: &str, report: &mut Report<'_>) {
    let found = match &node.value {
        Value::Text(text) => format!("the string '{}'", shorten(text)),
        Value::Integer(number) => format!("{number}"),
        Value::Float(number) => format!("{number}"),
        Value::Bool(flag) => format!("{flag}"),
        other => other.kind().to_owned(),
    };
    let hint = match &node.value {
        Value::Text(text) if wanted.contains("number") && text.parse::<f64>().is_ok() => {
            "write it without quotation marks"
        }
        Value::Float(number) if wanted.contains("whole") && number.fract() == 0.0 => {
            "write it without a point or an exponent"
        }
        Value::List(_) if wanted.contains("number") => {
            "one value stands here; axes with several values go in [space]"
        }
        _ => "",
    };
    report.add(path, node.at, format!("{path} is {found}, expected {wanted}"), hint.to_owned());
}

/// The name that was probably meant, or all of them.
pub(super) fn nearest_hint(word: &str, names: &[&str]) -> String {
    match nearest(word, names.iter().copied()) {
        Some(meant) => format!("did you mean '{meant}'?"),
        None => format!("possible values: {}", names.join(", ")),
    }
}

/// At most 60 characters of a text from outside, on one line.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}
