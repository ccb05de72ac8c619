//! Clients: they submit sweeps, change, pause, retry, cancel and delete them, repeat what brought no
//! answer (and sometimes what did), use a request id a second time by mistake, and remember what
//! they were told. What a client was told is the oracle: acknowledged means durable, refused means
//! that it never happened, unknown may be either, and never half.

use std::collections::BTreeMap;

use deptune_sweep::id::{ArtifactHash, RequestId, SweepId};
use deptune_sweep::outcome::SweepStatus;
use deptune_sweep::record::{SpaceText, Submission};
use deptune_sweep::scheduler::{Changes, Control};
use deptune_sweep::spec::Format;
use uuid::Uuid;

use super::child::STEPS;
use super::message::{ClientAnswer, Message, Peer, Request, Response, Ticket};
use super::profile::{LABEL, Size};
use super::rng::Rng;
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
    /// When it acts next; what was planned before does not happen.
    planned: u64,
    /// Its sweeps.
    sweeps: Vec<SweepId>,
    /// Changes that it will still make.
    pub(crate) changes: u64,
    /// Changes that were acknowledged.
    pub(crate) changed: Vec<Done>,
}

/// A change that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// Under which id.
    pub(crate) request_id: RequestId,
    /// Of which sweep.
    pub(crate) sweep: SweepId,
    /// What.
    pub(crate) control: Control,
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
    Control { done: Done, time: Time },
}

/// Which time a client sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// The first, and again until it is answered.
    First,
    /// Again although it was answered.
    Again,
    /// The first, under an id that was used for something else.
    Reused,
}

impl Client {
    /// A client that has not begun.
    #[must_use]
    pub(crate) fn new(sweeps: u64, changes: u64) -> Client {
        Client {
            left: sweeps,
            server: 0,
            task: Task::Idle,
            call: 0,
            told: BTreeMap::new(),
            planned: 0,
            sweeps: Vec::new(),
            changes,
            changed: Vec::new(),
        }
    }

    /// Whether everything was submitted and nothing waits for an answer.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.changes == 0 && matches!(self.task, Task::Idle)
    }
}

impl World {
    /// The client acts in this many milliseconds, and not before.
    pub(crate) fn plan_client(&mut self, k: usize, wait: u64) {
        self.clients[k].planned = self.queue.now() + wait;
        self.queue.after(wait, Happening::Client(k));
    }

    /// The client does the next thing, or repeats what brought no answer.
    pub(crate) fn client_acts(&mut self, k: usize) {
        if self.clients[k].planned != self.queue.now() {
            return;
        }
        if let Task::Idle = self.clients[k].task {
            let Some(task) = self.next_task(k) else { return };
            self.clients[k].task = task;
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
            Task::Control { done: Done { request_id, sweep, control }, .. } => {
                let (request_id, sweep, control) = (*request_id, *sweep, control.clone());
                let content = ArtifactHash::of(format!("{sweep} {control:?}").as_bytes());
                Request::Control { request_id, content, sweep, control }
            }
            Task::Idle => return,
        };
        self.queue.at(at + TIMEOUT, Happening::ClientTimeout(k, client.call));
        self.transmit(Message::Up { to, ticket, request, timeout: TIMEOUT });
    }

