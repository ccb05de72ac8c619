//! Models and data files from the Hugging Face hub.
//!
//! [`Hub`] finds files in the standard hub cache (`blobs`, `refs`, `snapshots`; Python's
//! `huggingface_hub` reads and writes the same one) and fetches what is missing. A download goes
//! on where an earlier one stopped, is checked against the hash that the hub's listing names, and
//! happens once per node however many processes ask for it. Only `config.json`, `tokenizer.json`
//! with its relatives and safetensors weights of a model are ever fetched; never pickle.
//!
//! Everything here blocks; asynchronous callers use a thread. [`Watch`] shows progress and stops a
//! download.
//!
//! ```no_run
//! use deptune_hub::{Hub, Settings, Silent};
//! use deptune_sweep::hub::ModelName;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::new(Settings::from_env()?)?;
//! let name = ModelName::parse("google-t5/t5-small", None).ok_or("no name of a model")?;
//! let (model, config) = hub.model_config(&name, false, &Silent)?;
//! println!("{} is at commit {}:\n{config}", model.repo, model.commit);
//! let directory = hub.model(&model, &Silent)?;
//! # Ok(())
//! # }
//! ```

mod cache;
mod dataset;
mod download;
mod error;
mod hash;
mod http;
mod listing;
mod model;
mod settings;
mod watch;

pub use dataset::SplitFiles;
pub use error::Error;
pub use settings::{Settings, SettingsError, Token};
pub use watch::{Silent, Watch};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cache::Cache;
use http::Http;

/// The hub and this machine's cache of it.
#[derive(Debug)]
pub struct Hub {
    cache: Cache,
    http: Http,
    offline: bool,
    /// Blobs whose content was hashed by this process, with what tells that they changed.
    verified: Mutex<BTreeMap<PathBuf, cache::Stamp>>,
}

impl Hub {
    /// The hub that `settings` name.
    ///
    /// # Errors
    /// When the endpoint is no http or https address.
    pub fn new(settings: Settings) -> Result<Hub, Error> {
        let cache = Cache::new(&settings.cache_dir);
        let offline = settings.offline;
        let http = Http::new(settings)?;
        Ok(Hub { cache, http, offline, verified: Mutex::default() })
    }

    /// Where the cache is.
    #[must_use]
    pub fn cache_dir(&self) -> &Path {
        self.cache.dir()
    }

    /// Whether nothing is asked of the network.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline
    }
}
