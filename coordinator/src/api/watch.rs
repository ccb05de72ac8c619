//! Following a sweep.

use std::time::Duration;

use deptune_sweep::id::SweepId;
use deptune_sweep::record::{LogEntry, LogRecord};
use deptune_sweep::scheduler::SweepProgress;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;

use super::error::Error;
use super::{Api, SweepSummary};
use crate::runtime;

/// Log entries read at once.
const PAGE: u32 = 500;
/// Time between two looks at the running trials.
const PROGRESS: Duration = Duration::from_secs(1);
/// Entries that follow each other within this time are read together.
const GATHER: Duration = Duration::from_millis(50);
/// News that may wait for a slow watcher.
const WAITING: usize = 64;

/// Something a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum News {
    /// An entry of the log.
    Entry(Box<LogRecord>),
    /// How the sweep stands now.
    Progress(Box<(SweepSummary, SweepProgress)>),
}

type Watcher = mpsc::Sender<Result<News, Error>>;

/// Whether the watcher wants more.
enum Next {
    More,
    /// The last entry says that the sweep has ended.
    Finished,
    Enough,
}

impl Api {
    /// Follows a sweep: its log after `cursor`, then what is added, with a look at the running
    /// trials every second. Ends after the sweep's last entry.
    pub(crate) async fn watch(
        &self,
        sweep: &str,
        cursor: u64,
    ) -> Result<ReceiverStream<Result<News, Error>>, Error> {
        let id = self.find(sweep).await?;
        let (watcher, stream) = mpsc::channel(WAITING);
        let api = self.clone();
        self.feeders.spawn(async move {
            if let Err(error) = api.follow(id, cursor, &watcher).await {
                // The watcher may have gone.
                let _ = watcher.send(Err(error)).await;
            }
        });
        Ok(ReceiverStream::new(stream))
    }

    async fn follow(&self, id: SweepId, mut after: u64, watcher: &Watcher) -> Result<(), Error> {
        let mut cursor = self.handle.cursor();
        let mut ticks = tokio::time::interval(PROGRESS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            cursor.borrow_and_update();
            // Read before the log: if the sweep had ended by then, its last entry is in the log.
            let ended = self.summary(id).await?.status.is_over();
            match self.tell_entries(id, &mut after, watcher).await? {
                Next::Enough => return Ok(()),
                _ if ended => return Ok(()),
                // It ended meanwhile; or it had ended before and was run again since.
                Next::Finished => continue,
                Next::More => {}
            }
            loop {
                tokio::select! {
                    () = watcher.closed() => return Ok(()),
                    () = self.stop.cancelled() => return Err(runtime::Error::Stopping.into()),
                    changed = cursor.changed() => {
                        if changed.is_err() {
                            return Err(runtime::Error::Stopping.into());
                        }
                        tokio::time::sleep(GATHER).await;
                        break;
                    }
                    _ = ticks.tick() => self.tell_progress(id, watcher).await?,
                }
            }
        }
    }

    /// Tells all entries after the cursor, and moves it.
    async fn tell_entries(
        &self,
        id: SweepId,
        after: &mut u64,
        watcher: &Watcher,
    ) -> Result<Next, Error> {
        let mut finished = false;
        loop {
            let page = self.store.log(id, *after, PAGE).await?;
            for record in page.items {
                *after = record.cursor;
                finished = matches!(record.what, LogEntry::Finished { .. });
                if watcher.send(Ok(News::Entry(Box::new(record)))).await.is_err() {
                    return Ok(Next::Enough);
                }
            }
            if !page.more {
                return Ok(if finished { Next::Finished } else { Next::More });
            }
        }
    }

    async fn tell_progress(&self, id: SweepId, watcher: &Watcher) -> Result<(), Error> {
        // While the scheduler is rebuilt there is nothing to look at; the next look will do.
        let Ok(Some(progress)) = self.handle.look(move |s| s.progress(id)).await else {
            return Ok(());
        };
        let summary = self.summary(id).await?;
        // A watcher that has gone is noticed by the loop.
        let _ = watcher.send(Ok(News::Progress(Box::new((summary, progress))))).await;
        Ok(())
    }
}
