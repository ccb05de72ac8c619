//! The thread that takes samples.

use std::error::Error;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::totals::{Facts, Sample, Totals};

/// Longest wait for the thread: a driver hangs when a device has fallen off the bus, and nothing
/// that it could say is worth a trial.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something that says what a device does.
pub(super) trait Source {
    /// At this moment.
    fn sample(&mut self) -> Sample;
}

/// A thread that takes samples until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Asks for a sample, to be told when it is taken; `None` once it is to end.
    requests: Option<Sender<Sender<()>>>,
    totals: Arc<Mutex<Totals>>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    patience: Duration,
}

impl Watch {
    /// Takes a sample now and after each `period`. Where there is no source, that is said once and
    /// nothing is known.
    pub(super) fn start<S: Source, E: Error + 'static>(
        open: impl FnOnce() -> Result<S, E> + Send + 'static,
        period: Duration,
    ) -> Watch {
        let (requests, asked) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let totals = Arc::new(Mutex::new(Totals::default()));
        let shared = Arc::clone(&totals);
        let work = move || {
            // Closes the channel at the very end, when the source is closed, too.
            let _alive: Sender<()> = alive;
            // Opening may hang as well.
            match open() {
                Ok(mut source) => watch(&mut source, &asked, &shared, period),
                Err(error) => unknown(&error),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("device".to_owned()).spawn(work) {
            unknown(&error);
        }
        Watch { requests: Some(requests), totals, ended, patience: PATIENCE }
    }

    /// What the job took until now.
    pub(crate) fn facts(&self) -> Facts {
        let (taken, waits) = mpsc::channel();
        if self.requests.as_ref().is_some_and(|requests| requests.send(taken).is_ok()) {
            // Without an answer, what is known has to do.
            let _ = waits.recv_timeout(self.patience);
        }
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).facts()
    }
}

impl Drop for Watch {
    /// Waits for the thread: the process must not end in the middle of a call to the driver.
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.ended.recv_timeout(self.patience);
    }
}

fn watch(
    source: &mut impl Source,
    asked: &Receiver<Sender<()>>,
    totals: &Mutex<Totals>,
    period: Duration,
) {
    let mut waits: Option<Sender<()>> = None;
    loop {
        let sample = source.sample();
        totals.lock().unwrap_or_else(PoisonError::into_inner).add(&sample);
        if let Some(waits) = waits.take() {
            // It may have lost its patience.
            let _ = waits.send(());
        }
        match asked.recv_timeout(period) {
            Ok(one) => waits = Some(one),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn unknown(error: &(dyn Error + 'static)) {
    tracing::warn!(
        error,
        "the device cannot be watched: results will not say its memory, utilisation and power"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Instant;

    const NEVER: Duration = Duration::from_secs(3600);

    /// Takes one byte more with each sample.
    struct Growing {
        samples: Arc<AtomicU64>,
        closed: Arc<AtomicBool>,
    }

    impl Source for Growing {
        fn sample(&mut self) -> Sample {
            let bytes = self.samples.fetch_add(1, Ordering::SeqCst) + 1;
            Sample { process_bytes: Some(bytes), utilization: Some(0.5), ..Sample::default() }
        }
    }

    impl Drop for Growing {
        fn drop(&mut self) {
            self.closed.store(true, Ordering::SeqCst);
        }
    }

    fn growing(period: Duration) -> (Watch, Arc<AtomicU64>, Arc<AtomicBool>) {
        let (samples, closed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let source = Growing { samples: Arc::clone(&samples), closed: Arc::clone(&closed) };
        (Watch::start(move || Ok::<_, io::Error>(source), period), samples, closed)
    }

    #[test]
    fn a_short_job_is_sampled_at_its_start_and_when_it_ends() {
        let (mut watch, samples, closed) = growing(NEVER);
        watch.patience = NEVER;
        assert_eq!(watch.facts().peak_memory_bytes, Some(2));
        let facts = watch.facts();
        assert_eq!((facts.peak_memory_bytes, facts.mean_utilization), (Some(3), Some(0.5)));
        assert!(!closed.load(Ordering::SeqCst));
        drop(watch);
        assert!(closed.load(Ordering::SeqCst), "nothing goes on after the job");
        assert_eq!(samples.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_long_job_is_sampled_by_the_clock() {
        let (watch, samples, _) = growing(Duration::from_millis(1));
        let deadline = Instant::now() + Duration::from_secs(60);
        while samples.load(Ordering::SeqCst) < 5 {
            assert!(Instant::now() < deadline, "no samples");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(watch.facts().peak_memory_bytes >= Some(5));
    }

    #[test]
    fn without_a_source_nothing_is_known() {
        let no_source = || Err::<Growing, _>(io::Error::other("no library"));
        let watch = Watch::start(no_source, NEVER);
        assert_eq!(watch.facts(), Facts::default());
    }

    #[test]
    fn a_source_that_hangs_keeps_nobody() {
        struct Hung(Receiver<()>);
        impl Source for Hung {
            fn sample(&mut self) -> Sample {
                let _ = self.0.recv();
                Sample::default()
            }
        }
        let (hold, held) = mpsc::channel();
        let mut watch = Watch::start(move || Ok::<_, io::Error>(Hung(held)), NEVER);
        watch.patience = Duration::from_millis(10);
        assert_eq!(watch.facts(), Facts::default());
        drop(watch);
        drop(hold);
    }
}
