//! Clients: they submit sweeps, repeat what brought no answer, cancel some, and remember what they
//! were told. What a client was told is the oracle: acknowledged means durable, refused means that
//! it never happened, unknown may be either, and never half.

use std::collections::BTreeMap;

use deptune_sweep::id::{RequestId, SweepId};
use deptune_sweep::record::Submission;
use uuid::Uuid;

use super::child::STEPS;
use super::message::{ClientAnswer, Message, Peer, Request, Response, Ticket};
use super::world::{Happening, World};

/// How long a client waits for an answer, in milliseconds.
const TIMEOUT: u64 = 10_000;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Sweeps still to be submitted.
    left: u64,
    server: usize,
    task: Task,
    call: u64,
    /// What each request came to.
    pub(crate) told: BTreeMap<RequestId, Told>,
    /// Sweeps whose cancellation was acknowledged.
    pub(crate) cancelled: Vec<SweepId>,
}

/// What a client knows of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Every attempt was refused, so that it did not happen.
    Refused,
    /// Some attempt brought no answer.
    Unknown,
    /// It happened.
    Acknowledged(SweepId),
}

#[derive(Debug, Clone)]
enum Task {
    Idle,
    Submit { request_id: RequestId, submission: Box<Submission> },
    Cancel(SweepId),
}

impl Client {
    /// A client that has not begun.
    #[must_use]
    pub(crate) fn new(sweeps: u64) -> Client {
        Client {
            left: sweeps,
            server: 0,
            task: Task::Idle,
            call: 0,
            told: BTreeMap::new(),
            cancelled: Vec::new(),
        }
    }

    /// Whether everything was submitted and nothing waits for an answer.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && matches!(self.task, Task::Idle)
    }
}

impl World {
    /// The client does the next thing, or repeats what brought no answer.
    pub(crate) fn client_acts(&mut self, k: usize) {
        if let Task::Idle = self.clients[k].task {
            if self.clients[k].left == 0 {
                return;
            }
            let rng = &mut self.chance.client;
            let request_id = RequestId(Uuid::from_u128(rng.u128()));
            let trials = rng.within(self.profile.trials.0, self.profile.trials.1);
            let limit = rng.per_mille(250).then(|| rng.within(1, 6));
            let submission = Box::new(submission(trials, limit));
            let client = &mut self.clients[k];
            client.left -= 1;
            client.task = Task::Submit { request_id, submission };
        }
        let at = self.queue.now();
        let client = &mut self.clients[k];
        client.call += 1;
        let ticket = Ticket { peer: Peer::Client(k), run: 0, call: client.call };
        let to = client.server;
        let request = match &client.task {
            Task::Submit { request_id, submission } => {
                let (request_id, submission) = (*request_id, (**submission).clone());
                Request::Submit { request_id, submission }
            }
            Task::Cancel(sweep) => Request::Cancel { sweep: *sweep },
            Task::Idle => return,
        };
        self.queue.at(at + TIMEOUT, Happening::ClientTimeout(k, client.call));
        self.transmit(Message::Up { to, ticket, request, timeout: TIMEOUT });
    }

    /// An answer has come.
    pub(crate) fn client_hears(&mut self, k: usize, ticket: Ticket, response: Response) {
        let Response::Client(answer) = response else { return };
        if ticket.call != self.clients[k].call {
            return;
        }
        self.client_told(k, answer);
    }

    /// No answer came in time.
    pub(crate) fn client_timeout(&mut self, k: usize, call: u64) {
        if self.clients[k].call == call && !matches!(self.clients[k].task, Task::Idle) {
            self.client_told(k, ClientAnswer::Unknown("no answer in time".to_owned()));
        }
    }

