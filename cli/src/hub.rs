//! What a spec names on the Hugging Face hub.

use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;

use deptune_hub::{Error, Hub, Settings, Watch};
use deptune_sweep::hub::{DatasetFile, DatasetName, HubModel, ModelName};
use deptune_sweep::task::Split;

use crate::output::progress::Bytes;
use crate::spec_file::chain;

/// Files below this many bytes are fetched without a word.
const SHOWN_FROM: u64 = 1 << 20;

/// Whether the commit that the cache knows for a branch is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The hub is asked only for what the cache lacks.
    Cached,
    /// The hub is asked which commit a branch is.
    Current,
}

/// The hub of the environment, opened when something of it is needed.
#[derive(Debug, Default)]
pub(crate) struct Lazy(OnceCell<Hub>);

/// Why something of the hub is not here: what is wrong, and what to do about it.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// What is wrong.
    pub(crate) message: String,
    /// The next step.
    pub(crate) hint: Option<String>,
    /// Whether the name may mean something else than a thing on the hub.
    pub(crate) may_be_elsewhere: bool,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        let text = chain(&error);
        let may_be_elsewhere = matches!(
            error,
            Error::UnknownRepo { .. } | Error::NotCached { .. } | Error::Unreachable { .. }
        );
        match text.split_once("; ") {
            Some((message, hint)) => Trouble {
                message: message.to_owned(),
                hint: Some(hint.to_owned()),
                may_be_elsewhere,
            },
            None => Trouble { message: text, hint: None, may_be_elsewhere },
        }
    }
}

impl Lazy {
    fn open(&self) -> Result<&Hub, Trouble> {
        if let Some(hub) = self.0.get() {
            return Ok(hub);
        }
        let settings = Settings::from_env().map_err(|error| Trouble {
            message: error.to_string(),
            hint: None,
            may_be_elsewhere: true,
        })?;
        let hub = Hub::new(settings)?;
        Ok(self.0.get_or_init(|| hub))
    }

    /// The commit and the text of `config.json` of a model.
    pub(crate) fn model_config(
        &self,
        name: &ModelName,
        freshness: Freshness,
    ) -> Result<(HubModel, String), Trouble> {
        let from_cache = freshness == Freshness::Cached;
        Ok(self.open()?.model_config(name, from_cache, &Shown::default())?)
    }

    /// The directory of a model whose files are all in the cache.
    pub(crate) fn cached_model(&self, model: &HubModel) -> Result<Option<PathBuf>, Trouble> {
        Ok(self.open()?.cached_model(model)?)
    }

    /// The directory of a model, fetched if it is not in the cache.
    pub(crate) fn model(&self, model: &HubModel) -> Result<PathBuf, Trouble> {
        Ok(self.open()?.model(model, &Shown::default())?)
    }

    /// A data file, fetched if it is not in the cache.
    pub(crate) fn data_file(&self, file: &DatasetFile) -> Result<PathBuf, Trouble> {
        Ok(self.open()?.dataset_file(file, &Shown::default())?)
    }

    /// The splits and files of a dataset, fetched where they are not in the cache.
    pub(crate) fn dataset(
        &self,
        name: &DatasetName,
        config: Option<&str>,
    ) -> Result<Vec<(Split, DatasetFile, PathBuf)>, Trouble> {
        let mut found = Vec::new();
        for part in self.open()?.dataset_splits(name, config)? {
            for file in part.files {
                let path = self.data_file(&file)?;
                found.push((part.split, file, path));
            }
        }
        Ok(found)
    }
}

/// Progress on standard error, for files that take a while.
#[derive(Default)]
struct Shown(RefCell<Option<(String, u64, Bytes)>>);

impl Watch for Shown {
    fn progress(&self, file: &str, done: u64, total: u64) {
        if total < SHOWN_FROM {
            return;
        }
        let mut shown = self.0.borrow_mut();
        match shown.as_mut() {
            Some((known, before, bar)) if known == file => {
                match done.checked_sub(*before) {
                    Some(more) => bar.forward(more),
                    None => bar.back(*before - done),
                }
                *before = done;
            }
            _ => {
                let bar = Bytes::new(&format!("fetching {file}:"), 1, total);
                bar.forward(done);
                *shown = Some((file.to_owned(), done, bar));
            }
        }
        if done == total
            && let Some((.., bar)) = shown.as_ref()
        {
            bar.finish();
        }
    }
}
