//! The fast way to losses and gradients of frozen T5 models on processors: no graph is recorded.
//!
//! Every row of every trial passes the encoder on its own, since nothing but its trial's prompt
//! and offset ties it to others. So a thread takes whole trials (or, where there are fewer trials
//! than threads, some rows of a trial) from their inputs to their gradients, and threads wait for
//! each other once per update. Within a thread, products are libtorch's (the widest instructions
//! of the processor, in f32 or bf16), and what lies between them is done in one pass over memory
//! by [`kernels`]. The decoder's few tokens pass together for all trials of a thread.
//!
//! The weights are frozen, so that the way back only carries the gradients of activations. Kept
//! for it are, per token and layer, the normed inputs of two sublayers, query, key and value,
//! the attention's weights and one bit per inner activation.

mod buffer;
mod cross;
mod decoder;
mod element;
mod encoder;
mod isa;
mod kernels;
mod layers;
mod layout;
mod products;
mod states;
mod tiny;
mod weights;
mod work;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::model::Model;
use buffer::Pool;
use element::{Bf16, Element};
use states::{States, states};
use weights::Weights;
use work::{Item, Part, most_tokens, work};

/// A trial's parameters.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    pub(crate) seed: u64,
    /// m
    pub(crate) prompt_length: usize,
    /// P [m, d].
    pub(crate) prompt: Vec<f32>,
    /// r
    pub(crate) rank: usize,
    /// A [s, r].
    pub(crate) a: Vec<f32>,
    /// B [r, d].
    pub(crate) b: Vec<f32>,
    /// Factor on A B.
    pub(crate) scaling: f32,
}

/// A row of a micro-batch.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its number in the effective batch.
    pub(crate) number: u32,
    /// Text, at least one token.
    pub(crate) input_ids: Vec<i64>,
    /// At least one token.
    pub(crate) labels: Vec<i64>,
}

/// What is to be computed: every trial on every row.
#[derive(Debug)]
pub(crate) struct Task {
    /// The trials, none in the place of one that stands still.
    pub(crate) trials: Vec<Option<Trial>>,
    pub(crate) rows: Vec<Row>,
    /// The update, from 1.
    pub(crate) step: u64,
    /// Rate of dropout.
    pub(crate) dropout: f64,
    /// On the cross-entropies.
    pub(crate) factor: f32,
    /// Numbers of the rows that a thread takes together.
    chunks: Vec<Vec<usize>>,
}

/// Loss and gradients of one trial.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Sum of cross-entropies times the task's factor.
    pub(crate) loss: f64,
    /// Of P [m, d].
    pub(crate) prompt: Vec<f32>,
    /// Of the first rows of A, [longest text, r].
    pub(crate) a: Vec<f32>,
    /// Of B [r, d].
    pub(crate) b: Vec<f32>,
}

impl Task {
    pub(crate) fn new(trials: Vec<Option<Trial>>, rows: Vec<Row>) -> Self {
        Self { trials, rows, step: 1, dropout: 0.0, factor: 1.0, chunks: Vec::new() }
    }

    fn trial(&self, k: usize) -> Result<&Trial, TchError> {
        let trial = self.trials.get(k).and_then(Option::as_ref);
        trial.ok_or_else(|| TchError::Shape(format!("no trial {k}")))
    }

    /// Longest text of a chunk.
    fn longest(&self, chunk: usize) -> usize {
        self.rows(chunk).map(|row| row.input_ids.len()).max().unwrap_or(0)
    }

    fn rows(&self, chunk: usize) -> impl Iterator<Item = &Row> + Clone {
        self.chunks.get(chunk).into_iter().flatten().filter_map(|&row| self.rows.get(row))
    }

    /// Cuts the rows into chunks of about `most` tokens at most and shares the items out to
    /// threads: whole trials where their number allows it.
    fn share_out(&mut self, threads: usize, most: usize) -> Vec<Vec<Item>> {
        let running: Vec<usize> =
            self.trials.iter().enumerate().filter_map(|(k, t)| t.as_ref().map(|_| k)).collect();
        if running.is_empty() {
            return Vec::new();
        }
        let chunks = threads / gcd(threads, running.len()).max(1);
        let tokens: usize = (0..self.rows.len()).map(|row| self.tokens(row)).sum();
        let chunks = chunks * tokens.div_ceil(chunks.max(1)).div_ceil(most).max(1);
        let chunks = chunks.clamp(1, self.rows.len().max(1));
        self.chunks = self.balanced(chunks);
        let items: Vec<Item> = (0..chunks)
            .flat_map(|chunk| running.iter().map(move |&trial| Item { trial, chunk }))
            .collect();
        let each = items.len().div_ceil(threads.max(1)).max(1);
        items.chunks(each).map(<[Item]>::to_vec).collect()
    }

