//! Reading sweeps and their results.

use std::sync::Arc;

use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::record::{SpaceText, SweepRecord};
use deptune_sweep::scheduler::Scheduler;

use super::error::Error;
use super::page;
use super::{
    Api, AttemptRow, EvaluationRow, LeaderboardRow, Paged, SweepFilter, SweepSummary, TrialRow,
};
use crate::store::EvaluationKey;

/// Bytes of a trial's or an evaluation's row without its texts, generously.
const ROW_BYTES: usize = 1024;

impl Api {
    /// The sweep that a caller means.
    pub(super) async fn find(&self, sweep: &str) -> Result<SweepId, Error> {
        let found = self.store.find_sweep(sweep).await?;
        found.ok_or_else(|| Error::UnknownSweep(sweep.to_owned()))
    }

    pub(super) async fn summary(&self, sweep: SweepId) -> Result<SweepSummary, Error> {
        let summary = self.store.sweep(sweep).await?;
        summary.ok_or_else(|| Error::UnknownSweep(sweep.to_string()))
    }

    /// A sweep, as it was submitted, and the spaces that were added to it.
    pub(crate) async fn sweep(
        &self,
        sweep: &str,
    ) -> Result<(SweepSummary, Arc<SweepRecord>, Vec<SpaceText>), Error> {
        let id = self.find(sweep).await?;
        let look = move |scheduler: &Scheduler| Some((scheduler.record(id)?, scheduler.spaces(id)));
        let found = self.handle.look(look).await?;
        let (record, spaces) = found.ok_or_else(|| Error::UnknownSweep(sweep.to_owned()))?;
        Ok((self.summary(id).await?, record, spaces))
    }

    /// Sweeps, the latest first.
    pub(crate) async fn sweeps(
        &self,
        filter: &SweepFilter,
        page_size: u32,
        token: &str,
    ) -> Result<Paged<SweepSummary>, Error> {
        let before = number(page::key("sweeps", token)?)?.map(SweepId);
        let found = self.store.sweeps(filter, before, page::size(page_size, 100)).await?;
        let next = found.items.last().filter(|_| found.more);
        let next = next.map(|last| page::token("sweeps", &last.id.to_string()));
        Ok(Paged { next: next.unwrap_or_default(), items: found.items })
    }

    /// Trials of a sweep, by index.
    pub(crate) async fn trials(
        &self,
        sweep: &str,
        page_size: u32,
        token: &str,
    ) -> Result<Paged<TrialRow>, Error> {
        let id = self.find(sweep).await?;
        let list = format!("trials.{id}");
        let after = number(page::key(&list, token)?)?;
        let mut found = self.store.trials(id, after, page::size(page_size, 100)).await?;
        let more = page::fit(&mut found, |row| row.message.len() + ROW_BYTES);
        let next = found.items.last().filter(|_| more);
        let next = next.map(|last| page::token(&list, &last.id.index.to_string()));
        Ok(Paged { next: next.unwrap_or_default(), items: found.items })
    }

    /// Attempts of a trial, by epoch. A trial that was never leased has none.
    pub(crate) async fn attempts(&self, trial: TrialId) -> Result<Vec<AttemptRow>, Error> {
        let sweep = self.store.sweep(trial.sweep).await?;
        if sweep.is_none_or(|sweep| trial.index >= sweep.trials) {
            return Err(Error::UnknownTrial(trial));
        }
        Ok(self.store.attempts(trial).await?)
    }

    /// The best configurations, and the selection metric's name.
    pub(crate) async fn leaderboard(
        &self,
        sweep: &str,
        limit: u32,
    ) -> Result<(Vec<LeaderboardRow>, String), Error> {
        let id = self.find(sweep).await?;
        let summary = self.summary(id).await?;
        let rows = self.store.leaderboard(id, page::size(limit, 20)).await?;
        Ok((rows, summary.metric_name))
    }

    /// Evaluations of a sweep or of one trial of it.
    pub(crate) async fn evaluations(
        &self,
        sweep: &str,
        trial: Option<TrialId>,
        page_size: u32,
        token: &str,
    ) -> Result<Paged<EvaluationRow>, Error> {
        let id = self.find(sweep).await?;
        if let Some(trial) = trial.filter(|trial| trial.sweep != id) {
            return Err(Error::UnknownTrial(trial));
        }
        let list = format!("evaluations.{id}");
        let after = match page::key(&list, token)? {
            None => None,
            Some(key) => Some(evaluation_key(&key).ok_or(Error::PageToken)?),
        };
        let index = trial.map(|trial| trial.index);
        let size = page::size(page_size, 1000);
        let mut found = self.store.evaluations(id, index, after, size).await?;
        let more = page::fit(&mut found, |row| {
            let metrics = row.evaluation.metrics.iter().chain(&row.evaluation.constant);
            metrics.map(|(name, _)| name.len() + 16).sum::<usize>() + ROW_BYTES
        });
        let next = found.items.last().filter(|_| more).map(|last| {
            let EvaluationKey { trial, step, split } = last.key();
            page::token(&list, &format!("{trial}/{step}/{split}"))
        });
        Ok(Paged { next: next.unwrap_or_default(), items: found.items })
    }

    /// Workers registered now, and their slots.
    pub(crate) async fn capacity(&self) -> Result<(u32, u32), Error> {
        Ok(self.handle.look(|scheduler| scheduler.capacity()).await?)
    }
}

fn number(key: Option<String>) -> Result<Option<u64>, Error> {
    key.map(|key| key.parse().map_err(|_| Error::PageToken)).transpose()
}

fn evaluation_key(key: &str) -> Option<EvaluationKey> {
    let mut parts = key.splitn(3, '/');
    Some(EvaluationKey {
        trial: parts.next()?.parse().ok()?,
        step: parts.next()?.parse().ok()?,
        split: parts.next()?.to_owned(),
    })
}
