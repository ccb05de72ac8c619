//! A store in a few maps that refuses what a real one refuses.

use std::collections::BTreeMap;

use crate::id::{ArtifactHash, RequestId, SweepId, TrialId, WorkerId};
use crate::record::{
    AttemptEnd, DeletedRecord, LogEntry, OutcomeRecord, PackLimit, PackMemory, Phase,
    RequestRecord, SpaceRecord, Submission, SweepRecord, TrialRecord, WorkerRecord,
};
use crate::scheduler::{LeaseKey, Snapshot, Write};

const SPEC: &str = r#"
name = "world"
[model]
path = "model"
[task]
name = "sst2"
train = "train.tsv"
[method]
kind = "dept"
[space]
prompt_lr = [0.3, 0.4]
lowrank_lr = [1e-4, 5e-4]
prompt_length = [4]
rank = [3]
seeds = [1, 2, 3]
[train]
steps = 100
batch_size = 8
max_length = 32
warmup_steps = 10
eval_every = 25
"#;

const CONFIG: &str = r#"{"model_type":"t5","d_model":64,"d_kv":16,"d_ff":128,"num_layers":2,
"num_decoder_layers":2,"num_heads":4,"vocab_size":384,"feed_forward_proj":"relu",
"dropout_rate":0.0,"layer_norm_epsilon":1e-6,"relative_attention_num_buckets":32,
"relative_attention_max_distance":128,"tie_word_embeddings":true,"decoder_start_token_id":0,
"pad_token_id":0,"eos_token_id":1}"#;

/// A sweep of twelve trials, with extra lines for the spec.
pub(super) fn submission(extra: &str) -> Submission {
    Submission {
        spec: format!("{SPEC}{extra}"),
        format: "toml".to_owned(),
        model_config: CONFIG.to_owned(),
        model_dir: None,
        model_files: Vec::new(),
        model_uploaded: false,
        model_hub: None,
        data: Vec::new(),
    }
}

pub(super) fn request(n: u128) -> RequestId {
    RequestId(uuid::Uuid::from_u128(n))
}

pub(super) fn worker(n: u128) -> WorkerId {
    WorkerId(uuid::Uuid::from_u128(n))
}

/// What a store would hold.
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    pub(super) sweeps: BTreeMap<SweepId, SweepRecord>,
    pub(super) trials: BTreeMap<TrialId, TrialRecord>,
    pub(super) outcomes: BTreeMap<TrialId, OutcomeRecord>,
    pub(super) attempts: BTreeMap<LeaseKey, Option<AttemptEnd>>,
    /// Steps of the attempts that ended.
    pub(super) steps: BTreeMap<LeaseKey, u64>,
    pub(super) workers: BTreeMap<WorkerId, WorkerRecord>,
    pub(super) requests: BTreeMap<RequestId, RequestRecord>,
    pub(super) deleted: BTreeMap<SweepId, DeletedRecord>,
    pub(super) spaces: Vec<SpaceRecord>,
    pub(super) pack_limits: BTreeMap<(ArtifactHash, String), u32>,
    pub(super) pack_memories: BTreeMap<(ArtifactHash, String, u32), PackMemory>,
    /// How often what packs took was written.
    pub(super) measured: usize,
    pub(super) stale: usize,
    pub(super) last_cursor: u64,
    pub(super) log: Vec<LogEntry>,
}

