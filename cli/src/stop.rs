//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::error::{Error, Exit};
use crate::output::say;

/// A token that is cancelled at the first SIGINT or SIGTERM. The second ends the process at once;
/// nothing is lost then either, since every result is durable before it counts.
///
/// # Errors
/// When the system refuses to hand over signals.
pub(crate) fn on_signal(what_happens: &'static str) -> Result<CancellationToken, Error> {
    let listen = |kind| {
        signal(kind)
            .map_err(|source| Error::Task { task: "listening for signals", source: source.into() })
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(Exit::Interrupted.code().into());
            }
            say(what_happens);
            cancel.cancel();
        }
    });
    Ok(token)
}
