//! Data files of datasets.

use std::path::PathBuf;

use deptune_sweep::hub::{DEFAULT_REVISION, DatasetFile, DatasetName};
use deptune_sweep::task::Split;

use crate::cache::Repo;
use crate::listing::Listing;
use crate::{Error, Hub, Watch};

/// Where the hub keeps the parquet files that it makes of every dataset.
const CONVERTED: &str = "refs/convert/parquet";

/// Most files of one split.
const MAX_FILES: usize = 256;

/// The names that datasets give to a split; the first that is there counts.
const NAMES: [(Split, &[&str]); 3] = [
    (Split::Train, &["train"]),
    (Split::Validation, &["validation", "valid", "dev", "val"]),
    (Split::Test, &["test"]),
];

/// A split of a dataset and its files in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFiles {
    /// Which.
    pub split: Split,
    /// Its files, at a commit.
    pub files: Vec<DatasetFile>,
}

impl Hub {
    /// A file of a dataset in the cache, fetched if it is not there.
    ///
    /// # Errors
    /// When it can neither be found nor fetched, or is not what it should be.
    pub fn dataset_file(&self, file: &DatasetFile, watch: &dyn Watch) -> Result<PathBuf, Error> {
        let repo = Repo::dataset(&file.repo);
        let cached = || -> Option<PathBuf> {
            let commit = self.cache.commit(&repo, &file.revision)?;
            let path = self.cache.file(&repo, &commit, &file.path)?;
            self.is_sound(&path).ok()?.then_some(path)
        };
        if self.offline || deptune_sweep::hub::is_commit(&file.revision) {
            match cached() {
                Some(path) => return Ok(path),
                None if self.offline => return Err(self.not_cached(&file.to_string())),
                None => {}
            }
        }
        let listing = match self.list(&repo, &file.revision) {
            Ok(listing) => listing,
            Err(error) if error.is_unreachable() => return cached().ok_or(error),
            Err(error) => return Err(error),
        };
        let path = self.fetch(&repo, &listing, &file.path, watch)?;
        self.cache.set_commit(&repo, &file.revision, &listing.commit)?;
        Ok(path)
    }

    /// The splits of a dataset's configuration, from the parquet files that the hub makes of it:
    /// `CONFIG/SPLIT/NNNN.parquet`. Without `config`, the only one or `default`.
    ///
    /// # Errors
    /// When the hub has no such files, or not all of them.
    pub fn dataset_splits(
        &self,
        name: &DatasetName,
        config: Option<&str>,
    ) -> Result<Vec<SplitFiles>, Error> {
        let repo = Repo::dataset(&name.repo);
        let revision = name.revision.as_deref().filter(|r| *r != DEFAULT_REVISION);
        let revision = revision.unwrap_or(CONVERTED);
        let (commit, paths) = if self.offline {
            self.cached_paths(&repo, revision)?
        } else {
            match self.list(&repo, revision) {
                Ok(Listing { commit, files }) => {
                    self.cache.set_commit(&repo, revision, &commit)?;
                    (commit, files.into_keys().collect())
                }
                Err(error) if error.is_unreachable() => {
                    self.cached_paths(&repo, revision).map_err(|_| error)?
                }
                Err(Error::UnknownRevision { .. }) => {
                    return Err(no_splits(name, format!("'{}' has no parquet files", name.repo)));
                }
                Err(error) => return Err(error),
            }
        };
        splits(name, config, &commit, &paths)
    }

    /// The paths of a commit that are in the cache.
    fn cached_paths(&self, repo: &Repo, revision: &str) -> Result<(String, Vec<String>), Error> {
        let missing = || self.not_cached(&format!("{}@{revision}", repo.name));
        let commit = self.cache.commit(repo, revision).ok_or_else(missing)?;
        let root = self.cache.snapshot(repo, &commit);
        let mut paths = Vec::new();
        // CONFIG/SPLIT/FILE
        let mut waiting = vec![(root.clone(), 0)];
        while let Some((dir, depth)) = waiting.pop() {
            for entry in std::fs::read_dir(&dir).map_err(|_| missing())?.flatten() {
                let path = entry.path();
                if path.is_dir() && depth < 2 {
                    waiting.push((path, depth + 1));
                } else if let Some(below) = path.strip_prefix(&root).ok().and_then(|p| p.to_str()) {
                    paths.push(below.to_owned());
                }
            }
        }
        Ok((commit, paths))
    }
}