impl Model {
    /// Applies one transaction; panics where a real store would refuse it.
    pub(super) fn commit(&mut self, writes: &[Write]) {
        for write in writes {
            self.apply(write);
        }
        for (id, outcome) in &self.outcomes {
            let trial = &self.trials[id];
            assert_eq!(trial.phase, Phase::Ended { outcome: outcome.outcome }, "{id}");
            assert_eq!(trial.epoch, outcome.epoch, "I2: epoch of the outcome of {id}");
        }
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Sweep(record) => {
                assert!(self.sweeps.insert(record.id, (**record).clone()).is_none());
            }
            Write::NextIndex { sweep, next_index } => {
                let sweep = self.sweeps.get_mut(sweep).unwrap();
                assert!(*next_index >= sweep.next_index);
                sweep.next_index = *next_index;
            }
            Write::SweepStatus { sweep, status, finished } => {
                let sweep = self.sweeps.get_mut(sweep).unwrap();
                sweep.status = *status;
                sweep.finished = *finished;
            }
            Write::SweepTotal { sweep, total } => {
                let sweep = self.sweeps.get_mut(sweep).unwrap();
                assert!(*total > sweep.total);
                sweep.total = *total;
            }
            Write::Controls { sweep, controls } => {
                self.sweeps.get_mut(sweep).unwrap().controls = Some(*controls);
            }
            Write::Used { sweep, used } => {
                let sweep = self.sweeps.get_mut(sweep).unwrap();
                assert!(*used > sweep.used);
                sweep.used = *used;
            }
            Write::Request(record) => {
                assert!(self.requests.insert(record.id, record.clone()).is_none());
            }
            Write::DeleteSweep { sweep, .. } => {
                let gone = self.sweeps.remove(sweep).unwrap();
                self.spaces.retain(|space| space.sweep != *sweep);
                self.trials.retain(|id, _| id.sweep != *sweep);
                self.outcomes.retain(|id, _| id.sweep != *sweep);
                self.attempts.retain(|lease, _| lease.trial.sweep != *sweep);
                let spec_hash = Some(gone.spec_hash);
                let record = DeletedRecord { id: *sweep, request_id: gone.request_id, spec_hash };
                self.deleted.insert(*sweep, record);
            }
            Write::Space { record, .. } => self.spaces.push(record.clone()),
            Write::PackLimit { limit, .. } => {
                let key = (limit.shape.clone(), limit.device.clone());
                let before = self.pack_limits.insert(key, limit.members);
                assert!(before.is_none_or(|before| limit.members < before));
            }
            Write::PackMemory { memory, .. } => {
                let key = (memory.shape.clone(), memory.device.clone(), memory.members);
                let before = self.pack_memories.insert(key, memory.clone());
                assert!(before.is_none_or(|before| memory.outdoes(&before)));
                self.measured += 1;
            }
            Write::NewTrial { record, .. } => {
                assert!(self.trials.insert(record.id, record.clone()).is_none());
            }
            Write::Trial(record) => {
                let held = self.trials.get_mut(&record.id).unwrap();
                assert!(record.epoch >= held.epoch, "I3: epochs never fall");
                assert!(!matches!(held.phase, Phase::Ended { .. }), "I1: an end is final");
                *held = record.clone();
            }
            Write::AttemptStarted(record) => {
                let key = LeaseKey { trial: record.id, epoch: record.epoch };
                self.attempts.insert(key, None);
            }
            Write::AttemptProgress { lease, .. } => assert!(self.attempts.contains_key(lease)),
            Write::AttemptEnded { lease, end, last_step, .. } => {
                *self.attempts.get_mut(lease).unwrap() = Some(*end);
                self.steps.insert(*lease, *last_step);
            }
            Write::Outcome(record) => {
                assert_eq!(self.trials[&record.id].epoch, record.epoch, "I2");
                let before = self.outcomes.insert(record.id, (**record).clone());
                assert!(before.is_none(), "I1: a second outcome for {}", record.id);
            }
            Write::Evaluation { lease, .. } => assert!(self.attempts.contains_key(lease)),
            Write::Worker(record) => {
                self.workers.insert(record.id, record.clone());
            }
            Write::WorkerLeft { worker, .. } => {
                assert!(self.workers.remove(worker).is_some());
            }
            Write::StaleReport { .. } => self.stale += 1,
            Write::Log(record) => {
                assert!(record.cursor > self.last_cursor, "cursors rise");
                self.last_cursor = record.cursor;
                self.log.push(record.what.clone());
            }
        }
    }

    /// What a restart would find.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            sweeps: self.sweeps.values().cloned().collect(),
            spaces: self.spaces.clone(),
            trials: self.trials.values().cloned().collect(),
            reporters: self
                .outcomes
                .values()
                .filter_map(|o| o.worker.map(|worker| (o.id, worker)))
                .collect(),
            workers: self.workers.values().cloned().collect(),
            requests: self.requests.values().cloned().collect(),
            deleted: self.deleted.values().cloned().collect(),
            pack_limits: (self.pack_limits.iter())
                .map(|((shape, device), &members)| PackLimit {
                    shape: shape.clone(),
                    device: device.clone(),
                    members,
                })
                .collect(),
            pack_memories: self.pack_memories.values().cloned().collect(),
            last_cursor: self.last_cursor,
        }
    }
}
