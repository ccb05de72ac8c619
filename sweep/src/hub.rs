//! Names of things on the Hugging Face hub: models, and files of datasets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The revision that a name without one means.
pub const DEFAULT_REVISION: &str = "main";

/// What a dataset's file name begins with.
pub const FILE_SCHEME: &str = "hf://datasets/";

/// Longest name of a repository, in bytes.
const MAX_NAME: usize = 193;

/// Longest revision, in bytes.
const MAX_REVISION: usize = 256;

/// Longest path of a file in its repository, in bytes.
const MAX_PATH: usize = 1024;

/// A model's repository at one commit: the same files for everyone, always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubModel {
    /// `ORG/NAME`.
    pub repo: String,
    /// 40 hexadecimal digits.
    pub commit: String,
}

/// A model as a spec names it: `ORG/NAME` and a branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    /// `ORG/NAME`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
}

/// A dataset as a spec names it: `ORG/NAME` and a branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetName {
    /// `ORG/NAME`.
    pub repo: String,
    /// Branch, tag or commit; `None` where the name has none.
    pub revision: Option<String>,
}

/// One file of a dataset: `hf://datasets/ORG/NAME[@REVISION]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFile {
    /// `ORG/NAME`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Path in the repository.
    pub path: String,
}

impl ModelName {
    /// Reads `ORG/NAME` or `ORG/NAME@REVISION`, with the revision from the key `revision` where
    /// the text has none. `None` when the text cannot be a hub's name; it may be a directory's
    /// all the same.
    #[must_use]
    pub fn parse(text: &str, revision: Option<&str>) -> Option<ModelName> {
        let (repo, own) = split_revision(text)?;
        let revision = own.or(revision).unwrap_or(DEFAULT_REVISION);
        (is_repo(repo) && is_revision(revision))
            .then(|| ModelName { repo: repo.to_owned(), revision: revision.to_owned() })
    }

    /// Whether the revision is a commit, which never means another content.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.revision)
    }
}

impl DatasetName {
    /// Reads `ORG/NAME` or `ORG/NAME@REVISION`.
    #[must_use]
    pub fn parse(text: &str) -> Option<DatasetName> {
        let (repo, revision) = split_revision(text)?;
        is_repo(repo)
            .then(|| DatasetName { repo: repo.to_owned(), revision: revision.map(str::to_owned) })
    }
}

impl DatasetFile {
    /// Whether a data file's name means one on the hub.
    #[must_use]
    pub fn is_one(name: &str) -> bool {
        name.starts_with("hf://")
    }

    /// Reads `hf://datasets/ORG/NAME[@REVISION]/PATH`.
    #[must_use]
    pub fn parse(name: &str) -> Option<DatasetFile> {
        let rest = name.strip_prefix(FILE_SCHEME)?;
        let (org, rest) = rest.split_once('/')?;
        // A revision may hold slashes only where it is written as `%2F`.
        let (name, path) = rest.split_once('/')?;
        let (name, revision) = split_revision(name)?;
        let revision = revision.unwrap_or(DEFAULT_REVISION).replace("%2F", "/");
        let repo = format!("{org}/{name}");
        (is_repo(&repo) && is_revision(&revision) && is_path(path)).then(|| DatasetFile {
            repo,
            revision,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for DatasetFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.revision.replace('/', "%2F");
        write!(f, "{FILE_SCHEME}{}@{revision}/{}", self.repo, self.path)
    }
}

/// Whether a text is a whole commit hash: 40 lower-case hexadecimal digits.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text is `ORG/NAME` by the hub's rules.
#[must_use]
pub fn is_repo(text: &str) -> bool {
    let part = |part: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !part.is_empty()
            && part.bytes().all(fits)
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    text.len() <= MAX_NAME
        && text.split_once('/').is_some_and(|(org, name)| part(org) && part(name))
}

/// Whether a text can name a branch, tag or commit.
#[must_use]
pub fn is_revision(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    !text.is_empty() && text.len() <= MAX_REVISION && text.bytes().all(fits) && is_path(text)
}

/// Whether a text is a relative path that stays where it begins.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    text.len() <= MAX_PATH
        && !text.contains(|c: char| c.is_control() || c == '\\')
        && text.split('/').all(part)
}

fn split_revision(text: &str) -> Option<(&str, Option<&str>)> {
    match text.split_once('@') {
        None => Some((text, None)),
        Some((_, "")) => None,
        Some((name, revision)) => Some((name, Some(revision))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1";

    #[test]
    fn names_of_models() {
        let name = ModelName::parse("google-t5/t5-base", None).unwrap();
        assert_eq!((name.repo.as_str(), name.revision.as_str()), ("google-t5/t5-base", "main"));
        assert!(!name.is_pinned());
        let name = ModelName::parse("google-t5/t5-base", Some(COMMIT)).unwrap();
        assert!(name.is_pinned());
        assert_eq!(name.to_string(), format!("google-t5/t5-base@{COMMIT}"));
        let name = ModelName::parse("google/flan-t5-base@refs/pr/3", Some("main")).unwrap();
        assert_eq!(name.revision, "refs/pr/3");
        for wrong in [
            "t5-base",
            "/models/t5",
            "./t5",
            "../t5",
            "a/b/c",
            "a/b@",
            "a/b@..",
            "a/b@x/../y",
            "a/..",
            "a/b c",
            "a/b--c",
            "",
        ] {
            assert_eq!(ModelName::parse(wrong, None), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_files_of_datasets() {
        let file = DatasetFile::parse("hf://datasets/nyu-mll/glue/rte/train-0.parquet").unwrap();
        assert_eq!((file.repo.as_str(), file.revision.as_str()), ("nyu-mll/glue", "main"));
        assert_eq!(file.path, "rte/train-0.parquet");
        let text = "hf://datasets/nyu-mll/glue@refs%2Fconvert%2Fparquet/rte/train/0000.parquet";
        let file = DatasetFile::parse(text).unwrap();
        assert_eq!(file.revision, "refs/convert/parquet");
        assert_eq!(file.to_string(), text);
        for wrong in [
            "hf://nyu-mll/glue/x.parquet",
            "hf://datasets/glue/x.parquet",
            "hf://datasets/nyu-mll/glue",
            "hf://datasets/nyu-mll/glue/../x.parquet",
            "hf://datasets/nyu-mll/glue@/x.parquet",
        ] {
            assert_eq!(DatasetFile::parse(wrong), None, "{wrong}");
        }
    }
}
