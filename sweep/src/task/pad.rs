//! The form in which T5 reads questions, contexts and answers.

use std::sync::LazyLock;

use regex::Regex;

use super::Recipe;

#[allow(clippy::unwrap_used, reason = "constants that the tests below read")]
static MARK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[^_\s\p{N}\p{L}\p{M}]").unwrap());
#[allow(clippy::unwrap_used, reason = "constants that the tests below read")]
static SPACES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\s+").unwrap());

/// Puts a space around each character that is no letter, digit, accent, underscore or space, and
/// squeezes spaces. The authors' pieces keep a space at their ends where punctuation stands there
/// ("who?" becomes "who ? "), so that two spaces follow between pieces; the default has none.
pub(super) fn pad_punctuation(text: &str, recipe: Recipe) -> String {
    let padded = MARK.replace_all(text, " $0 ");
    let padded = SPACES.replace_all(&padded, " ");
    match recipe {
        Recipe::Default => padded.trim().to_owned(),
        Recipe::Reference => padded.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_apart() {
        let pad = |text| {
            (pad_punctuation(text, Recipe::Reference), pad_punctuation(text, Recipe::Default))
        };
        let one = |text: &str| text.to_owned();
        assert_eq!(
            pad("François isn't here?"),
            (one("François isn ' t here ? "), one("François isn ' t here ?"))
        );
        assert_eq!(pad("a_b  c\td 3.5%").0, "a_b c d 3 . 5 % ");
        // A combining accent belongs to its letter.
        assert_eq!(pad("e\u{301}t").0, "e\u{301}t");
    }
}
