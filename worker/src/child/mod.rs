//! A trainer child: one process per pack, in a session of its own, that cannot outlive the agent
//! and cannot harm it, whatever it writes and however it ends.
//!
//! Everything here is threads and blocking IO: a child has a thread that feeds it its job and
//! waits for its end, one that reads its messages and one that copies its log. Messages go out
//! through a bounded channel, so a child that talks faster than the agent listens is held up by
//! its own pipe.

mod allocator;
mod environment;
mod exit;
mod group;
mod lines;
mod log;
mod messages;
mod spawner;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ChildStdin, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use deptune_sweep::child::{Job, MAX_LINE, Message, Order};
use deptune_sweep::outcome::FailureClass;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::sync::mpsc::Sender;

pub use environment::environment;
pub use log::MAX_LOG;
pub use spawner::Spawner;

use group::Group;

/// How long to wait for the pipes of a child that has ended. They stay open only when a
/// descendant left the process group and holds them.
const PIPE_PATIENCE: Duration = Duration::from_secs(2);

/// A child to be spawned.
#[derive(Debug)]
pub struct Launch {
    /// The trainer.
    pub program: PathBuf,
    /// All of its environment; see [`environment`].
    pub environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// The attempt's directory: working directory, and home of the log.
    pub dir: PathBuf,
    /// What it is to do.
    pub job: Job,
}

/// What comes from a child. [`Output::Exited`] is the last.
#[derive(Debug)]
pub enum Output {
    /// It says something.
    Message(Box<Message>),
    /// It and its whole process group are gone.
    Exited {
        /// What that means for members without a result.
        class: FailureClass,
        /// The same in words.
        message: String,
    },
}

/// Why a child could not be spawned.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The job is longer than the protocol allows.
    #[error("the job of the pack has {0} bytes, at most {MAX_LINE} are accepted")]
    JobTooLong(usize),
    /// The job cannot be written as JSON.
    #[error("the job cannot be written as JSON")]
    Job(#[source] serde_json::Error),
    /// The log cannot be created.
    #[error("cannot create {}", path.display())]
    Log {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The process cannot be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// What.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A pipe or a thread for it cannot be had.
    #[error("cannot attend to a child")]
    Attend(#[source] std::io::Error),
}

/// A running child. Dropping it does not stop the process.
#[derive(Debug, Clone)]
pub struct Child {
    group: Arc<Group>,
    orders: mpsc::Sender<Order>,
}

impl Child {
    /// Spawns a child and attends to it until its end. Blocks briefly.
    ///
    /// # Errors
    /// When it cannot be started; then nothing is sent to `outputs`.
    pub fn spawn(
        spawner: &Spawner,
        launch: Launch,
        outputs: Sender<Output>,
    ) -> Result<Child, SpawnError> {
        let mut line = serde_json::to_vec(&launch.job).map_err(SpawnError::Job)?;
        line.push(b'\n');
        if line.len() > MAX_LINE {
            return Err(SpawnError::JobTooLong(line.len()));
        }
        let path = launch.dir.join("log");
        let log = File::create(&path).map_err(|source| SpawnError::Log { path, source })?;
        let Launch { program, environment, dir, job } = launch;
        let started = spawner.spawn(program.clone(), environment, dir);
        let mut process = started.map_err(|source| SpawnError::Start { program, source })?;
        let missing = || SpawnError::Attend(std::io::Error::other("a pipe is missing"));
        let stdin = process.stdin.take().ok_or_else(missing)?;
        let stdout = process.stdout.take().ok_or_else(missing)?;
        let stderr = process.stderr.take().ok_or_else(missing)?;
        let leader = Pid::from_raw(i32::try_from(process.id()).map_err(|_| missing())?);
        let group = Group::new(leader);
        let (orders, ordered) = mpsc::channel();
        let child = Child { group: Arc::clone(&group), orders };
        thread("deptune-orders", &group, move || feed(stdin, &line, &ordered))?;

        let (said, faults) = mpsc::channel();
        let (sender, reader_group) = (outputs.clone(), Arc::clone(&group));
        thread("deptune-messages", &group, move || {
            let fault = messages::forward(stdout, &job, &sender);
            if fault.is_some() {
                // Whatever it says next, nobody listens: it may be in the middle of a flood.
                reader_group.kill();
            }
            let _ = said.send(fault);
        })?;
        let (copied, words) = mpsc::channel();
        thread("deptune-log", &group, move || {
            let _ = copied.send(log::copy(stderr, log));
        })?;
        let oom_before = exit::oom_kills();
        thread("deptune-wait", &Arc::clone(&group), move || {
            let killed = await_exit(leader, &group);
            let status = group.bury(|| process.wait());
            let fault = received(faults.recv_timeout(PIPE_PATIENCE));
            let last_words = received(words.recv_timeout(PIPE_PATIENCE)).unwrap_or_default();
            let starved = exit::oom_kills() > oom_before;
            let end = conclude(status, fault.flatten(), killed, starved, &last_words);
            let (class, message) = end;
            let _ = outputs.blocking_send(Output::Exited { class, message });
        })?;
        Ok(child)
    }

    /// Tells it something while it runs; one that has ended does not hear it.
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// Asks it to checkpoint and exit: SIGTERM to its process group.
    pub fn ask(&self) {
        self.group.ask();
    }

    /// Ends it and everything it started: SIGTERM, five seconds, SIGKILL.
    pub fn end(&self) {
        self.group.end();
    }

    /// Kills it and everything it started.
    pub fn kill(&self) {
        self.group.kill();
    }
}

/// Starts a thread for a child; a child that cannot be attended to is killed.
fn thread(
    name: &str,
    group: &Group,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), SpawnError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|error| {
        group.kill();
        SpawnError::Attend(error)
    })
}

/// Writes the job, then the orders until the child or whoever gives them is gone.
fn feed(mut stdin: ChildStdin, job: &[u8], orders: &mpsc::Receiver<Order>) {
    // A child that does not read its job says so by its exit.
    if stdin.write_all(job).is_err() {
        return;
    }
    while let Ok(order) = orders.recv() {
        let Ok(mut line) = serde_json::to_vec(&order) else { return };
        line.push(b'\n');
        if stdin.write_all(&line).is_err() {
            return;
        }
    }
}

/// Waits until the leader has exited, without reaping it: until then its number, and with it the
/// group's, cannot be given to anybody else. Returns whether we had killed it.
fn await_exit(leader: Pid, group: &Group) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(leader), flags) {}
    group.was_killed()
}

fn received<T>(result: Result<T, RecvTimeoutError>) -> Option<T> {
    result.ok()
}

fn conclude(
    status: std::io::Result<ExitStatus>,
    fault: Option<String>,
    killed: bool,
    starved: bool,
    last_words: &str,
) -> (FailureClass, String) {
    match (status, fault) {
        (_, Some(fault)) => {
            (FailureClass::Crashed, format!("the trainer was killed because {fault}"))
        }
        (Ok(status), None) => exit::describe(status, killed, starved, last_words),
        (Err(error), None) => {
            (FailureClass::Infra, format!("the trainer's end could not be observed: {error}"))
        }
    }
}
