//! Suggestions for misspelt names.

/// The candidate nearest to `name`, if one is near enough to be meant.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Jaro-Winkler favours a common beginning, as misspelt names have; 0.8 keeps 'txt' for 'text'
    // and drops what merely shares letters.
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate)
        })
        .filter(|(similarity, _)| *similarity >= 0.8)
        // `max_by` would take the last of ties; the first is the more usual name.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

/// `", did you mean 'x'?"`, or nothing.
#[must_use]
pub fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!(", did you mean '{name}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_only() {
        assert_eq!(suggest("txt", ["sentence", "text", "label"]), Some("text"));
        assert_eq!(suggest("sst-2", ["rte", "sst2", "stsb"]), Some("sst2"));
        assert_eq!(suggest("review", ["id", "score"]), None);
        assert_eq!(did_you_mean(Some("text")), ", did you mean 'text'?");
        assert_eq!(did_you_mean(None), "");
    }
}
