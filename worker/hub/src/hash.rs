//! The two hashes by which the hub names contents.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// The hash that a content must have; the cache names the file by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentHash {
    /// SHA-256 of a large file, 64 hexadecimal digits.
    Sha256(String),
    /// Git's object id of a small file, 40 hexadecimal digits: SHA-1 of `blob SIZE\0` and the
    /// content.
    Git(String),
}

impl ContentHash {
    /// By the number of its digits.
    pub(crate) fn parse(text: &str) -> Option<ContentHash> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            64 if digits => Some(ContentHash::Sha256(text.to_owned())),
            40 if digits => Some(ContentHash::Git(text.to_owned())),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        let (ContentHash::Sha256(text) | ContentHash::Git(text)) = self;
        text
    }

    /// The hash of the same kind of a file's content.
    pub(crate) fn of_file(&self, path: &Path) -> io::Result<String> {
        let mut file = File::open(path)?;
        match self {
            ContentHash::Sha256(_) => digest(Sha256::new(), &mut file),
            ContentHash::Git(_) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {}\0", file.metadata()?.len()));
                digest(hasher, &mut file)
            }
        }
    }
}

fn digest<D: Digest>(mut hasher: D, input: &mut impl Read) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    let mut text = String::new();
    for byte in hasher.finalize() {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello\n").unwrap();
        // git hash-object, sha256sum
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for text in [git, sha] {
            let hash = ContentHash::parse(text).unwrap();
            assert_eq!(hash.of_file(file.path()).unwrap(), text);
        }
        assert_eq!(ContentHash::parse("../../etc/passwd"), None);
    }
}
