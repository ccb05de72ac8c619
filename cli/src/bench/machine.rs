//! What the machine is and does, for the figures beside a benchmark's own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

/// Clock ticks of /proc per second: the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// Syncs that the time of one is the median of.
const SYNCS: usize = 50;

/// The machine at one moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) processors: usize,
    /// The widest vector instructions: `avx2`, `avx512f`, `amx_bf16`; empty if none is known.
    pub(crate) instructions: &'static str,
    /// Load average over one minute.
    pub(crate) load: f64,
    /// Milliseconds that appending 4 KiB and syncing them takes in the benchmark's directory,
    /// median.
    pub(crate) fsync_ms: f64,
}

impl Machine {
    /// Looks at the machine, and measures the disk of `directory`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(crate) fn look(directory: &Path) -> io::Result<Machine> {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = |name: &str| {
            let found = text.lines().find(|line| line.starts_with(name));
            found.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        let flags = line("flags");
        let has = |flag: &&str| flags.split_whitespace().any(|known| known == *flag);
        Ok(Machine {
            cpu: line("model name").to_owned(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            instructions: ["amx_bf16", "avx512f", "avx2"].into_iter().find(has).unwrap_or(""),
            load: load().unwrap_or(f64::NAN),
            fsync_ms: fsync(directory)?,
        })
    }
}

/// Load average over one minute.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn fsync(directory: &Path) -> io::Result<f64> {
    let path = directory.join("fsync");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    fs::remove_file(&path)?;
    times.sort_by(f64::total_cmp);
    Ok(times[SYNCS / 2])
}

/// Processor seconds that a process has used, its threads included.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// Bytes that a process has had written to disks.
pub(crate) fn written_bytes(pid: u32) -> Option<u64> {
    labelled(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// Bytes of memory that a process has, and had at most.
pub(crate) fn memory_bytes(pid: u32) -> Option<(u64, u64)> {
    let status = format!("/proc/{pid}/status");
    Some((labelled(&status, "VmRSS:")? * 1024, labelled(&status, "VmHWM:")? * 1024))
}

fn labelled(path: &str, label: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_looked_at() {
        let own = std::process::id();
        assert!(cpu_seconds(own).is_some() && written_bytes(own).is_some());
        let (now, most) = memory_bytes(own).unwrap();
        assert!(0 < now && now <= most);
        let machine = Machine::look(&std::env::temp_dir()).unwrap();
        assert!(machine.fsync_ms > 0.0 && machine.load >= 0.0 && machine.processors > 0);
    }
}