    fn client_told(&mut self, k: usize, answer: ClientAnswer) {
        let client = &mut self.clients[k];
        // What comes later for this call is not heard.
        client.call += 1;
        let wait = self.chance.client.within(200, 4_000);
        let before = match &client.task {
            Task::Submit { request_id, .. } => client.told.get(request_id).copied(),
            _ => None,
        };
        match (&client.task, answer) {
            (Task::Submit { request_id, .. }, ClientAnswer::Sweep(sweep)) => {
                client.told.insert(*request_id, Told::Acknowledged(sweep));
                let cancels = self.faulty && self.chance.client.per_mille(200);
                client.task = if cancels { Task::Cancel(sweep) } else { Task::Idle };
                let wait = if cancels { self.chance.client.within(0, 60_000) } else { wait };
                self.queue.after(wait, Happening::Client(k));
                return;
            }
            (Task::Cancel(sweep), ClientAnswer::Sweep(_)) => {
                let sweep = *sweep;
                client.cancelled.push(sweep);
                client.task = Task::Idle;
                self.counters.count("client: cancels");
                let checked = self.checks.cancel_acknowledged(sweep);
                self.verdict(checked);
                self.queue.after(wait, Happening::Client(k));
                return;
            }
            (Task::Submit { request_id, .. }, ClientAnswer::Refused(_)) => {
                let told = if before.is_none_or(|b| b == Told::Refused) {
                    Told::Refused
                } else {
                    Told::Unknown
                };
                client.told.insert(*request_id, told);
                // Nothing happened, as far as it knows: some ask anew, as another request.
                if self.faulty && told == Told::Refused && self.chance.client.per_mille(700) {
                    client.task = Task::Idle;
                    client.left += 1;
                }
            }
            (Task::Submit { request_id, .. }, ClientAnswer::Unknown(_)) => {
                client.told.insert(*request_id, Told::Unknown);
            }
            (Task::Cancel(_), _) => {}
            (Task::Idle, _) => return,
        }
        let client = &mut self.clients[k];
        client.server = (client.server + 1) % self.processes.len();
        self.counters.count("client: repeats a request");
        self.queue.after(wait, Happening::Client(k));
    }
}

const CONFIG: &str = r#"{"model_type":"t5","d_model":64,"d_kv":16,"d_ff":128,"num_layers":2,
"num_decoder_layers":2,"num_heads":4,"vocab_size":384,"feed_forward_proj":"relu",
"dropout_rate":0.0,"layer_norm_epsilon":1e-6,"relative_attention_num_buckets":32,
"relative_attention_max_distance":128,"tie_word_embeddings":true,"decoder_start_token_id":0,
"pad_token_id":0,"eos_token_id":1}"#;

/// A sweep of so many trials.
fn submission(trials: u64, max_parallel: Option<u64>) -> Submission {
    let (rates, seeds) = if trials > 1_000 { (trials / 500, 500) } else { (1, trials) };
    let rates: Vec<String> = (0..rates).map(|n| format!("{:.4}", 0.1 + n as f64 * 1e-4)).collect();
    let seeds: Vec<String> = (1..=seeds).map(|n| n.to_string()).collect();
    let limits = max_parallel.map_or_else(String::new, |n| format!("max_parallel = {n}\n"));
    let spec = format!(
        r#"
name = "simulated"
[model]
path = "model"
[task]
name = "sst2"
train = "train.tsv"
[method]
kind = "dept"
[space]
prompt_lr = [{}]
lowrank_lr = [1e-4]
prompt_length = [4]
rank = [3]
seeds = [{}]
[train]
steps = {STEPS}
batch_size = 8
max_length = 32
warmup_steps = 10
eval_every = {}
[limits]
max_attempts = 3
{limits}"#,
        rates.join(", "),
        seeds.join(", "),
        STEPS / 3,
    );
    Submission {
        spec,
        format: "toml".to_owned(),
        model_config: CONFIG.to_owned(),
        model_dir: None,
        model_files: Vec::new(),
        model_uploaded: false,
        model_hub: None,
        data: Vec::new(),
    }
}