    /// What the client does next; `None`: nothing more.
    fn next_task(&mut self, k: usize) -> Option<Task> {
        let rng = &mut self.chance.client;
        let client = &mut self.clients[k];
        let changes = client.changes > 0 && !client.sweeps.is_empty();
        if client.left > 0 && (!changes || rng.per_mille(500)) {
            client.left -= 1;
            let request_id = RequestId(Uuid::from_u128(rng.u128()));
            let trials = rng.within(self.profile.trials.0, self.profile.trials.1);
            let submission = Box::new(submission(trials, &limits(rng, self.profile.size)));
            return Some(Task::Submit { request_id, submission });
        }
        let sweep = if changes {
            client.changes -= 1;
            client.sweeps[rng.index(client.sweeps.len())]
        } else {
            client.changes = 0;
            // It looks from time to time whether something that it paused was forgotten.
            let status = |id: &SweepId| self.checks.ledger.sweeps.get(id).map(|s| s.record.status);
            let running = |id: &&SweepId| status(id).is_some_and(|s| !s.is_over());
            let paused = |id: &&SweepId| status(id) == Some(SweepStatus::Paused);
            let sweep = client.sweeps.iter().find(paused).copied().filter(|_| !self.faulty);
            let Some(sweep) = sweep else {
                if self.faulty || client.sweeps.iter().any(|id| running(&id)) {
                    self.plan_client(k, 60_000);
                }
                return None;
            };
            let request_id = RequestId(Uuid::from_u128(rng.u128()));
            let done = Done { request_id, sweep, control: Control::Resume };
            return Some(Task::Control { done, time: Time::First });
        };
        let control = match rng.below(15) {
            12 | 13 if !client.changed.is_empty() => {
                let done = client.changed[rng.index(client.changed.len())].clone();
                return Some(Task::Control { done, time: Time::Again });
            }
            14 if !client.changed.is_empty() => {
                let used = &client.changed[rng.index(client.changed.len())];
                let other =
                    if used.control == Control::Resume { Control::Pause } else { Control::Resume };
                let told =
                    client.told.iter().find(|(_, told)| matches!(told, Told::Acknowledged(_)));
                let submitted = told.map(|(id, _)| *id).filter(|_| rng.per_mille(300));
                let request_id = submitted.unwrap_or(used.request_id);
                let done = Done { request_id, sweep: used.sweep, control: other };
                return Some(Task::Control { done, time: Time::Reused });
            }
            0 | 1 => Control::Cancel,
            2 | 3 => Control::Pause,
            4 => Control::Resume,
            5 | 6 => Control::Change(change(rng)),
            7 | 8 => Control::Retry(Vec::new()),
            9 if rng.per_mille(500) => Control::Change(more_space(rng)),
            9 => {
                let add_seeds = vec![rng.within(1, 2 * self.profile.trials.1)];
                Control::Change(Changes { add_seeds, ..Changes::default() })
            }
            10 => Control::CancelTrial(rng.below(self.profile.trials.1)),
            _ => Control::Delete { answer: String::new() },
        };
        let request_id = RequestId(Uuid::from_u128(rng.u128()));
        Some(Task::Control { done: Done { request_id, sweep, control }, time: Time::First })
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
                client.sweeps.push(sweep);
                client.task = Task::Idle;
                let wait = if self.faulty { self.chance.client.within(0, 20_000) } else { wait };
                self.plan_client(k, wait);
                return;
            }
            (Task::Control { done, time }, ClientAnswer::Sweep(_)) => {
                let (Done { request_id, sweep, control }, time) = (done.clone(), *time);
                let (name, cancels) = (counted(&control), control == Control::Cancel);
                client.task = Task::Idle;
                match time {
                    Time::First => {
                        client.changed.push(Done { request_id, sweep, control });
                        self.counters.count(name);
                    }
                    Time::Again => self.counters.count("client: repeats what was done"),
                    Time::Reused => {
                        let words = format!("{request_id} is taken for {name} although it is used");
                        self.violation("I9", words);
                    }
                }
                let checked = self.checks.control_acknowledged(request_id, sweep, cancels);
                self.verdict(checked);
                self.plan_client(k, wait * 4);
                return;
            }
            // It cannot be done: so be it.
            (Task::Control { time, .. }, ClientAnswer::Declined(_)) => {
                let reused = *time == Time::Reused;
                client.task = Task::Idle;
                self.counters.count(if reused {
                    "client: uses a request id again"
                } else {
                    "client: is refused"
                });
                self.plan_client(k, wait);
                return;
            }
            (
                Task::Submit { request_id, .. },
                ClientAnswer::Refused(_) | ClientAnswer::Declined(_),
            ) => {
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
            (Task::Control { .. }, _) => {}
            (Task::Idle, _) => return,
        }
        let client = &mut self.clients[k];
        client.server = (client.server + 1) % self.processes.len();
        self.counters.count("client: repeats a request");
        self.plan_client(k, wait);
    }
}

