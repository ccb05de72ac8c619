//! A program that runs beside the test.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::finished::Finished;
use crate::wait::{PATIENCE, until};

/// How long it takes at most until what a process said is heard.
const HEARD: Duration = Duration::from_secs(1);

/// How much of a program's log is shown when a test fails.
const TAIL: usize = 6_000;

/// A running program with its output in files. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    command: String,
    child: Child,
    status: Option<ExitStatus>,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes to `NAME.out` and `NAME.err` in `logs`.
    pub fn start(command: &mut Command, name: &str, logs: &Path) -> Process {
        // Never over the log of an earlier one.
        let free = |n: &u32| !logs.join(format!("{name}.{n}.err")).exists();
        let number = (1..).find(free).expect("a free name");
        let name = format!("{name}.{number}");
        let (out, err) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { name, command: shown(command), child, status: None, out, err }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it started itself and that are still there.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        let tasks = format!("/proc/{}/task", self.pid());
        let Ok(tasks) = fs::read_dir(tasks) else { return Vec::new() };
        tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
            .flat_map(|pids| {
                pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
            })
            .collect()
    }

    /// Lets a process that it started stand still (SIGSTOP), and waits until what that had said is
    /// heard: what is seen then stays so. `None`: there is none.
    #[must_use]
    pub fn freeze_child(&self) -> Option<Pid> {
        let child = Pid::from_raw(i32::try_from(*self.children().first()?).ok()?);
        kill(child, Signal::SIGSTOP).ok()?;
        std::thread::sleep(HEARD);
        Some(child)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status.is_none()
    }

    /// The signal that ended it, if one did.
    pub fn ended_by(&mut self) -> Option<Signal> {
        let signal = if self.is_running() { None } else { self.status?.signal() };
        signal.and_then(|number| Signal::try_from(number).ok())
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        if self.is_running() {
            self.child.kill().unwrap();
            self.status = Some(self.child.wait().unwrap());
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for its end; fails the test when it takes longer than `timeout`.
    #[track_caller]
    pub fn wait(mut self, timeout: Duration) -> Finished {
        let what = format!("'{}' ends", self.command);
        until(&what, timeout, || (!self.is_running()).then_some(()));
        let status = self.status.expect("it has ended");
        assert!(
            status.signal().is_none(),
            "{} ended by signal {:?}\n{}",
            self.command,
            status.signal(),
            self.stderr()
        );
        Finished {
            command: self.command.clone(),
            code: status.code(),
            stdout: fs::read_to_string(&self.out).unwrap(),
            stderr: self.stderr(),
        }
    }

    /// Waits until standard error holds `text`; fails the test when the program ends before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let what = format!("{} says '{text}'", self.name);
        until(&what, PATIENCE, || {
            let running = self.is_running();
            let said = self.stderr().contains(text);
            assert!(running || said, "{} ended early:\n{}", self.command, self.stderr());
            said.then_some(())
        });
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap_or_default()).into_owned()
    }
}

/// A command line for messages, without the environment.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let log = self.stderr();
        if std::thread::panicking() {
            let mut start = log.len().saturating_sub(TAIL);
            while !log.is_char_boundary(start) {
                start += 1;
            }
            eprintln!("--- {} ({})\n{}", self.name, self.command, &log[start..]);
        } else {
            assert!(!log.contains("panicked"), "{} panicked:\n{log}", self.command);
        }
    }
}
