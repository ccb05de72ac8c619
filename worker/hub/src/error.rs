//! What can go wrong between a name and its files.

use std::io;
use std::path::PathBuf;

/// Why a file of the hub is not here. What follows a semicolon says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is no address.
    #[error(
        "'{endpoint}' is no address of a hub; write HF_ENDPOINT like https://huggingface.co, or \
         leave it unset"
    )]
    Endpoint {
        /// As given.
        endpoint: String,
    },
    /// The hub does not know the repository, or does not say so to strangers.
    #[error(
        "the hub has no {kind} '{repo}' for you; check its name, and set HF_TOKEN if it is private"
    )]
    UnknownRepo {
        /// `model` or `dataset`.
        kind: &'static str,
        /// `ORG/NAME`.
        repo: String,
    },
    /// The repository is open only to those who accepted its terms.
    #[error(
        "'{repo}' is gated; accept its terms on its page on the hub, and set HF_TOKEN to a token \
         of that account"
    )]
    Gated {
        /// `ORG/NAME`.
        repo: String,
    },
    /// The hub refuses this token, or demands one.
    #[error(
        "the hub refuses access to '{repo}' (status {status}); set HF_TOKEN to a token that may read it"
    )]
    Refused {
        /// `ORG/NAME`.
        repo: String,
        /// HTTP status.
        status: u16,
    },
    /// The repository has no such branch, tag or commit.
    #[error("'{repo}' has no revision '{revision}'; give a branch, a tag or a whole commit hash")]
    UnknownRevision {
        /// `ORG/NAME`.
        repo: String,
        /// As given.
        revision: String,
    },
    /// The repository has no such file.
    #[error("'{repo}' has no file '{file}' at {revision}; look at its list of files on the hub")]
    NoFile {
        /// `ORG/NAME`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// Path in the repository.
        file: String,
    },
    /// The model's weights are pickled only.
    #[error(
        "'{repo}' has its weights only as {file}, which is never read because loading it can run \
         foreign code; choose a revision with model.safetensors (for many models a conversion \
         waits as refs/pr/N), or convert it with save_pretrained(safe_serialization=True) and \
         give the directory as path"
    )]
    OnlyPickle {
        /// `ORG/NAME`.
        repo: String,
        /// The pickled file.
        file: String,
    },
    /// Nothing may be asked of the network, and the cache lacks something.
    #[error(
        "{what} is not in the hub cache {}, and HF_HUB_OFFLINE is set; fetch it on a machine that \
         reaches the hub, with the same HF_HOME",
        cache.display()
    )]
    NotCached {
        /// What is missing.
        what: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The content is not what the hub's listing says.
    #[error(
        "'{file}' of '{repo}' arrived with another hash (expected {expected}, found {found}) and \
         was removed; try again, and if it happens again ask who runs the hub or the proxy"
    )]
    WrongHash {
        /// `ORG/NAME`.
        repo: String,
        /// Path in the repository.
        file: String,
        /// From the listing.
        expected: String,
        /// Of the content.
        found: String,
    },
    /// A file in the cache was changed after its download.
    #[error(
        "'{file}' of '{repo}' in the hub cache was damaged, and HF_HUB_OFFLINE is set; it was \
         removed: fetch it again on a machine that reaches the hub"
    )]
    Damaged {
        /// `ORG/NAME`.
        repo: String,
        /// Path in the repository.
        file: String,
    },
    /// The disk is full.
    #[error("no space is left for {}; free some, or name another place in HF_HOME", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The cache cannot be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The hub cannot be reached.
    #[error(
        "cannot reach {host}: {reason}; check the network, the proxy and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use only the cache"
    )]
    Unreachable {
        /// Which host.
        host: String,
        /// Why.
        reason: String,
    },
    /// A download broke off again and again.
    #[error(
        "the download of '{file}' of '{repo}' broke off at {done} of {total} bytes: {reason}; it \
         goes on from there at the next try"
    )]
    Interrupted {
        /// `ORG/NAME`.
        repo: String,
        /// Path in the repository.
        file: String,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the file.
        total: u64,
        /// What happened the last time.
        reason: String,
    },
    /// The hub is overloaded or broken.
    #[error("{host} answers with status {status}; try again later")]
    Busy {
        /// Which host.
        host: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer that cannot be understood.
    #[error("{host} answers what no hub does: {what}; is HF_ENDPOINT a hub?")]
    Answer {
        /// Which host.
        host: String,
        /// What is wrong with it.
        what: String,
    },
    /// The dataset has no parquet files in the layout of the hub's conversion.
    #[error("{what}; name its files with train = \"hf://datasets/{repo}/PATH\"")]
    NoSplits {
        /// `ORG/NAME`.
        repo: String,
        /// What is missing.
        what: String,
    },
    /// The caller gave up.
    #[error("the download was stopped")]
    Cancelled,
}

impl Error {
    /// Whether the same may work later, or elsewhere.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::Interrupted { .. }
                | Error::Busy { .. }
                | Error::WrongHash { .. }
                | Error::DiskFull { .. }
                | Error::Io { .. }
                | Error::Cancelled
        )
    }

    /// Whether the hub could not be asked, so that the cache may answer in its place.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Busy { .. })
    }

    pub(crate) fn io(
        what: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { path, source }
            }
            _ => Error::Io { what, path, source },
        }
    }
}
