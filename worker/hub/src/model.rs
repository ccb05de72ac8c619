//! The files that make a model.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use deptune_sweep::hub::{HubModel, ModelName};
use serde::Deserialize;

use crate::cache::Repo;
use crate::listing::Listing;
use crate::{Error, Hub, Watch};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Fetched where they exist.
const EXTRAS: [&str; 2] = ["tokenizer_config.json", "generation_config.json"];

/// Endings of weights that are pickled.
const PICKLED: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];

/// Largest `config.json` and largest index, in bytes.
const MAX_JSON: u64 = 16 << 20;

/// Most shards of one model.
const MAX_SHARDS: usize = 1024;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Hub {
    /// Which commit a model's name means now, and the text of its `config.json`, the only file
    /// that is fetched. With `from_cache` the hub is asked only for what the cache lacks. A
    /// repository without safetensors weights or `tokenizer.json` is refused.
    ///
    /// # Errors
    /// A name or revision that the hub does not know, a model that cannot be used, a hub that
    /// cannot be reached when the cache does not hold what was asked for.
    pub fn model_config(
        &self,
        name: &ModelName,
        from_cache: bool,
        watch: &dyn Watch,
    ) -> Result<(HubModel, String), Error> {
        let repo = Repo::model(&name.repo);
        let cached = || -> Option<(HubModel, String)> {
            let commit = self.cache.commit(&repo, &name.revision)?;
            let file = self.cache.file(&repo, &commit, CONFIG)?;
            let text = self.is_sound(&file).ok()?.then(|| read_text(&file).ok())??;
            Some((HubModel { repo: name.repo.clone(), commit }, text))
        };
        if self.offline || from_cache || name.is_pinned() {
            match cached() {
                Some(found) => return Ok(found),
                None if self.offline => return Err(self.not_cached(&name.to_string())),
                None => {}
            }
        }
        let listing = match self.list(&repo, &name.revision) {
            Ok(listing) => listing,
            Err(error) if error.is_unreachable() => {
                let found = cached().ok_or(error)?;
                tracing::warn!(
                    model = %name,
                    commit = found.0.commit,
                    "the hub cannot be reached; the commit is what it was at the last download"
                );
                return Ok(found);
            }
            Err(error) => return Err(error),
        };
        weights_of(&repo, &listing)?;
        listing.entry(&repo, TOKENIZER)?;
        let file = self.fetch(&repo, &listing, CONFIG, watch)?;
        self.cache.set_commit(&repo, &name.revision, &listing.commit)?;
        let text = read_text(&file)?;
        Ok((HubModel { repo: name.repo.clone(), commit: listing.commit }, text))
    }

    /// A directory with all files of a model: from the cache, or fetched.
    ///
    /// # Errors
    /// When a file can neither be found nor fetched, or is not what it should be.
    pub fn model(&self, model: &HubModel, watch: &dyn Watch) -> Result<PathBuf, Error> {
        if let Some(dir) = self.cached_model(model)? {
            return Ok(dir);
        }
        if self.offline {
            return Err(self.not_cached(&format!("{}@{}", model.repo, model.commit)));
        }
        let repo = Repo::model(&model.repo);
        let listing = self.list(&repo, &model.commit)?;
        if listing.commit != model.commit {
            let what = format!("commit {} for {}", listing.commit, model.commit);
            return Err(Error::Answer { host: self.http.host(), what });
        }
        let weights = weights_of(&repo, &listing)?;
        for name in [CONFIG, TOKENIZER, weights] {
            self.fetch(&repo, &listing, name, watch)?;
        }
        for name in EXTRAS.into_iter().filter(|name| listing.files.contains_key(*name)) {
            self.fetch(&repo, &listing, name, watch)?;
        }
        let dir = self.cache.snapshot(&repo, &model.commit);
        if weights == INDEX {
            for shard in shards(&model.repo, &dir.join(INDEX))? {
                self.fetch(&repo, &listing, &shard, watch)?;
            }
        }
        Ok(dir)
    }

    /// The directory of a model all of whose files are in the cache and sound.
    ///
    /// # Errors
    /// When the cache cannot be read, or is damaged and the hub may not be asked.
    pub fn cached_model(&self, model: &HubModel) -> Result<Option<PathBuf>, Error> {
        let repo = Repo::model(&model.repo);
        let dir = self.cache.snapshot(&repo, &model.commit);
        let mut names = vec![CONFIG.to_owned(), TOKENIZER.to_owned()];
        if dir.join(WEIGHTS).is_file() {
            names.push(WEIGHTS.to_owned());
        } else if dir.join(INDEX).is_file() {
            names.push(INDEX.to_owned());
            names.extend(shards(&model.repo, &dir.join(INDEX))?);
        } else {
            return Ok(None);
        }
        names.extend(EXTRAS.map(str::to_owned).into_iter().filter(|name| dir.join(name).exists()));
        if !names.iter().all(|name| dir.join(name).is_file()) {
            return Ok(None);
        }
        for name in &names {
            if self.is_sound(&dir.join(name))? {
                continue;
            }
            if self.offline {
                return Err(Error::Damaged { repo: model.repo.clone(), file: name.clone() });
            }
            return Ok(None);
        }
        Ok(Some(dir))
    }

    pub(crate) fn not_cached(&self, what: &str) -> Error {
        Error::NotCached { what: what.to_owned(), cache: self.cache_dir().to_owned() }
    }
}

/// The file that holds the weights, or names those that do.
fn weights_of(repo: &Repo, listing: &Listing) -> Result<&'static str, Error> {
    let found = [WEIGHTS, INDEX].into_iter().find(|name| listing.files.contains_key(*name));
    found.ok_or_else(|| {
        let pickled = |file: &&String| PICKLED.iter().any(|ending| file.ends_with(ending));
        match listing.files.keys().find(pickled) {
            Some(file) => Error::OnlyPickle { repo: repo.name.clone(), file: file.clone() },
            None => Error::NoFile {
                repo: repo.name.clone(),
                revision: listing.commit.clone(),
                file: WEIGHTS.to_owned(),
            },
        }
    })
}

/// The files that an index names.
fn shards(repo: &str, index: &Path) -> Result<BTreeSet<String>, Error> {
    let wrong =
        |what: &str| Error::Answer { host: format!("'{repo}'"), what: format!("{INDEX} {what}") };
    let index: Index = serde_json::from_str(&read_text(index)?)
        .map_err(|_| wrong("that is not a map from tensors to files"))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    let fits = |name: &String| name.ends_with(".safetensors") && !name.contains(['/', '\\']);
    if shards.is_empty() || shards.len() > MAX_SHARDS || !shards.iter().all(fits) {
        return Err(wrong("that names other files than safetensors beside it"));
    }
    Ok(shards)
}

fn read_text(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    file.take(MAX_JSON).read_to_string(&mut text).map_err(Error::io("read", path))?;
    Ok(text)
}