fn splits(
    name: &DatasetName,
    config: Option<&str>,
    commit: &str,
    paths: &[String],
) -> Result<Vec<SplitFiles>, Error> {
    let parts = |path: &str| -> Option<(String, String)> {
        let (config, rest) = path.split_once('/')?;
        let (split, file) = rest.split_once('/')?;
        (file.ends_with(".parquet") && !file.contains('/'))
            .then(|| (config.to_owned(), split.to_owned()))
    };
    let mut configs: Vec<String> =
        paths.iter().filter_map(|path| parts(path)).map(|(config, _)| config).collect();
    configs.sort_unstable();
    configs.dedup();
    let chosen = match config {
        Some(config) => configs.iter().find(|known| *known == config),
        None if configs.len() == 1 => configs.first(),
        None => configs.iter().find(|known| *known == "default"),
    };
    let Some(chosen) = chosen else {
        let asked = config.map_or_else(
            || format!("'{}' needs dataset_config", name.repo),
            |config| format!("'{}' has no configuration '{config}'", name.repo),
        );
        let known = if configs.is_empty() { "none".to_owned() } else { configs.join(", ") };
        return Err(no_splits(name, format!("{asked}: it has {known}")));
    };
    let mut found = Vec::new();
    for (split, names) in NAMES {
        let of = |wanted: &str| {
            let mut files: Vec<&String> = paths
                .iter()
                .filter(|path| parts(path) == Some((chosen.clone(), wanted.to_owned())))
                .collect();
            files.sort_unstable();
            files
        };
        if !of(&format!("partial-{}", split.name())).is_empty() {
            let what = format!("the hub converted only a part of '{}'", name.repo);
            return Err(no_splits(name, what));
        }
        let files = names.iter().map(|name| of(name)).find(|files| !files.is_empty());
        let files = files.unwrap_or_default();
        if files.len() > MAX_FILES {
            let what = format!("'{}' has {} files for {split}", name.repo, files.len());
            return Err(no_splits(name, what));
        }
        if !files.is_empty() {
            let file = |path: &String| DatasetFile {
                repo: name.repo.clone(),
                revision: commit.to_owned(),
                path: path.clone(),
            };
            found.push(SplitFiles { split, files: files.into_iter().map(file).collect() });
        }
    }
    if !found.iter().any(|part| part.split == Split::Train) {
        return Err(no_splits(name, format!("'{}' has no split 'train'", name.repo)));
    }
    Ok(found)
}

fn no_splits(name: &DatasetName, what: String) -> Error {
    Error::NoSplits { repo: name.repo.clone(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1";

    fn found(config: Option<&str>, paths: &[&str]) -> Result<Vec<(Split, Vec<String>)>, String> {
        let name = DatasetName::parse("nyu-mll/glue").unwrap();
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        match splits(&name, config, COMMIT, &paths) {
            Ok(found) => Ok(found
                .into_iter()
                .map(|part| (part.split, part.files.into_iter().map(|f| f.path).collect()))
                .collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn splits_are_found_by_their_folders() {
        let paths = [
            "README.md",
            "rte/train/0001.parquet",
            "rte/train/0000.parquet",
            "rte/validation/0000.parquet",
            "sst2/train/0000.parquet",
        ];
        let rte = found(Some("rte"), &paths).unwrap();
        assert_eq!(rte[0].0, Split::Train);
        assert_eq!(rte[0].1, ["rte/train/0000.parquet", "rte/train/0001.parquet"]);
        assert_eq!(rte[1], (Split::Validation, vec!["rte/validation/0000.parquet".to_owned()]));
        assert_eq!(rte.len(), 2);
        let error = found(None, &paths).unwrap_err();
        assert!(error.contains("needs dataset_config: it has rte, sst2"), "{error}");
        let error = found(Some("mnli"), &paths).unwrap_err();
        assert!(error.contains("no configuration 'mnli'") && error.contains("hf://"), "{error}");
        let error = found(None, &["x/partial-train/0000.parquet"]).unwrap_err();
        assert!(error.contains("only a part"), "{error}");
        assert!(found(None, &["x/test/0.parquet"]).unwrap_err().contains("no split 'train'"));
    }
}
