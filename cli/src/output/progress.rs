//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{number, say};

/// Time between two lines where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of a transfer.
#[derive(Clone)]
pub(crate) struct Bytes(ProgressBar);

impl Bytes {
    /// A transfer of that many files and bytes.
    pub(crate) fn new(what: &str, files: usize, bytes: u64) -> Bytes {
        if !std::io::stderr().is_terminal() {
            let files = number::count(files as u64, "file");
            say(&format!("{what} {files} ({})", number::bytes(bytes)));
            return Bytes(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(bytes);
        if let Ok(style) =
            ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Bytes(bar)
    }

    /// More was transferred.
    pub(crate) fn forward(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// A try failed; its bytes do not count.
    pub(crate) fn back(&self, bytes: u64) {
        self.0.set_position(self.0.position().saturating_sub(bytes));
    }

    /// All is transferred.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Progress of a sweep: a live line with a bar on a terminal, else a line every few seconds.
pub(crate) enum Live {
    /// Nothing is shown.
    Quiet,
    /// A terminal.
    Bar(ProgressBar),
    /// Anything else; when the last line was written, and the line.
    Lines(Option<(Instant, String)>),
}

impl Live {
    /// Nothing shown yet; with `quiet`, nothing ever.
    pub(crate) fn new(quiet: bool) -> Live {
        if quiet {
            return Live::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Live::Lines(None);
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {prefix}\n{wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Live::Bar(bar)
    }

    /// How it stands: `done` of `total`, in words, and what else there is to say (it may be cut
    /// off where a terminal is narrow).
    pub(crate) fn update(&mut self, done: u64, total: u64, counts: String, more: String) {
        match self {
            Live::Quiet => {}
            Live::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_prefix(counts);
                bar.set_message(more);
            }
            Live::Lines(last) => {
                let text = if more.is_empty() { counts } else { format!("{counts} · {more}") };
                let now = Instant::now();
                let due = last.as_ref().is_none_or(|(at, before)| {
                    now.duration_since(*at) >= LINE_EVERY && *before != text
                });
                if due {
                    say(&text);
                    *last = Some((now, text));
                }
            }
        }
    }

    /// Says something, above the live line if there is one.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Live::Quiet => {}
            Live::Bar(bar) => bar.suspend(|| say(text)),
            Live::Lines(_) => say(text),
        }
    }

    /// Takes the live line away.
    pub(crate) fn clear(&self) {
        if let Live::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
