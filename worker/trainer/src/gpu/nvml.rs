//! NVIDIA's management library, which comes with the driver and is loaded when it is asked.

use std::fmt;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;

use super::totals::Sample;
use super::watch::Source;

/// Why a device cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The process was given no such device.
    #[error("CUDA_VISIBLE_DEVICES names no device with the index {0}")]
    Unnamed(u32),
    /// There is no library, or it finds no driver.
    #[error("NVIDIA's management library (libnvidia-ml.so.1) cannot be used")]
    Library(#[source] NvmlError),
    /// The library does not know the device.
    #[error("NVIDIA's management library finds no device {name}")]
    Device {
        /// What was looked for.
        name: Name,
        /// Why not.
        #[source]
        source: NvmlError,
    },
}

/// How the library is asked for a device: it does not heed `CUDA_VISIBLE_DEVICES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// By its number among all devices of the node.
    Index(u32),
    /// By its UUID, or that of a part of it (MIG).
    Uuid(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Index(index) => write!(f, "{index}"),
            Name::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

impl Name {
    /// The `index`th of the devices that `CUDA_VISIBLE_DEVICES` names; where it is not set, of all.
    fn of(visible: Option<&str>, index: u32) -> Option<Name> {
        let Some(visible) = visible else { return Some(Name::Index(index)) };
        let entry = visible.split(',').nth(usize::try_from(index).ok()?)?.trim();
        match entry.parse() {
            Ok(number) => Some(Name::Index(number)),
            Err(_) => (!entry.is_empty()).then(|| Name::Uuid(entry.to_owned())),
        }
    }
}

/// A device, and this process on it.
pub(super) struct Device {
    nvml: Nvml,
    name: Name,
    process: u32,
}

impl Device {
    /// Finds the `index`th of the devices that `visible` names.
    pub(super) fn open(visible: Option<&str>, index: u32) -> Result<Device, Error> {
        let name = Name::of(visible, index).ok_or(Error::Unnamed(index))?;
        let nvml = Nvml::init().map_err(Error::Library)?;
        let device = Device { nvml, name: name.clone(), process: std::process::id() };
        match device.handle() {
            Ok(_) => Ok(device),
            Err(source) => Err(Error::Device { name, source }),
        }
    }

    fn handle(&self) -> Result<nvml_wrapper::Device<'_>, NvmlError> {
        match &self.name {
            Name::Index(index) => self.nvml.device_by_index(*index),
            Name::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
        }
    }
}

impl Source for Device {
    fn sample(&mut self) -> Sample {
        let Ok(device) = self.handle() else { return Sample::default() };
        // In a container the process may have another number than the driver knows it by.
        let processes = device.running_compute_processes().unwrap_or_default();
        let own = processes.iter().find(|one| one.pid == self.process);
        let process_bytes = own.and_then(|one| match one.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        });
        Sample {
            process_bytes,
            device_bytes: device.memory_info().ok().map(|memory| memory.used),
            // Per cent. Parts of a device (MIG) have neither this nor a power of their own.
            utilization: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
            watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_the_process_sees_them() {
        let uuid = |text: &str| Some(Name::Uuid(text.to_owned()));
        assert_eq!(Name::of(None, 1), Some(Name::Index(1)));
        assert_eq!(Name::of(Some("3"), 0), Some(Name::Index(3)));
        assert_eq!(Name::of(Some("GPU-aaaa-1"), 0), uuid("GPU-aaaa-1"));
        assert_eq!(Name::of(Some("2, MIG-bbbb-1"), 1), uuid("MIG-bbbb-1"));
        assert_eq!(Name::of(Some("GPU-aaaa-1"), 1), None);
        assert_eq!(Name::of(Some(""), 0), None);
    }
}
