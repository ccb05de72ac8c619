//! The environment of a child: an allow-list, so that nothing of a person's shell decides how a
//! trial trains, and no secret gets there.

use std::ffi::OsString;

use super::allocator;
use crate::slot::Slot;

/// Variables that pass as they are.
const PASSED: [&str; 4] = ["PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR"];

/// The environment of a child on `slot`, from the agent's own.
#[must_use]
pub fn environment(
    own: impl IntoIterator<Item = (OsString, OsString)>,
    slot: &Slot,
) -> Vec<(OsString, OsString)> {
    let passes = |name: &OsString| {
        name.to_str().is_some_and(|name| {
            let ours = name.starts_with("DEPTUNE_") && !name.starts_with("DEPTUNE_TOKEN");
            ours || PASSED.contains(&name)
        })
    };
    let own: Vec<_> = own.into_iter().collect();
    let allocator = slot.cuda.as_ref().and_then(|_| allocator::settings(&own, slot.sharers));
    let mut all: Vec<_> = own.into_iter().filter(|(name, _)| passes(name)).collect();
    let threads = slot.record.threads.to_string();
    let mut set = |name: &str, value: &str| all.push((name.into(), value.into()));
    set("OMP_NUM_THREADS", &threads);
    set("MKL_NUM_THREADS", &threads);
    // A number of threads that changes by itself changes the order of additions.
    set("MKL_DYNAMIC", "FALSE");
    set("CUDA_VISIBLE_DEVICES", slot.cuda.as_deref().unwrap_or_default());
    if slot.cuda.is_some() {
        // Without it cuBLAS picks workspaces at run time, and sums differ from run to run.
        set("CUBLAS_WORKSPACE_CONFIG", ":4096:8");
    }
    // It changes no number, only where memory comes from and how much.
    all.extend(allocator.map(|value| (allocator::VARIABLE.into(), value)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use deptune_sweep::record::{SlotKind, SlotRecord};

    fn slot(kind: SlotKind, cuda: Option<&str>, sharers: u32) -> Slot {
        let record = SlotRecord {
            slot: 0,
            kind,
            threads: 3,
            device: String::new(),
            max_pack: 1,
            memory: None,
        };
        Slot { record, cuda: cuda.map(str::to_owned), sharers }
    }

    fn child(own: &[(&str, &str)], slot: &Slot) -> Vec<String> {
        let own = own.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        environment(own, slot)
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect()
    }

    #[test]
    fn a_slot_that_shares_a_device_takes_no_more_than_its_part_of_it() {
        let own = [("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")];
        let shared = slot(SlotKind::Cuda, Some("GPU-1"), 2);
        let all = [
            "OMP_NUM_THREADS=3",
            "MKL_NUM_THREADS=3",
            "MKL_DYNAMIC=FALSE",
            "CUDA_VISIBLE_DEVICES=GPU-1",
            "CUBLAS_WORKSPACE_CONFIG=:4096:8",
        ];
        let with = |last: &'static str| [&all[..], &[last]].concat();
        let share = "PYTORCH_ALLOC_CONF=per_process_memory_fraction:0.500000";
        assert_eq!(child(&[], &shared), with(share));
        let both = "PYTORCH_ALLOC_CONF=expandable_segments:True,\
                    per_process_memory_fraction:0.500000";
        assert_eq!(child(&own, &shared), with(both));
        let alone = slot(SlotKind::Cuda, Some("GPU-1"), 1);
        assert_eq!(child(&[], &alone), all);
        assert_eq!(child(&own, &alone), with("PYTORCH_ALLOC_CONF=expandable_segments:True"));
        let cpu = child(&own, &slot(SlotKind::Cpu, None, 1));
        assert!(!cpu.iter().any(|one| one.contains("ALLOC_CONF")), "{cpu:?}");
    }

    #[test]
    fn only_listed_variables_pass() {
        let own = [
            ("PATH", "/bin"),
            ("DEPTUNE_DATA", "/data"),
            ("DEPTUNE_TOKEN", "secret"),
            ("DEPTUNE_TOKEN_FILE", "/secret"),
            ("HF_TOKEN", "secret"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("OMP_NUM_THREADS", "64"),
            ("CUDA_VISIBLE_DEVICES", "0,1"),
        ];
        assert_eq!(
            child(&own, &slot(SlotKind::Cpu, None, 1)),
            [
                "PATH=/bin",
                "DEPTUNE_DATA=/data",
                "OMP_NUM_THREADS=3",
                "MKL_NUM_THREADS=3",
                "MKL_DYNAMIC=FALSE",
                "CUDA_VISIBLE_DEVICES="
            ]
        );
    }
}
