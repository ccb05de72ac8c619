//! What a child says, checked before anybody acts on it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deptune_proto::v1;
use deptune_sweep::child::{Evaluation, Job, MAX_LINE, Message, TrialResult};
use deptune_sweep::id::TrialId;
use tokio::sync::mpsc::Sender;

use super::Output;
use super::lines::Lines;

/// Most messages a second; a child that says more waits. The protocol has a few a second.
const MAX_RATE: u32 = 500;

/// Forwards messages until the child closes its output. Returns what is wrong with the child, if
/// something is.
pub(super) fn forward(from: impl Read, job: &Job, outputs: &Sender<Output>) -> Option<String> {
    let mut lines = Lines::new(from, MAX_LINE);
    let mut second = Instant::now();
    let mut count = 0;
    loop {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        };
        let message = match read(line, job) {
            Ok(message) => message,
            Err(fault) => return Some(fault),
        };
        if outputs.blocking_send(Output::Message(Box::new(message))).is_err() {
            return Some("nobody listens to it any more".to_owned());
        }
        count += 1;
        if count == MAX_RATE {
            std::thread::sleep(Duration::from_secs(1).saturating_sub(second.elapsed()));
            second = Instant::now();
            count = 0;
        }
    }
}

fn read(line: &[u8], job: &Job) -> Result<Message, String> {
    let message = serde_json::from_slice::<Message>(line).map_err(|error| {
        let start = String::from_utf8_lossy(line.get(..line.len().min(80)).unwrap_or(line));
        format!("a line of its output is no message: {error}; the line begins with {start:?}")
    })?;
    match message {
        Message::Started { .. } => Ok(message),
        Message::Progress { trial, step, loss, steps_per_second } => {
            member(trial, job)?;
            let steps_per_second = steps_per_second.max(0.0);
            Ok(Message::Progress { trial, step, loss, steps_per_second })
        }
        Message::Eval { trial, evaluation } => {
            member(trial, job)?;
            check(v1::Evaluation::from(evaluation.clone()), Evaluation::try_from)?;
            Ok(Message::Eval { trial, evaluation })
        }
        Message::Checkpoint { trial, step, path } => {
            member(trial, job)?;
            Ok(Message::Checkpoint { trial, step, path: inside(&path, &job.scratch)? })
        }
        Message::Predictions { trial, split, path } => {
            member(trial, job)?;
            Ok(Message::Predictions { trial, split, path: inside(&path, &job.scratch)? })
        }
        Message::Done { trial, result, adapter } => {
            member(trial, job)?;
            check(v1::TrialResult::from(result.clone()), TrialResult::try_from)?;
            Ok(Message::Done { trial, result, adapter: inside(&adapter, &job.scratch)? })
        }
        Message::Failed { trial, .. } => {
            member(trial, job)?;
            Ok(message)
        }
    }
}

fn member(trial: TrialId, job: &Job) -> Result<(), String> {
    let known = job.trials.iter().any(|m| m.trial == trial);
    if known { Ok(()) } else { Err(format!("it speaks of trial {trial}, which is not its own")) }
}

/// Whether the coordinator will take what the child says, by the rules of the wire.
fn check<W, T, E: std::fmt::Display>(
    wire: W,
    read: impl Fn(W) -> Result<T, E>,
) -> Result<(), String> {
    read(wire).map(drop).map_err(|error| format!("it sent a result that makes no sense: {error}"))
}

/// The file, if it lies in the child's own directory.
fn inside(path: &Path, scratch: &Path) -> Result<PathBuf, String> {
    let shown = path.display();
    let real = scratch.join(path).canonicalize();
    let real = real.map_err(|error| format!("it names {shown}, which cannot be read: {error}"))?;
    let home = scratch.canonicalize().map_err(|error| format!("its directory is gone: {error}"))?;
    if real.starts_with(&home) && real.is_file() {
        Ok(real)
    } else {
        Err(format!("it names {shown}, which is no file in its own directory"))
    }
}
