//! How a caller follows a download and stops it.

/// Told about downloads while they run.
pub trait Watch {
    /// `file` is being fetched; `done` of its `total` bytes are here. Called for every piece, and
    /// with `done == total` at the end.
    fn progress(&self, file: &str, done: u64, total: u64);

    /// Whether to give up. What is here already is kept for the next time.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Shows nothing and never gives up.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Watch for Silent {
    fn progress(&self, _file: &str, _done: u64, _total: u64) {}
}
