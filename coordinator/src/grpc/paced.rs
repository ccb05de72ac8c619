//! An answer of many messages that its reader takes one by one, and soon.

use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::codegen::BoxStream;

use super::status::{Reason, status};

/// Bytes of a message for which a reader gets the whole patience once more: a large one may take
/// its time on a slow network.
const BYTES: usize = 4 << 20;

/// Gives the messages to a reader. `held` is dropped when the last one has been read, when the
/// reader has gone, or when it has taken nothing for `patience`: then the messages are dropped as
/// well, and the stream ends with `DEADLINE_EXCEEDED` after those that were on their way.
pub(super) fn paced<T: Send + 'static>(
    messages: Vec<T>,
    size: impl Fn(&T) -> usize,
    held: impl Send + 'static,
    patience: Duration,
    feeders: &TaskTracker,
) -> BoxStream<T> {
    let largest = messages.iter().map(size).max().unwrap_or_default();
    let steps = u32::try_from(1 + largest / BYTES).unwrap_or(u32::MAX);
    let patience = patience.saturating_mul(steps);
    // Room for one: there is some again when the reader has taken what went before. A task of its
    // own looks at the clock, because a stream is not even asked while its client has no room.
    let (reader, taken) = mpsc::channel(1);
    feeders.spawn(async move {
        let _held = held;
        // The end has to be asked for, too: only then is the last message on its way.
        for part in messages.into_iter().map(Some).chain([None]) {
            match timeout(patience, reader.reserve()).await {
                Ok(Ok(room)) => room.send(part),
                Ok(Err(_)) => return,
                Err(_) => return tracing::debug!("an answer that nobody reads is given up"),
            }
        }
        let _ = timeout(patience, reader.reserve()).await;
    });
    let late = move || {
        let text = format!("the answer was not read for {} seconds", patience.as_secs());
        status(Code::DeadlineExceeded, Reason::DeadlineExceeded, text)
    };
    futures::stream::unfold(Some(taken), move |taken| async move {
        let mut taken = taken?;
        match taken.recv().await {
            Some(Some(message)) => Some((Ok(message), Some(taken))),
            Some(None) => None,
            None => Some((Err(late()), None)),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn one_by_one(patience: Duration, held: &Arc<()>) -> BoxStream<u32> {
        paced(vec![1, 2, 3], |_| 4, held.clone(), patience, &TaskTracker::new())
    }

    async fn is_dropped(held: &Arc<()>) {
        let dropped = async {
            while Arc::strong_count(held) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG / 2, dropped).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_is_held_until_its_end_is_read_or_its_reader_goes() {
        let held = Arc::new(());
        let mut answer = one_by_one(LONG, &held);
        for expected in 1..=3 {
            assert_eq!(answer.next().await.unwrap().unwrap(), expected);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(Arc::strong_count(&held), 2, "nobody has asked for more");
        assert!(answer.next().await.is_none());
        is_dropped(&held).await;

        let mut answer = one_by_one(LONG, &held);
        answer.next().await.unwrap().unwrap();
        drop(answer);
        is_dropped(&held).await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_up_and_its_reader_told() {
        let held = Arc::new(());
        let mut answer = one_by_one(Duration::from_millis(20), &held);
        is_dropped(&held).await;
        assert_eq!(answer.next().await.unwrap().unwrap(), 1);
        let status = answer.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(answer.next().await.is_none());
    }
}
