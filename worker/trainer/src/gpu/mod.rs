//! What a job takes of a CUDA device. The driver is asked once a second, from the job's start to
//! its end, by a thread beside the training.

mod nvml;
mod totals;
mod watch;

use std::time::Duration;

use deptune_sweep::child::Device;

use crate::memory;

pub(crate) use totals::Facts;
pub(crate) use watch::Watch;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// Watches what this process does on a CUDA device; `None` on the CPU.
pub(crate) fn watch(device: &Device) -> Option<Watch> {
    let &Device::Cuda { index } = device else { return None };
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    Some(Watch::start(move || nvml::Device::open(visible.as_deref(), index), PERIOD))
}

/// What this process took of where it computes, until now.
pub(crate) fn took(watch: Option<&Watch>) -> Facts {
    match watch {
        Some(watch) => watch.facts(),
        None => Facts { peak_memory_bytes: memory::peak_bytes(), ..Facts::default() },
    }
}