    /// Tokens of a row with the longest prompt.
    fn tokens(&self, row: usize) -> usize {
        let prompt = self.trials.iter().flatten().map(|trial| trial.prompt_length).max();
        self.rows.get(row).map_or(0, |row| row.input_ids.len()) + prompt.unwrap_or(0)
    }

    /// Rows in chunks of about the same number of tokens: the longest rows first, each to the
    /// chunk that has least.
    fn balanced(&self, chunks: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&row| (std::cmp::Reverse(self.tokens(row)), row));
        let mut shares = vec![(0, Vec::new()); chunks];
        for row in order {
            if let Some((tokens, share)) = shares.iter_mut().min_by_key(|(tokens, _)| *tokens) {
                *tokens += self.tokens(row);
                share.push(row);
            }
        }
        let sorted = shares.into_iter().map(|(_, mut share)| {
            share.sort_unstable();
            share
        });
        sorted.collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

type Job = Box<dyn FnOnce(&mut Pool) + Send>;

/// What a thread computes of its items.
type Compute<R> = fn(&Weights, &Task, &[Item], &mut Pool) -> Result<Vec<R>, TchError>;

/// A thread with memory of its own.
struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn new(number: usize) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        let run = move || {
            // Products within a thread are that thread's alone. A thread's first question about
            // its number sets it to the process's, so it is asked before.
            let _ = tch::get_num_threads();
            tch::set_num_threads(1);
            // Nobody waits any more: there is nobody to tell.
            let _ = ready.send(());
            let mut pool = Pool::default();
            no_grad(|| queue.iter().for_each(|job| job(&mut pool)));
        };
        let thread = std::thread::Builder::new().name(format!("train-{number}")).spawn(run)?;
        // Fails when the thread has ended, which its first job will find too.
        let _ = started.recv();
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Threads that compute losses and gradients of a frozen model.
pub(crate) struct Engine {
    weights: Arc<Weights>,
    half: bool,
    workers: Vec<Worker>,
}

impl Engine {
    /// As many threads as libtorch has now. None where the model is not one that the engine
    /// knows: a T5 on a processor, in f32 or with bf16 products.
    ///
    /// # Errors
    /// When weights cannot be laid out, or a thread does not start.
    pub(crate) fn new(model: &Model) -> Result<Option<Self>, TchError> {
        let half = model.products() == Kind::BFloat16;
        let known = model.kind() == Kind::Float && (half || model.products() == Kind::Float);
        if model.device() != Device::Cpu || !known {
            return Ok(None);
        }
        let Some(weights) = no_grad(|| Weights::of(model))? else { return Ok(None) };
        let threads = tch::get_num_threads().max(1);
        let workers: Result<Vec<Worker>, _> = (0..threads as usize).map(Worker::new).collect();
        // The threads have set the number for threads to come.
        tch::set_num_threads(threads);
        Ok(Some(Self { weights: Arc::new(weights), half, workers: workers? }))
    }

    /// Losses and gradients of every trial; none for those that stand still.
    pub(crate) fn run(&self, mut task: Task) -> Result<Vec<Option<Outcome>>, TchError> {
        let longest = (0..task.rows.len()).map(|row| task.tokens(row)).max().unwrap_or(0);
        let most = if self.half { most_tokens::<Bf16> } else { most_tokens::<f32> };
        let shares = task.share_out(self.workers.len(), most(&self.weights, longest));
        let mut outcomes: Vec<Option<Outcome>> =
            task.trials.iter().map(|t| t.as_ref().map(|_| Outcome::default())).collect();
        let job = if self.half { work::<Bf16> } else { work::<f32> };
        // Added up in the same order every time.
        for part in self.spread(&Arc::new(task), shares, job)?.into_iter().flatten() {
            if let Some(Some(outcome)) = outcomes.get_mut(part.trial) {
                outcome.add(part);
            }
        }
        Ok(outcomes)
    }

    /// The encoder's last hidden states of every trial and row without dropout, in the products'
    /// number format: [K, B, prompt + text, d]. Shorter prompts stand right, shorter texts left;
    /// 0 where there is no token.
    pub(crate) fn encode(
        &self,
        task: Task,
        prompt: usize,
        text: usize,
    ) -> Result<Tensor, TchError> {
        if self.half {
            self.encode_as(task, prompt, text, states::<Bf16>)
        } else {
            self.encode_as(task, prompt, text, states::<f32>)
        }
    }

