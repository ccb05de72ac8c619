//! Problems in a spec: what, where, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a text, for people: both numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl Position {
    /// The position of the byte at `offset` of `text`; an offset beyond the end, or within a
    /// character, is rounded down.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Position {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: count(before.bytes().filter(|b| *b == b'\n').count() + 1),
            column: count(before[line_start..].chars().count() + 1),
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The key it is about, from the top, as in `space.rank`; empty for the whole text.
    pub path: String,
    /// Where that key or value stands; `None` when the text has no such place.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Every problem that was found, in the order of the text. Never empty as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// The problems one block each, as `FILE:LINE:COLUMN: message` with the hint on the next
    /// line.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let blocks: Vec<String> = self.0.iter().map(|one| one.render(file)).collect();
        blocks.join("\n")
    }
}

impl Diagnostic {
    /// One block: `FILE:LINE:COLUMN: message`, and the hint on the next line.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let mut block = file.to_owned();
        if let Some(position) = self.position {
            block.push_str(&format!(":{position}"));
        }
        block.push_str(&format!(": {}", self.message));
        if let Some(hint) = &self.hint {
            block.push_str(&format!("\n  hint: {hint}"));
        }
        block
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render("spec"))
    }
}

impl std::error::Error for Diagnostics {}

/// Longest word that is compared with the candidates; the comparison takes time in proportion.
const MAX_WORD: usize = 64;

/// The candidate that `word` most likely means, if any is near enough.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| {
            let longest = word.chars().count().max(candidate.chars().count());
            *distance <= 1 + longest / 4
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nbé c\n";
        assert_eq!(Position::of(text, 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of(text, 2), Position { line: 2, column: 1 });
        assert_eq!(Position::of(text, 5), Position { line: 2, column: 3 });
        assert_eq!(Position::of(text, 4), Position { line: 2, column: 2 });
        assert_eq!(Position::of(text, 99), Position { line: 3, column: 1 });
    }

    #[test]
    fn a_block_names_file_line_column_and_hint() {
        let problem = Diagnostic {
            path: "space.promt_lr".to_owned(),
            position: Some(Position { line: 14, column: 1 }),
            message: "unknown key 'promt_lr' in [space]".to_owned(),
            hint: Some("did you mean 'prompt_lr'?".to_owned()),
        };
        assert_eq!(
            Diagnostics(vec![problem]).render("sweep.toml"),
            "sweep.toml:14:1: unknown key 'promt_lr' in [space]\n  hint: did you mean 'prompt_lr'?"
        );
    }

    #[test]
    fn only_near_words_are_suggested() {
        assert_eq!(nearest("promt_lr", ["prompt_lr", "rank"]), Some("prompt_lr"));
        assert_eq!(nearest("RANK", ["prompt_lr", "rank"]), Some("rank"));
        assert_eq!(nearest("zzz", ["prompt_lr", "rank"]), None);
    }
}
