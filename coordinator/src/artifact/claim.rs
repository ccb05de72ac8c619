//! Files that somebody is about to name, and files that are about to be removed: never the same.
//!
//! Whoever removes a file first says so ([`Artifacts::leaving`](super::Artifacts::leaving)), and
//! only then asks the store whether anything refers to it. A claim in between keeps the file; one
//! that is held until the store knows the reference keeps it from leaving at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deptune_sweep::id::ArtifactHash;

/// Who wants which file. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(super) struct State {
    /// How many hold it.
    held: BTreeMap<ArtifactHash, usize>,
    /// About to be removed, and whether somebody has asked for it since.
    leaving: BTreeMap<ArtifactHash, bool>,
}

impl Claims {
    /// Nobody claims or removes anything while this is held.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Somebody asks for it: if it is about to be removed, it stays.
    pub(super) fn want(&mut self, hash: &ArtifactHash) {
        if let Some(wanted) = self.leaving.get_mut(hash) {
            *wanted = true;
        }
    }
}

/// A file that stays for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    claims: Claims,
    hash: ArtifactHash,
    /// Its bytes.
    pub(crate) size: u64,
}

impl Held {
    /// `state` is that of `claims`, whose lock the caller has.
    pub(super) fn new(claims: &Claims, state: &mut State, hash: &ArtifactHash, size: u64) -> Held {
        *state.held.entry(hash.clone()).or_default() += 1;
        Held { claims: claims.clone(), hash: hash.clone(), size }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.claims.lock();
        if let Some(count) = state.held.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.hash);
            }
        }
    }
}

/// A file that is about to be removed, unless somebody asks for it first.
#[derive(Debug)]
pub(crate) struct Leaving {
    claims: Claims,
    pub(super) hash: ArtifactHash,
}

impl Leaving {
    /// `None` when somebody holds it, or removes it already.
    pub(super) fn begin(claims: &Claims, hash: &ArtifactHash) -> Option<Leaving> {
        let mut state = claims.lock();
        if state.held.contains_key(hash) || state.leaving.contains_key(hash) {
            return None;
        }
        state.leaving.insert(hash.clone(), false);
        Some(Leaving { claims: claims.clone(), hash: hash.clone() })
    }

    /// Does `remove` if nobody has asked for the file since the beginning; nobody can meanwhile.
    pub(super) fn finish<E>(&self, remove: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        let state = self.claims.lock();
        if state.leaving.get(&self.hash) == Some(&false) { remove() } else { Ok(false) }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.claims.lock().leaving.remove(&self.hash);
    }
}
