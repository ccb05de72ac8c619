//! The other client: it goes on working while somebody misbehaves.

use std::time::{Duration, Instant};

use deptune_proto::v1;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::Server;

/// Makes one call after the other on a connection of its own.
pub(crate) struct Bystander {
    calls: JoinHandle<Vec<Duration>>,
    stop: CancellationToken,
}

impl Bystander {
    pub(crate) fn start(server: &Server) -> Bystander {
        let stop = CancellationToken::new();
        let (mut sweeps, stopped) = (server.sweeps(), stop.clone());
        let calls = tokio::spawn(async move {
            let mut times = Vec::new();
            while !stopped.is_cancelled() || times.is_empty() {
                let start = Instant::now();
                sweeps.list_sweeps(v1::ListSweepsRequest::default()).await.unwrap();
                times.push(start.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            times
        });
        Bystander { calls, stop }
    }

    /// All its calls were answered; says how fast. Where `DEPTUNE_TIMES=strict` is set, 99 of 100
    /// must have taken less than a second.
    pub(crate) async fn end(self, during: &str) {
        self.stop.cancel();
        let mut times = self.calls.await.unwrap();
        times.sort();
        let p99 = times[times.len() * 99 / 100];
        eprintln!("{during}: {} calls of another client, p99 {p99:.1?}", times.len());
        if std::env::var("DEPTUNE_TIMES").is_ok_and(|value| value == "strict") {
            assert!(p99 < Duration::from_secs(1), "p99 {p99:?} during {during}");
        }
    }
}
