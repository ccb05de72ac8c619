//! A spec's text as a tree of values that know where they stand. TOML and JSON give the same
//! tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Format;
use super::diagnostic::{Diagnostic, Position};
use super::json;

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Byte offset in the text.
    pub(super) at: usize,
    /// The value.
    pub(super) value: Value,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// A whole number that fits; larger ones become floats.
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// TOML's dates and times, which no key here takes.
    Date,
}

/// A key of a table and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key begins.
    pub(super) at: usize,
    /// The value.
    pub(super) node: Node,
}

impl Value {
    /// The kind of value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Date => "a date",
        }
    }
}

/// Reads the text.
///
/// # Errors
/// Every place where it is no TOML or JSON; never an empty list.
pub(super) fn read(text: &str, format: Format) -> Result<Vec<Entry>, Vec<Diagnostic>> {
    match format {
        Format::Toml => read_toml(text),
        Format::Json => json::read(text).map_err(|problem| vec![problem]),
    }
}

/// What follows the first errors of syntax is mostly their consequence.
const MAX_SYNTAX_ERRORS: usize = 20;

fn read_toml(text: &str) -> Result<Vec<Entry>, Vec<Diagnostic>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(from_table(table.into_inner()));
    }
    Err(errors
        .iter()
        .take(MAX_SYNTAX_ERRORS)
        .map(|error| {
            let position = error.span().map(|span| Position::of(text, span.start));
            syntax("TOML", error.message(), position)
        })
        .collect())
}

/// A problem with the syntax.
pub(super) fn syntax(language: &str, why: &str, position: Option<Position>) -> Diagnostic {
    let hint = match why {
        why if why.contains("duplicate key") => "write each key once; several values go in a list",
        why if why.contains("recursion limit") => "a spec nests a few levels at most",
        _ => "strings need quotation marks, lists commas, and every bracket its partner",
    };
    Diagnostic {
        path: String::new(),
        position,
        message: format!("not valid {language}: {why}"),
        hint: Some(hint.to_owned()),
    }
}

fn from_table(table: DeTable<'_>) -> Vec<Entry> {
    table
        .into_iter()
        .map(|(key, value)| Entry {
            at: key.span().start,
            key: key.into_inner().into_owned(),
            node: from_value(value),
        })
        .collect()
}

// Recursion is bounded: the TOML reader refuses texts that nest deeper than 80 levels.
fn from_value(value: Spanned<DeValue<'_>>) -> Node {
    let at = value.span().start;
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(whole) => Value::Integer(whole),
            Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Bool(flag),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(values) => Value::List(values.into_iter().map(from_value).collect()),
        DeValue::Table(table) => Value::Table(from_table(table)),
    };
    Node { at, value }
}
