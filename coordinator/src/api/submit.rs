//! Submitting sweeps.

use deptune_proto::convert::NewSweep;
use deptune_sweep::id::SweepId;
use deptune_sweep::record::{SOURCE, Submission, SubmissionError};
use deptune_sweep::scheduler::{Event, Reply};
use deptune_sweep::spec::{Diagnostics, Format, Spec, name_problem};

use super::error::{Error, MissingFile};
use super::{Api, SweepSummary};
use crate::artifact::Held;
use crate::runtime;

impl Api {
    /// Accepts a sweep: every problem of the spec is named, and everything that its trials will
    /// fetch by hash must be here.
    pub(crate) async fn submit(&self, sweep: NewSweep) -> Result<SweepSummary, Error> {
        let NewSweep { request_id, submission } = sweep;
        // Known before: whatever has become of its files since.
        let hash = submission.hash();
        let look = self.handle.look(move |s| s.submitted_before(request_id, &hash));
        if let Some(before) = look.await? {
            return self.replied_sweep(before.map_err(runtime::Error::Refused)?).await;
        }
        let spec = submission.parse().map_err(|error| match error {
            SubmissionError::Spec(diagnostics) => Error::Spec(diagnostics),
            SubmissionError::Model(error) => Error::ModelConfig(error),
        })?;
        let format = submission.format.parse().unwrap_or(Format::Toml);
        if let Some(problem) = name_problem(&submission.spec, format, &spec.name) {
            return Err(Error::Spec(Diagnostics(vec![problem])));
        }
        check_data_listed(&spec, &submission)?;
        // Held until the store knows them.
        let _held = self.hold_files(&submission)?;
        let event = Event::Submit { request_id, submission, spec: Box::new(spec) };
        let reply = self.handle.request(event).await?;
        self.replied_sweep(reply).await
    }

    /// What the submitter of a sweep should know, for people.
    pub(crate) async fn warnings(&self, sweep: SweepId) -> Result<Vec<String>, Error> {
        let found = self.handle.look(move |scheduler| scheduler.unplaced(sweep)).await?;
        Ok(found.map(|why| format!("its trials wait: {why}")).into_iter().collect())
    }

    pub(super) async fn replied_sweep(&self, reply: Reply) -> Result<SweepSummary, Error> {
        let id = if let Reply::Sweep(id) = reply { id } else { SweepId::default() };
        self.summary(id).await
    }

    fn hold_files(&self, submission: &Submission) -> Result<Vec<Held>, Error> {
        let (mut files, mut missing) = (Vec::new(), Vec::new());
        for data in &submission.data {
            // A file of another size under this hash cannot be: the size is part of the claim.
            match self.artifacts.hold(&data.hash)? {
                Some(held) if held.size == data.size => files.push(held),
                _ => missing.push(MissingFile { name: data.name.clone(), hash: data.hash.clone() }),
            }
        }
        if submission.model_uploaded {
            for (at, file) in submission.model_files.iter().enumerate() {
                let hash = deptune_proto::convert::hash(&file.hash, "hash")
                    .map_err(|e| e.within(&format!("model_files[{at}]")))?;
                match self.artifacts.hold(&hash)? {
                    Some(held) => files.push(held),
                    None => missing.push(MissingFile { name: file.name.clone(), hash }),
                }
            }
        }
        if missing.is_empty() { Ok(files) } else { Err(Error::Missing(missing)) }
    }
}

fn check_data_listed(spec: &Spec, submission: &Submission) -> Result<(), Error> {
    let task = &spec.task;
    let splits = [("train", &task.train), ("validation", &task.validation), ("test", &task.test)];
    for (split, names) in splits {
        let listed = |name: &&String| {
            submission.data.iter().any(|data| data.split == split && data.name == **name)
        };
        if let Some(name) = names.iter().find(|name| !listed(name)) {
            return Err(Error::DataNotListed { split, name: name.clone() });
        }
    }
    for name in spec.space.source.iter().flatten() {
        if !submission.has_source(name) {
            return Err(Error::DataNotListed { split: SOURCE, name: name.clone() });
        }
    }
    // Which files a dataset has, the submitter knows.
    if task.dataset.is_some() && !submission.data.iter().any(|data| data.split == "train") {
        return Err(Error::DataNotListed { split: "train", name: "dataset".to_owned() });
    }
    Ok(())
}
