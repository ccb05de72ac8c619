//! JSON with positions: a thin walk over a text that `serde_json` has already found valid.

use super::diagnostic::{Diagnostic, Position};
use super::document::{Entry, Node, Value, syntax};

/// Reads a JSON object.
///
/// # Errors
/// The first place where the text is no JSON, is no object, or repeats a key.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Diagnostic> {
    // Checks the whole grammar, nesting included (at most 128 levels), so that the walk below
    // can take it for granted.
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        let position = Position { line: whole(error.line()), column: whole(error.column()) };
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or_default();
        return Err(syntax("JSON", why, Some(position)));
    }
    let mut walk = Walk { text, at: 0 };
    let node = walk.value().map_err(|problem| match problem {
        Problem::Syntax(at) => syntax("JSON", "unexpected text", Some(Position::of(text, at))),
        Problem::Duplicate(at, key) => {
            syntax("JSON", &format!("duplicate key '{key}'"), Some(Position::of(text, at)))
        }
    })?;
    match node.value {
        Value::Table(entries) => Ok(entries),
        other => {
            let why = format!("a spec is an object, found {}", other.kind());
            Err(syntax("JSON", &why, Some(Position::of(text, node.at))))
        }
    }
}

fn whole(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

enum Problem {
    Syntax(usize),
    Duplicate(usize, String),
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl Walk<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while self.peek().is_ascii_whitespace() {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Node, Problem> {
        self.skip_space();
        let at = self.at;
        let value = match self.peek() {
            b'{' => Value::Table(self.entries()?),
            b'[' => Value::List(self.items()?),
            b'"' => Value::Text(self.string()?),
            _ => self.word()?,
        };
        Ok(Node { at, value })
    }

    fn entries(&mut self) -> Result<Vec<Entry>, Problem> {
        let mut entries = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let at = self.at;
                    let key = self.string()?;
                    if !seen.insert(key.clone()) {
                        return Err(Problem::Duplicate(at, key));
                    }
                    self.skip_space();
                    if self.peek() != b':' {
                        return Err(Problem::Syntax(self.at));
                    }
                    self.at += 1;
                    entries.push(Entry { key, at, node: self.value()? });
                }
            }
        }
        self.at += 1;
        Ok(entries)
    }

    fn items(&mut self) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                b']' => break,
                b',' => self.at += 1,
                _ => items.push(self.value()?),
            }
        }
        self.at += 1;
        Ok(items)
    }

    fn string(&mut self) -> Result<String, Problem> {
        let from = self.at;
        if self.peek() != b'"' {
            return Err(Problem::Syntax(from));
        }
        self.at += 1;
        loop {
            match self.peek() {
                b'"' => break,
                b'\\' => self.at += 2,
                0 if self.at >= self.text.len() => return Err(Problem::Syntax(from)),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text
            .get(from..self.at)
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or(Problem::Syntax(from))
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Value, Problem> {
        let from = self.at;
        while matches!(self.peek(), b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.') {
            self.at += 1;
        }
        match self.text.get(from..self.at).unwrap_or_default() {
            "" => Err(Problem::Syntax(from)),
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            number => match number.parse::<i128>() {
                Ok(whole) => Ok(Value::Integer(whole)),
                Err(_) => number.parse().map(Value::Float).map_err(|_| Problem::Syntax(from)),
            },
        }
    }
}
