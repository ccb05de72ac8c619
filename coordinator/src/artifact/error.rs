//! What can go wrong with artifacts and logs.

use std::io;
use std::path::PathBuf;

use deptune_sweep::id::ArtifactHash;

use super::kind::Kind;

/// Why a file was not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The content is not what was announced: it changed between hashing and sending, or was
    /// damaged on the way.
    #[error(
        "the content's hash is {found}, not {expected} as announced: the file changed while it \
         was sent; send it again with its hash of now"
    )]
    HashMismatch {
        /// Announced.
        expected: ArtifactHash,
        /// Received.
        found: ArtifactHash,
    },
    /// More or fewer bytes than announced.
    #[error(
        "{found} bytes came, {expected} were announced: the file changed while it was sent; send \
         it again"
    )]
    SizeMismatch {
        /// Announced.
        expected: u64,
        /// Received; the first bytes beyond what was announced end the upload.
        found: u64,
    },
    /// Larger than its kind may be.
    #[error("a {kind} file of {size} bytes is too large, at most {limit} are accepted")]
    TooLarge {
        /// Kind.
        kind: Kind,
        /// Announced bytes.
        size: u64,
        /// Accepted bytes.
        limit: u64,
    },
    /// A piece larger than [`CHUNK`](super::CHUNK).
    #[error("a piece of {size} bytes is too large, at most {limit} are accepted")]
    ChunkTooLarge {
        /// Bytes sent.
        size: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// The disk has no room.
    #[error(
        "the coordinator's disk has {available} bytes left, {wanted} more are wanted; free some \
         space under {directory}"
    )]
    NoSpace {
        /// Bytes left.
        available: u64,
        /// Bytes wanted, with a reserve for the database.
        wanted: u64,
        /// The data directory.
        directory: PathBuf,
    },
    /// The files take as much as they may together.
    #[error(
        "the files take {used} of the {limit} bytes that they may together, {wanted} more are \
         wanted; delete sweeps that nobody needs, or start the coordinator with a larger \
         --max-artifacts-gb"
    )]
    Quota {
        /// Bytes in use.
        used: u64,
        /// Bytes that may be in use.
        limit: u64,
        /// Bytes wanted.
        wanted: u64,
    },
    /// There is no such artifact.
    #[error("there is no artifact {0}")]
    Unknown(ArtifactHash),
    /// The file system refused.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: what was tried on which path.
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { what, path, source }
    }
}