const CONFIG: &str = r#"{"model_type":"t5","d_model":64,"d_kv":16,"d_ff":128,"num_layers":2,
"num_decoder_layers":2,"num_heads":4,"vocab_size":384,"feed_forward_proj":"relu",
"dropout_rate":0.0,"layer_norm_epsilon":1e-6,"relative_attention_num_buckets":32,
"relative_attention_max_distance":128,"tie_word_embeddings":true,"decoder_start_token_id":0,
"pad_token_id":0,"eos_token_id":1}"#;

/// The name under which an acknowledged change is counted.
fn counted(control: &Control) -> &'static str {
    match control {
        Control::Cancel => "client: cancels",
        Control::Change(changes) if changes.add_space.is_some() => "client: adds a space",
        Control::Change(changes) if !changes.add_seeds.is_empty() => "client: adds seeds",
        Control::Pause => "client: pauses",
        Control::Resume => "client: resumes",
        Control::Change(_) => "client: changes limits",
        Control::Retry(_) => "client: retries",
        Control::CancelTrial(_) => "client: cancels a trial",
        Control::Delete { .. } => "client: deletes",
    }
}

/// One rate that the grid may have, and sometimes other batches than the grid's.
fn more_space(rng: &mut Rng) -> Changes {
    let rate = 0.1 + rng.below(8) as f64 * 1e-4;
    let batches = if rng.per_mille(500) { "batch_size = 4\n" } else { "" };
    let text = format!("[space]\nprompt_lr = {rate:.4}\nseeds = [1, 2, 3]\n{batches}");
    let add_space = Some(SpaceText { text, format: Format::Toml });
    Changes { add_space, ..Changes::default() }
}

/// Other limits.
fn change(rng: &mut Rng) -> Changes {
    let n = |rng: &mut Rng, most| u32::try_from(rng.within(1, most)).unwrap_or(1);
    match rng.below(4) {
        0 => Changes { weight: Some(n(rng, 3)), ..Changes::default() },
        1 => {
            let priority = rng.per_mille(500).into();
            Changes { priority: Some(priority), ..Changes::default() }
        }
        2 => {
            let most = rng.per_mille(700).then(|| n(rng, 6));
            Changes { max_parallel: Some(most), ..Changes::default() }
        }
        _ => {
            let budget = rng.per_mille(700).then(|| rng.within(20_000, 200_000));
            Changes { budget: Some(budget), ..Changes::default() }
        }
    }
}

/// The section of a spec's limits.
fn limits(rng: &mut Rng, size: Size) -> String {
    let mut lines = String::from("max_attempts = 3\n");
    if size != Size::Large && rng.per_mille(250) {
        lines.push_str(&format!("max_parallel = {}\n", rng.within(1, 6)));
    }
    if rng.per_mille(250) {
        lines.push_str(&format!("weight = {}\n", rng.within(1, 3)));
    }
    if size != Size::Large && rng.per_mille(150) {
        lines.push_str("priority = 1\n");
    }
    if size == Size::Small && rng.per_mille(200) {
        let hours = rng.within(20, 200) as f64 / 3600.0;
        lines.push_str(&format!("budget_gpu_hours = {hours}\n"));
    }
    if size != Size::Large && rng.per_mille(200) {
        lines.push_str(&format!("[requires]\nlabels = [\"{LABEL}\"]\n"));
    }
    lines
}

/// A sweep of about so many trials: where there are several, some share a seed and may train as a
/// pack.
fn submission(trials: u64, limits: &str) -> Submission {
    let rates = if trials > 1_000 { trials / 500 } else { 1 + trials % 5 };
    let seeds = (trials / rates).max(1);
    let rates: Vec<String> = (0..rates).map(|n| format!("{:.4}", 0.1 + n as f64 * 1e-4)).collect();
    let seeds: Vec<String> = (1..=seeds).map(|n| n.to_string()).collect();
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
