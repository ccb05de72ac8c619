//! What a job takes of a CUDA device. The driver is asked once a second, from the job's start to
//! its end, by a thread beside the training.

mod nvml;
mod totals;
mod watch;

use std::time::Duration;

pub(crate) use totals::Facts;
pub(crate) use watch::Watch;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// Watches what this process does on the `index`th of the devices that it can see.
pub(crate) fn watch(index: u32) -> Watch {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    Watch::start(move || nvml::Device::open(visible.as_deref(), index), PERIOD)
}
