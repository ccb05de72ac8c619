//! What stores work out from records, the same in each.

use deptune_sweep::metric::Number;

/// The training settings in which a sweep's trials differ, besides the columns that every
/// leaderboard has, between commas, as in `,steps,dropout,`; empty when there are none. A form
/// that SQL can search without functions that a client may lack.
pub(super) fn varied_settings(keys: &[&str]) -> String {
    if keys.is_empty() { String::new() } else { format!(",{},", keys.join(",")) }
}

/// The value of the metric called `name`, if it is there.
pub(super) fn selected(metrics: &[(String, Number)], name: &str) -> Option<Number> {
    metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}
