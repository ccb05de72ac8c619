//! How much of its device's memory a child's allocator may take, where slots share the device.

use std::ffi::{OsStr, OsString};

/// libtorch's settings of its allocator: `KEY:VALUE,…`.
pub(super) const VARIABLE: &str = "PYTORCH_ALLOC_CONF";

/// The same under its earlier name, which libtorch reads as well.
const EARLIER: &str = "PYTORCH_CUDA_ALLOC_CONF";

/// The part of a device's memory that a process may take.
const FRACTION: &str = "per_process_memory_fraction";

/// The value of [`VARIABLE`] for one of several slots on a device: what the person
/// has set, and the slot's share unless that says how much. `None` where libtorch's own defaults
/// hold.
pub(super) fn settings(own: &[(OsString, OsString)], sharers: u32) -> Option<OsString> {
    let set = |name: &str| own.iter().find(|(other, _)| other == name).map(|(_, value)| value);
    let set = [VARIABLE, EARLIER].into_iter().find_map(set).filter(|value| !value.is_empty());
    if sharers < 2 || set.is_some_and(|value| names_a_fraction(value)) {
        return set.cloned();
    }
    let mut all = set.cloned().unwrap_or_default();
    if !all.is_empty() && !all.as_encoded_bytes().ends_with(b",") {
        all.push(",");
    }
    // Rounded down, so that the shares are no more than the whole.
    let millionths = 1_000_000 / sharers;
    all.push(format!("{FRACTION}:0.{millionths:06}"));
    Some(all)
}

fn names_a_fraction(value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    let mut keys = value.split(',').filter_map(|one| one.split_once(':'));
    keys.any(|(key, _)| key.trim() == FRACTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: &[(&str, &str)], sharers: u32) -> Option<String> {
        let own: Vec<_> = own.iter().map(|(name, value)| (name.into(), value.into())).collect();
        settings(&own, sharers).map(|value| value.into_string().unwrap())
    }

    #[test]
    fn a_slot_that_shares_its_device_gets_its_part() {
        assert_eq!(of(&[], 1), None);
        assert_eq!(of(&[], 2).unwrap(), "per_process_memory_fraction:0.500000");
        assert_eq!(of(&[], 3).unwrap(), "per_process_memory_fraction:0.333333");
        assert_eq!(of(&[], 1024).unwrap(), "per_process_memory_fraction:0.000976");
    }

    #[test]
    fn what_a_person_has_set_stays_and_wins() {
        let today = ("PYTORCH_ALLOC_CONF", "expandable_segments:True");
        let before = ("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64");
        let share = "per_process_memory_fraction:0.500000";
        assert_eq!(of(&[today], 1).unwrap(), "expandable_segments:True");
        assert_eq!(of(&[today], 2).unwrap(), format!("expandable_segments:True,{share}"));
        assert_eq!(of(&[before], 2).unwrap(), format!("max_split_size_mb:64,{share}"));
        assert_eq!(of(&[before, today], 2).unwrap(), format!("expandable_segments:True,{share}"));
        assert_eq!(of(&[("PYTORCH_ALLOC_CONF", "")], 2).unwrap(), share);
        let open = ("PYTORCH_ALLOC_CONF", "max_split_size_mb:64,");
        assert_eq!(of(&[open], 2).unwrap(), format!("max_split_size_mb:64,{share}"));
        let own = "expandable_segments:True, per_process_memory_fraction:0.7";
        assert_eq!(of(&[("PYTORCH_ALLOC_CONF", own)], 2).unwrap(), own);
    }
}
