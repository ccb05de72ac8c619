//! What a revision holds.

use std::collections::BTreeMap;

use deptune_sweep::hub::{is_commit, is_path};
use serde::Deserialize;

use crate::cache::Repo;
use crate::hash::ContentHash;
use crate::{Error, Hub};

/// The files of one commit, by path.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    /// 40 hexadecimal digits.
    pub(crate) commit: String,
    /// Size in bytes and hash of each file.
    pub(crate) files: BTreeMap<String, Entry>,
}

/// What a file must be.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Bytes.
    pub(crate) size: u64,
    /// Of its content.
    pub(crate) hash: ContentHash,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Reads the hub's answer. Files without size or hash are left out: they could not be checked.
    fn parse(text: &[u8]) -> Result<Listing, String> {
        let info: Info = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if !is_commit(&info.sha) {
            return Err("a listing without a commit".to_owned());
        }
        let mut files = BTreeMap::new();
        for file in info.siblings {
            let entry = match (file.lfs, file.size, file.blob_id) {
                (Some(large), ..) => {
                    ContentHash::parse(&large.sha256).map(|hash| Entry { size: large.size, hash })
                }
                (None, Some(size), Some(id)) => {
                    ContentHash::parse(&id).map(|hash| Entry { size, hash })
                }
                _ => None,
            };
            if let Some(entry) = entry.filter(|_| is_path(&file.rfilename)) {
                files.insert(file.rfilename, entry);
            }
        }
        Ok(Listing { commit: info.sha, files })
    }

    /// What a file must be.
    pub(crate) fn entry(&self, repo: &Repo, path: &str) -> Result<&Entry, Error> {
        self.files.get(path).ok_or_else(|| Error::NoFile {
            repo: repo.name.clone(),
            revision: self.commit.clone(),
            file: path.to_owned(),
        })
    }
}

impl Hub {
    /// Asks the hub what a revision holds.
    pub(crate) fn list(&self, repo: &Repo, revision: &str) -> Result<Listing, Error> {
        let text = self.http.info(repo, revision)?;
        Listing::parse(&text).map_err(|what| Error::Answer { host: self.http.host(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_can_be_checked_are_listed() {
        let text = r#"{"id": "org/name", "sha": "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1",
            "siblings": [
              {"rfilename": "config.json", "size": 6,
               "blobId": "ce013625030ba8dba906f756967f9e9ca394464a"},
              {"rfilename": "model.safetensors", "size": 9,
               "blobId": "ce013625030ba8dba906f756967f9e9ca394464b",
               "lfs": {"size": 9, "pointerSize": 134, "sha256":
                 "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"}},
              {"rfilename": "../escape", "size": 6,
               "blobId": "ce013625030ba8dba906f756967f9e9ca394464a"},
              {"rfilename": "README.md"}
            ]}"#;
        let listing = Listing::parse(text.as_bytes()).unwrap();
        let names: Vec<&str> = listing.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["config.json", "model.safetensors"]);
        assert_eq!(listing.files["model.safetensors"].hash.as_str().len(), 64);
        assert!(Listing::parse(b"<html>").is_err());
        assert!(Listing::parse(br#"{"sha": "main", "siblings": []}"#).is_err());
    }
}
