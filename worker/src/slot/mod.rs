//! Slots: what the agent may compute with, taken from what the process was given (affinity,
//! cgroup, Slurm, `CUDA_VISIBLE_DEVICES`) and never from the whole node.

mod cgroup;
mod cpu;
mod cuda;
mod memory;

use std::path::Path;

use deptune_sweep::child::Device;
use deptune_sweep::record::{SlotKind, SlotRecord};

use crate::Error;
use crate::options::{CPU_PACK, CUDA_PACK, DeviceChoice, SlotOptions};

/// Most slots of one worker.
const MAX_SLOTS: u32 = 1024;

/// Longest device name that goes over the wire, in bytes.
const MAX_DEVICE: usize = 100;

/// Something that runs one pack at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What the coordinator is told.
    pub record: SlotRecord,
    /// The value of `CUDA_VISIBLE_DEVICES` for its children; `None` on the CPU.
    pub cuda: Option<String>,
    /// Slots of this worker that compute on its device, itself included; 1 on the CPU.
    pub sharers: u32,
}

impl Slot {
    /// The device as its children see it.
    #[must_use]
    pub fn device(&self) -> Device {
        if self.cuda.is_some() { Device::Cuda { index: 0 } } else { Device::Cpu }
    }
}

/// Finds the slots. CUDA devices count only when the trainer's libtorch can use them. Blocks for
/// as long as `nvidia-smi` and the trainer take.
///
/// # Errors
/// When the options ask for devices that are not there, or for no slot or thread at all.
pub fn discover(options: &SlotOptions, trainer: &Path) -> Result<Vec<Slot>, Error> {
    let cpus = cpu::available();
    let mut gpus = match options.device {
        DeviceChoice::Cpu => Vec::new(),
        DeviceChoice::Auto | DeviceChoice::Cuda => cuda::devices(),
    };
    if !gpus.is_empty() && cuda::usable_by(trainer).unwrap_or(0) == 0 {
        let reason = "the trainer's libtorch cannot use this node's CUDA devices; build with \
                      `make libtorch CUDA=1`, or install a driver for CUDA 13";
        if options.device == DeviceChoice::Cuda {
            return Err(Error::Options(format!("{reason}; or use --device cpu")));
        }
        tracing::warn!(devices = gpus.len(), "{reason}; using the CPU");
        gpus.clear();
    }
    if options.device == DeviceChoice::Cuda && gpus.is_empty() {
        return Err(Error::Options(
            "no CUDA device is visible to this process; check `nvidia-smi -L` and \
             CUDA_VISIBLE_DEVICES, or use --device cpu"
                .to_owned(),
        ));
    }
    let cpu = Cpu { count: cpus, name: cpu::name(), memory: memory::available() };
    divide(options, &cpu, &gpus)
}

/// What the process was given apart from CUDA devices.
struct Cpu {
    count: u32,
    name: String,
    /// Bytes, where that is known.
    memory: Option<u64>,
}

fn divide(options: &SlotOptions, cpu: &Cpu, gpus: &[cuda::Gpu]) -> Result<Vec<Slot>, Error> {
    let cpus = cpu.count;
    for (name, value) in [("--slots", options.slots), ("--threads", options.threads)] {
        if value.is_some_and(|v| v == 0 || v > MAX_SLOTS) {
            return Err(Error::Options(format!("{name} must be from 1 to {MAX_SLOTS}")));
        }
    }
    if gpus.is_empty() {
        let threads = match (options.threads, options.slots) {
            (Some(threads), _) => threads,
            (None, Some(slots)) => (cpus / slots).max(1),
            (None, None) if cpus <= 4 => 1,
            (None, None) => 4,
        };
        let count = options.slots.unwrap_or((cpus / threads).clamp(1, MAX_SLOTS));
        let memory = cpu.memory.map(|bytes| bytes / u64::from(count));
        let cpu_slot = |slot| Slot {
            record: SlotRecord {
                slot,
                kind: SlotKind::Cpu,
                threads,
                device: short(&cpu.name),
                max_pack: options.max_pack.unwrap_or(CPU_PACK),
                memory,
            },
            cuda: None,
            sharers: 1,
        };
        return Ok((0..count).map(cpu_slot).collect());
    }
    let most = u32::try_from(gpus.len()).unwrap_or(MAX_SLOTS);
    // More slots than devices share them, one after the other.
    let count = options.slots.unwrap_or(most);
    let threads = options.threads.unwrap_or((cpus / count).max(1));
    let gpu_slot = |(slot, gpu): (u32, &cuda::Gpu)| {
        let sharers = sharers(slot, count, most);
        Slot {
            record: SlotRecord {
                slot,
                kind: SlotKind::Cuda,
                threads,
                device: short(&gpu.name),
                max_pack: options.max_pack.unwrap_or(CUDA_PACK),
                memory: gpu.memory.map(|bytes| bytes / u64::from(sharers)),
            },
            cuda: Some(gpu.id.clone()),
            sharers,
        }
    };
    Ok((0..count).zip(gpus.iter().cycle()).map(gpu_slot).collect())
}

