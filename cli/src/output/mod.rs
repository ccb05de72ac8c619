//! What people and programs see: data on standard output, talk on standard error.

pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod plot;
pub(crate) mod progress;
pub(crate) mod table;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

use error::Error;

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Whether standard error takes colours.
    pub(crate) fn on_stderr(self) -> bool {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no_color && io::stderr().is_terminal(),
        }
    }
}

/// Writes data to standard output. A reader that went away is fine: `head` has seen enough.
///
/// # Errors
/// Any other failure of writing, e.g. a full disk.
pub(crate) fn data(text: &str) -> Result<(), Error> {
    bytes(text.as_bytes())
}

/// Writes data as they are to standard output; see [`data`].
pub(crate) fn bytes(content: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(content).and_then(|()| out.flush()) {
        Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Err(Error::BrokenPipe),
        Err(source) => Err(Error::Stdout { source }),
        Ok(()) => Ok(()),
    }
}

/// Writes a line of data to standard output; see [`data`].
pub(crate) fn line(text: &str) -> Result<(), Error> {
    data(&format!("{text}\n"))
}

/// Writes a JSON document to standard output, one line.
pub(crate) fn json_line(value: &serde_json::Value) -> Result<(), Error> {
    line(&value.to_string())
}

/// Says something on standard error. Nobody listening is no failure.
pub(crate) fn say(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{text}");
}

/// A text from elsewhere without the characters that could move a terminal's cursor or change its
/// state; tabs and line ends become spaces.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect()
}
