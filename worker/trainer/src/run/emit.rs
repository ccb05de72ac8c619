//! Messages to the agent, one JSON line each on standard output.

use std::io::Write;

use deptune_sweep::child::Message;

/// Writes messages; a pipe that nobody reads any more ends the run.
#[derive(Debug)]
pub struct Emitter<W> {
    out: W,
}

/// The agent no longer listens.
#[derive(Debug, thiserror::Error)]
#[error("the agent no longer reads this process's messages")]
pub struct Gone(#[source] std::io::Error);

impl<W: Write> Emitter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Emitter<W> {
        Emitter { out }
    }

    /// Sends one message at once.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send(&mut self, message: &Message) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(message).map_err(|e| Gone(e.into()))?;
        line.push(b'\n');
        self.out.write_all(&line).and_then(|()| self.out.flush()).map_err(Gone)
    }
}
