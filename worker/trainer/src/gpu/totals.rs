//! Samples of a device, taken together.

/// Most watts that are believed; the coordinator refuses more.
const MOST_WATTS: f64 = 1e6;

/// What a device says at one moment; `None` where it does not.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sample {
    /// Bytes that this process has on it.
    pub(super) process_bytes: Option<u64>,
    /// Bytes in use on it.
    pub(super) device_bytes: Option<u64>,
    /// Fraction of the last moments for which it was busy, 0 to 1.
    pub(super) utilization: Option<f64>,
    /// What it draws.
    pub(super) watts: Option<f64>,
}

/// What a job took of its device until now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Facts {
    /// Most bytes of memory.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Mean fraction of the time for which the device was busy.
    pub(crate) mean_utilization: Option<f64>,
    /// Mean power of the device.
    pub(crate) mean_power_watts: Option<f64>,
}

/// Samples so far.
#[derive(Debug, Default)]
pub(super) struct Totals {
    process_peak: Option<u64>,
    device_peak: Option<u64>,
    utilization: Mean,
    watts: Mean,
}

impl Totals {
    /// Takes in a sample. A number that cannot be is passed over: a result must not be refused for
    /// the sake of it.
    pub(super) fn add(&mut self, sample: &Sample) {
        let stored = |bytes: &u64| i64::try_from(*bytes).is_ok();
        self.process_peak = self.process_peak.max(sample.process_bytes.filter(stored));
        self.device_peak = self.device_peak.max(sample.device_bytes.filter(stored));
        self.utilization.add(sample.utilization.filter(|part| (0.0..=1.0).contains(part)));
        self.watts.add(sample.watts.filter(|watts| (0.0..=MOST_WATTS).contains(watts)));
    }

    /// What they come to. The device's memory counts only if the process was never found: it may
    /// be others' as well, and is, until the process has its first bytes.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            peak_memory_bytes: self.process_peak.or(self.device_peak),
            mean_utilization: self.utilization.get(),
            mean_power_watts: self.watts.get(),
        }
    }
}

#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count = self.count.saturating_add(1);
        }
    }

    fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(samples: &[Sample]) -> Facts {
        let mut totals = Totals::default();
        samples.iter().for_each(|sample| totals.add(sample));
        totals.facts()
    }

    #[test]
    fn peaks_are_the_largest_and_means_are_of_what_was_said() {
        let sample = |process, utilization, watts| Sample {
            process_bytes: process,
            device_bytes: Some(90),
            utilization,
            watts,
        };
        let found = facts(&[
            sample(None, Some(0.0), None),
            sample(Some(7), None, Some(100.0)),
            sample(Some(40), Some(1.0), Some(300.0)),
            sample(Some(20), Some(0.5), None),
        ]);
        let expected = Facts {
            peak_memory_bytes: Some(40),
            mean_utilization: Some(0.5),
            mean_power_watts: Some(200.0),
        };
        assert_eq!(found, expected, "not the 90 bytes, which are others' as well");
    }

    #[test]
    fn a_process_that_is_not_found_counts_as_the_device() {
        let sample = |bytes| Sample { device_bytes: Some(bytes), ..Sample::default() };
        assert_eq!(facts(&[sample(5), sample(60), sample(30)]).peak_memory_bytes, Some(60));
    }

    #[test]
    fn what_is_not_said_or_cannot_be_is_not_known() {
        assert_eq!(facts(&[]), Facts::default());
        assert_eq!(facts(&[Sample::default()]), Facts::default());
        let wrong = Sample {
            process_bytes: Some(u64::MAX),
            device_bytes: Some(u64::MAX - 1),
            utilization: Some(1.5),
            watts: Some(f64::NAN),
        };
        assert_eq!(facts(&[wrong]), Facts::default());
        let right = Sample { utilization: Some(0.25), watts: Some(90.0), ..Sample::default() };
        let found = facts(&[wrong, right]);
        assert_eq!((found.mean_utilization, found.mean_power_watts), (Some(0.25), Some(90.0)));
    }
}