    fn encode_as<E: Element>(
        &self,
        mut task: Task,
        prompt: usize,
        text: usize,
        job: Compute<States<E>>,
    ) -> Result<Tensor, TchError> {
        let shares = task.share_out(self.workers.len(), states::TOKENS);
        let (task, d) = (Arc::new(task), self.weights.sizes.d);
        let (k, b, width) = (task.trials.len(), task.rows.len(), prompt + text);
        let mut all = vec![E::default(); k * b * width * d];
        for States { item, numbers } in self.spread(&task, shares, job)?.into_iter().flatten() {
            let m = task.trial(item.trial)?.prompt_length;
            let places = task.chunks.get(item.chunk).into_iter().flatten();
            let mut rest = numbers.as_slice();
            for (&row, of) in places.zip(task.rows(item.chunk)) {
                let (own, after) = rest.split_at((m + of.input_ids.len()) * d);
                rest = after;
                let first = ((item.trial * b + row) * width + prompt - m) * d;
                all[first..first + own.len()].copy_from_slice(own);
            }
        }
        element::tensor(&all, &[k as i64, b as i64, width as i64, d as i64])
    }

    /// Lets every thread compute its share, and gives what they have found, share by share.
    fn spread<R: Send + 'static>(
        &self,
        task: &Arc<Task>,
        shares: Vec<Vec<Item>>,
        compute: Compute<R>,
    ) -> Result<Vec<Vec<R>>, TchError> {
        let (results, answers) = mpsc::channel();
        let count = shares.len();
        for (number, (worker, items)) in self.workers.iter().zip(shares).enumerate() {
            let (weights, task) = (Arc::clone(&self.weights), Arc::clone(task));
            let results = results.clone();
            let job: Job = Box::new(move |pool| {
                let found = compute(&weights, &task, &items, pool);
                pool.passed();
                // Nobody waits for it after another thread's failure.
                let _ = results.send((number, found));
            });
            if worker.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
                return Err(ended());
            }
        }
        drop(results);
        let mut found: Vec<(usize, Vec<R>)> = Vec::with_capacity(count);
        for (number, result) in answers {
            found.push((number, result?));
        }
        if found.len() < count {
            return Err(ended());
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, found)| found).collect())
    }
}

fn ended() -> TchError {
    TchError::Torch("a training thread has ended".to_owned())
}

impl Outcome {
    fn add(&mut self, part: Part) {
        self.loss += part.loss;
        for (sum, part) in
            [(&mut self.prompt, part.prompt), (&mut self.a, part.a), (&mut self.b, part.b)]
        {
            // The longest text of a chunk may be longer than those of the chunks before.
            sum.resize(sum.len().max(part.len()), 0.0);
            sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(trials: usize, lengths: &[usize]) -> Task {
        let row = |(number, &n): (usize, &usize)| Row {
            number: number as u32,
            input_ids: vec![3; n],
            labels: vec![1],
        };
        let rows = lengths.iter().enumerate().map(row).collect();
        Task::new((0..trials).map(|_| Some(Trial::default())).collect(), rows)
    }

    #[test]
    fn whole_trials_go_to_threads_where_their_number_allows_it() {
        let mut even = task(4, &[9, 1, 5, 5]);
        let shares = even.share_out(2, usize::MAX);
        assert_eq!(even.chunks, [vec![0, 1, 2, 3]]);
        let trials = |share: &[Item]| share.iter().map(|item| item.trial).collect::<Vec<_>>();
        assert_eq!(shares.iter().map(|s| trials(s)).collect::<Vec<_>>(), [[0, 1], [2, 3]]);

        let mut odd = task(3, &[9, 1, 5, 5]);
        odd.trials[1] = None;
        odd.trials.push(Some(Trial::default()));
        let shares = odd.share_out(2, usize::MAX);
        assert_eq!(odd.chunks, [vec![0, 1], vec![2, 3]]);
        assert_eq!(shares.iter().map(|s| trials(s)).collect::<Vec<_>>(), [[0, 2, 3], [0, 2, 3]]);
        assert!(shares[0].iter().all(|item| item.chunk == 0));

        let mut short = task(1, &[4]);
        assert_eq!(short.share_out(8, usize::MAX).len(), 1);
        let mut long = task(1, &[9, 8, 7, 6]);
        long.share_out(1, 16);
        assert_eq!(long.chunks, [vec![0, 3], vec![1, 2]]);
        assert!(task(0, &[4]).share_out(2, usize::MAX).is_empty());
    }
}
