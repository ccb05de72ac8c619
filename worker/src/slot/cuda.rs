//! Which CUDA devices the process was given.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longest wait for a program that looks at devices: `nvidia-smi` hangs when one has fallen off
/// the bus.
const PATIENCE: Duration = Duration::from_secs(20);

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gpu {
    /// Its value for `CUDA_VISIBLE_DEVICES`.
    pub(super) id: String,
    /// For people.
    pub(super) name: String,
    /// Bytes of its memory; not known of the parts of a divided device.
    pub(super) memory: Option<u64>,
}

/// The visible devices; none where there is no driver.
pub(super) fn devices() -> Vec<Gpu> {
    let allowed = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    // Slurm names the devices of a job that asked for any; a job that did not has none, even on a
    // node where they can be seen.
    if allowed.is_none() && std::env::var_os("SLURM_JOB_ID").is_some() {
        return Vec::new();
    }
    let listed = listing().map(|text| parse(&text)).unwrap_or_default();
    let mut visible = select(&listed, allowed.as_deref());
    if !visible.is_empty() {
        let sizes = memory().unwrap_or_default();
        for gpu in &mut visible {
            gpu.memory = size(&sizes, &gpu.id);
        }
    }
    if visible.is_empty() && allowed.as_deref().is_some_and(|a| !a.is_empty() && a != "-1") {
        tracing::warn!(
            allowed,
            "CUDA_VISIBLE_DEVICES names devices that nvidia-smi does not list; using the CPU"
        );
    }
    visible
}

fn listing() -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    command.arg("-L");
    output(command)
}

fn memory() -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"]);
    output(command)
}

/// Bytes of a device's memory, of a listing in MiB: `GPU-…, 143771`.
fn size(listing: &str, id: &str) -> Option<u64> {
    let mut lines = listing.lines().filter_map(|line| line.split_once(','));
    let (_, mebibytes) = lines.find(|(uuid, _)| uuid.trim() == id)?;
    mebibytes.trim().parse::<u64>().ok()?.checked_mul(1 << 20)
}

/// CUDA devices that a trainer's libtorch can use; `None` when it does not say.
pub(super) fn usable_by(trainer: &Path) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Devices {
        cuda: u32,
    }
    let mut command = Command::new(trainer);
    command.arg("devices");
    serde_json::from_str::<Devices>(output(command)?.trim()).ok().map(|devices| devices.cuda)
}

/// What a command prints, if it ends well and in time.
fn output(mut command: Command) -> Option<String> {
    let mut child =
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped()).spawn().ok()?;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.take(1 << 20).read_to_string(&mut text);
        let _ = sender.send(read.ok().map(|_| text));
    });
    let text = receiver.recv_timeout(PATIENCE).ok().flatten();
    if text.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    text.filter(|_| status.success())
}

/// Reads `nvidia-smi -L`: `GPU 0: NVIDIA H200 (UUID: GPU-…)`, followed by its MIG parts, if any.
fn parse(text: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let (before, rest) = line.trim().split_once("(UUID: ")?;
        let id = rest.strip_suffix(')')?;
        let name = before.split_once(": ").map_or(before, |(_, name)| name).trim();
        let name = if id.starts_with("MIG-") { before.trim() } else { name };
        Some(Gpu { id: id.to_owned(), name: format!("{name} {id}"), memory: None })
    };
    text.lines().filter_map(gpu).collect()
}

/// The devices that `CUDA_VISIBLE_DEVICES` allows: by index among the whole devices, or by (a
/// prefix of) the UUID; whatever follows an unknown entry is not visible, as in CUDA itself.
fn select(listed: &[Gpu], allowed: Option<&str>) -> Vec<Gpu> {
    let whole: Vec<&Gpu> = listed.iter().filter(|g| g.id.starts_with("GPU-")).collect();
    let Some(allowed) = allowed else { return whole.into_iter().cloned().collect() };
    let find = |entry: &str| match entry.trim().parse::<usize>() {
        Ok(index) => whole.get(index).copied(),
        Err(_) if entry.trim().is_empty() => None,
        Err(_) => listed.iter().find(|g| g.id.starts_with(entry.trim())),
    };
    allowed.split(',').map_while(find).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "GPU 0: NVIDIA H200 (UUID: GPU-aaaa-1)\n\
        \x20 MIG 1g.18gb     Device  0: (UUID: MIG-bbbb-1)\n\
        GPU 1: NVIDIA H200 (UUID: GPU-cccc-2)\n";

    fn ids(allowed: Option<&str>) -> Vec<String> {
        select(&parse(LISTING), allowed).into_iter().map(|g| g.id).collect()
    }

    #[test]
    fn devices_are_chosen_as_cuda_chooses_them() {
        assert_eq!(ids(None), ["GPU-aaaa-1", "GPU-cccc-2"]);
        assert_eq!(ids(Some("1")), ["GPU-cccc-2"]);
        assert_eq!(ids(Some("GPU-cc,0")), ["GPU-cccc-2", "GPU-aaaa-1"]);
        assert_eq!(ids(Some("MIG-bbbb")), ["MIG-bbbb-1"]);
        assert_eq!(ids(Some("0,7,1")), ["GPU-aaaa-1"]);
        assert!(ids(Some("")).is_empty());
        assert!(ids(Some("-1")).is_empty());
    }

    #[test]
    fn memory_is_found_by_id() {
        let listing = "GPU-aaaa-1, 143771\nGPU-cccc-2, [N/A]\n";
        assert_eq!(size(listing, "GPU-aaaa-1"), Some(143_771 << 20));
        assert_eq!(size(listing, "GPU-cccc-2"), None);
        assert_eq!(size(listing, "MIG-bbbb-1"), None);
    }

    #[test]
    fn names_are_for_people() {
        assert_eq!(parse(LISTING)[0].name, "NVIDIA H200 GPU-aaaa-1");
        assert!(parse("No devices found.\n").is_empty());
    }
}
