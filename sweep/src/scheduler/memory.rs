//! How many trials of a pack a slot's memory holds: by an estimate, by what packs like it took, and
//! by those that ran out.

use std::collections::BTreeMap;

use crate::id::{ArtifactHash, TrialId};
use crate::record::{PackLimit, PackMemory, SlotRecord};
use crate::scheduler::event::{Now, Step, Write};
use crate::scheduler::state::{Scheduler, Sweep};
use crate::spec::Settings;

/// A shape and a device.
type Key = (ArtifactHash, String);

/// What was learnt of packs, by shape and device.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// Most trials of a pack where one ran out of memory.
    limits: BTreeMap<Key, u32>,
    /// What packs took, by their number of trials.
    measured: BTreeMap<Key, BTreeMap<u32, PackMemory>>,
}

impl Learnt {
    /// What the store knows. What cannot be is passed over.
    pub(super) fn restore(limits: Vec<PackLimit>, measured: Vec<PackMemory>) -> Learnt {
        let limits = limits.into_iter().map(|it| ((it.shape, it.device), it.members));
        let mut learnt = Learnt { limits: limits.collect(), ..Learnt::default() };
        for memory in measured {
            learnt.learn(memory);
        }
        learnt
    }

    /// Remembers what a pack took, where that can be and says something new.
    fn learn(&mut self, memory: PackMemory) -> bool {
        if !memory.is_credible() {
            return false;
        }
        let key = (memory.shape.clone(), memory.device.clone());
        let sizes = self.measured.entry(key).or_default();
        let news = sizes.get(&memory.members).is_none_or(|known| memory.outdoes(known));
        if news {
            sizes.insert(memory.members, memory);
        }
        news
    }

    /// The first that cannot be.
    pub(super) fn contradiction(&self) -> Option<&PackMemory> {
        let sizes =
            self.measured.iter().flat_map(|(key, sizes)| sizes.iter().map(move |it| (key, it)));
        let wrong = |((shape, device), (members, it)): &(&Key, (&u32, &PackMemory))| {
            !it.is_credible() || (shape, device, *members) != (&it.shape, &it.device, &it.members)
        };
        sizes.into_iter().find(wrong).map(|(_, (_, it))| it)
    }
}

impl Scheduler {
    /// Most trials of the pack of `index` that fit into the memory of a slot, at least 1.
    pub(super) fn members_that_fit(&self, sweep: &Sweep, index: u64, slot: &SlotRecord) -> u32 {
        let Learnt { limits, measured } = &self.learnt;
        let Some(settings) = sweep.settings(index) else { return 1 };
        let (mut limit, mut known) = (None, None);
        if !limits.is_empty() || !measured.is_empty() {
            let key = (sweep.shape(&settings), slot.device.clone());
            (limit, known) = (limits.get(&key), measured.get(&key));
        }
        let mut most = limit.copied().unwrap_or(u32::MAX);
        if let (Some(memory), Some(model)) = (slot.memory, &sweep.model) {
            let ends =
                known.and_then(|sizes| sizes.values().next().zip(sizes.values().next_back()));
            most = most.min(match ends {
                Some((smallest, largest)) => {
                    settings.members_within_measured(model, slot, memory, smallest, largest)
                }
                None => settings.members_within(model, slot, memory),
            });
        }
        most.max(1)
    }

    /// The pack of a trial took so many bytes, says its holder: the next ones like it are sized by
    /// that.
    pub(super) fn note_memory(&mut self, id: TrialId, bytes: u64, now: Now, step: &mut Step) {
        let (Some(slot), Some(sweep)) = (self.slot_of(id), self.sweeps.get(&id.sweep)) else {
            return;
        };
        let trial = sweep.active.get(&id.index);
        let (Some(trial), Some(model), Some(settings)) =
            (trial, &sweep.model, sweep.settings(id.index))
        else {
            return;
        };
        let (shape, device) = (sweep.shape(&settings), slot.device.clone());
        let members = trial.pack_members;
        let estimated = settings.pack_bytes(model, slot, members);
        let memory = PackMemory { shape, device, members, bytes, estimated, trial: id };
        if self.learnt.learn(memory.clone()) {
            step.writes.push(Write::PackMemory { memory, at: now.wall });
        }
    }

    /// A pack of so many ran out of memory: the next ones like it are half as large.
    pub(super) fn halve_packs(&mut self, id: TrialId, members: u32, now: Now, step: &mut Step) {
        let (Some(slot), Some(sweep)) = (self.slot_of(id), self.sweeps.get(&id.sweep)) else {
            return;
        };
        let Some(settings) = sweep.settings(id.index) else { return };
        let (shape, device) = (sweep.shape(&settings), slot.device.clone());
        let members = (members / 2).max(1);
        let held = self.learnt.limits.entry((shape.clone(), device.clone())).or_insert(u32::MAX);
        if members < *held {
            *held = members;
            let limit = PackLimit { shape, device, members };
            step.writes.push(Write::PackLimit { limit, at: now.wall });
        }
    }

    /// The slot that a trial is leased to.
    fn slot_of(&self, id: TrialId) -> Option<&SlotRecord> {
        let holder = self.holder(id)?;
        self.workers.get(&holder.worker)?.record.slot(holder.slot)
    }

    /// What is known of the memory that packs take, by shape, device and number of trials.
    pub fn pack_memories(&self) -> impl Iterator<Item = &PackMemory> {
        self.learnt.measured.values().flat_map(BTreeMap::values)
    }
}

impl Sweep {
    /// A hash of what decides how much memory a trial of these settings needs.
    fn shape(&self, settings: &Settings) -> ArtifactHash {
        let t = &settings.train;
        let train = (
            settings.prompt_length,
            t.batch_size,
            t.eval_batch_size,
            t.max_length,
            t.precision.as_str(),
            t.activation_checkpointing,
        );
        ArtifactHash::of(format!("{}{train:?})", self.shape).as_bytes())
    }
}