/// Of `count` slots over `gpus` devices, those that have the same device as `slot`.
fn sharers(slot: u32, count: u32, gpus: u32) -> u32 {
    let first = slot % gpus;
    count.saturating_sub(first).div_ceil(gpus).max(1)
}

fn short(name: &str) -> String {
    let mut end = name.len().min(MAX_DEVICE);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(count: u32) -> Cpu {
        Cpu { count, name: "a CPU".to_owned(), memory: Some(100) }
    }

    fn shapes(options: SlotOptions, cpus: u32, gpus: usize) -> Vec<(u32, Option<String>)> {
        let gpus: Vec<_> = (0..gpus)
            .map(|i| cuda::Gpu {
                id: format!("GPU-{i}"),
                name: "a GPU".to_owned(),
                memory: Some(80),
            })
            .collect();
        let slots = divide(&options, &cpu(cpus), &gpus).unwrap();
        slots.into_iter().map(|s| (s.record.threads, s.cuda)).collect()
    }

    #[test]
    fn slots_know_with_how_many_they_share_a_device() {
        let of = |count, gpus| (0..count).map(|s| sharers(s, count, gpus)).collect::<Vec<_>>();
        assert_eq!(of(2, 1), [2, 2]);
        assert_eq!(of(3, 2), [2, 1, 2]);
        assert_eq!(of(5, 2), [3, 2, 3, 2, 3]);
        assert_eq!(of(2, 4), [1, 1]);
    }

    #[test]
    fn cpus_are_divided_by_threads() {
        let auto = SlotOptions::default();
        assert_eq!(shapes(auto, 2, 0), vec![(1, None); 2]);
        assert_eq!(shapes(auto, 4, 0), vec![(1, None); 4]);
        assert_eq!(shapes(auto, 18, 0), vec![(4, None); 4]);
        let threads = SlotOptions { threads: Some(8), ..auto };
        assert_eq!(shapes(threads, 4, 0), vec![(8, None)]);
        let slots = SlotOptions { slots: Some(3), ..auto };
        assert_eq!(shapes(slots, 12, 0), vec![(4, None); 3]);
    }

    #[test]
    fn every_gpu_is_a_slot_and_shared_when_asked() {
        let auto = SlotOptions::default();
        let gpu = |i: u32| Some(format!("GPU-{i}"));
        assert_eq!(shapes(auto, 16, 2), vec![(8, gpu(0)), (8, gpu(1))]);
        let four = SlotOptions { slots: Some(4), ..auto };
        assert_eq!(shapes(four, 16, 2), [0, 1, 0, 1].map(|i| (4, gpu(i))));
    }

    #[test]
    fn slots_share_the_memory_and_say_how_large_packs_may_be() {
        let auto = SlotOptions::default();
        let told = |options, gpus: &[cuda::Gpu]| {
            let slots = divide(&options, &cpu(4), gpus).unwrap();
            slots.into_iter().map(|s| (s.record.max_pack, s.record.memory)).collect::<Vec<_>>()
        };
        assert_eq!(told(auto, &[]), vec![(CPU_PACK, Some(25)); 4]);
        let gpu = |memory| cuda::Gpu { id: "GPU-0".into(), name: "a GPU".into(), memory };
        let shared = SlotOptions { slots: Some(2), max_pack: Some(3), ..auto };
        assert_eq!(told(shared, &[gpu(Some(80))]), vec![(3, Some(40)); 2]);
        // Of three slots on two devices, one has a device for itself.
        let three = SlotOptions { slots: Some(3), ..shared };
        let shares = [40, 80, 40].map(|bytes| (3, Some(bytes)));
        assert_eq!(told(three, &[gpu(Some(80)), gpu(Some(80))]), shares);
        assert_eq!(told(auto, &[gpu(None)]), vec![(CUDA_PACK, None)]);
    }

    #[test]
    fn no_slots_is_an_error() {
        let none = SlotOptions { slots: Some(0), ..SlotOptions::default() };
        assert!(divide(&none, &cpu(2), &[]).is_err());
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(short(&"é".repeat(80)).len(), 100);
        assert_eq!(short("x"), "x");
    }
}
