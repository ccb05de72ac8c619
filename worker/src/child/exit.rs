//! How a child ended, in words and as a class.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use deptune_sweep::outcome::FailureClass;
use nix::sys::signal::Signal;

/// Number of processes that the kernel killed for want of memory in this process's cgroup, which
/// the children share.
pub(super) fn oom_kills() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    let dir = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let events = fs::read_to_string(dir.join("memory.events")).ok()?;
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// What an exit means for trials without a result.
pub(super) fn describe(
    status: ExitStatus,
    killed_by_us: bool,
    out_of_memory: bool,
    last_words: &str,
) -> (FailureClass, String) {
    let (class, how) = match (status.code(), status.signal()) {
        (Some(code), _) => {
            (FailureClass::Crashed, format!("exited with code {code} and no result"))
        }
        (None, Some(9)) if out_of_memory => (
            FailureClass::Oom,
            "was killed by the kernel because the memory of this worker's cgroup is used up"
                .to_owned(),
        ),
        (None, Some(9)) if !killed_by_us => (
            FailureClass::Crashed,
            "was killed by signal 9 (SIGKILL), not by this worker; often that is the kernel's \
             out-of-memory killer, see dmesg"
                .to_owned(),
        ),
        (None, signal) => {
            let number = signal.unwrap_or_default();
            let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
            (FailureClass::Crashed, format!("was killed by signal {number} ({name})"))
        }
    };
    let mut message = format!("the trainer {how}");
    if !last_words.is_empty() {
        message.push_str("; last line of its log: ");
        message.push_str(last_words);
    }
    (class, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_words_and_a_class() {
        let say = |raw, ours, oom, last: &str| describe(ExitStatus::from_raw(raw), ours, oom, last);
        let (class, message) = say(3 << 8, false, false, "no such file");
        assert_eq!(class, FailureClass::Crashed);
        assert_eq!(
            message,
            "the trainer exited with code 3 and no result; last line of its log: no such file"
        );
        assert!(say(6, false, false, "").1.contains("signal 6 (SIGABRT)"));
        assert!(say(9, false, false, "").1.contains("out-of-memory killer"));
        assert!(!say(9, true, false, "").1.contains("out-of-memory killer"));
        assert_eq!(say(9, false, true, "").0, FailureClass::Oom);
    }
}
