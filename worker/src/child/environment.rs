//! The environment of a child: an allow-list, so that nothing of a person's shell decides how a
//! trial trains, and no secret gets there.

use std::ffi::OsString;

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
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use deptune_sweep::record::{SlotKind, SlotRecord};

    #[test]
    fn only_listed_variables_pass() {
        let record = SlotRecord {
            slot: 0,
            kind: SlotKind::Cpu,
            threads: 3,
            device: String::new(),
            max_pack: 1,
            memory: None,
        };
        let slot = Slot { record, cuda: None };
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
        let own = own.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let child = environment(own, &slot);
        let text: Vec<String> = child
            .iter()
            .map(|(n, v)| format!("{}={}", n.to_string_lossy(), v.to_string_lossy()))
            .collect();
        assert_eq!(
            text,
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
