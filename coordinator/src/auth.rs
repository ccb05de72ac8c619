//! The shared token.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// Fewest and most characters of a token that a person wrote into the file.
const LENGTHS: std::ops::RangeInclusive<usize> = 32..=256;

/// The token that every client and worker must show. Never printed.
#[derive(Clone)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot {what} the token file {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The token file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a new token")]
    Random(#[source] getrandom::Error),
    /// The file holds no token.
    #[error(
        "the token file {path} holds no token (expected 32 to 256 letters and digits); remove it \
         and a new one is made"
    )]
    Malformed {
        /// The token file.
        path: PathBuf,
    },
}

impl Token {
    /// Reads the token file; makes it, with a fresh 256-bit token and mode 0600, when there is
    /// none. A file that others may read is closed to them, with a warning.
    ///
    /// # Errors
    /// When the file cannot be read or made, or holds no token.
    pub fn load_or_create(path: &Path) -> Result<Token, Error> {
        let io = |what| move |source| Error::Io { what, path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) => {
                let mode = fs::metadata(path).map_err(io("look at"))?.permissions().mode();
                if mode & 0o077 != 0 {
                    tracing::warn!(
                        path = %path.display(),
                        "the token file was readable by others; anyone who read it can use this \
                         coordinator. Its mode is 0600 now; remove the file for a new token"
                    );
                    fs::set_permissions(path, Permissions::from_mode(0o600))
                        .map_err(io("close"))?;
                }
                Token::parse(&text).ok_or_else(|| Error::Malformed { path: path.to_owned() })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let token = Token::random()?;
                // Created closed: there is no moment in which others could open it.
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)
                    .map_err(io("create"))?;
                writeln!(file, "{}", token.0).map_err(io("write"))?;
                file.sync_all().map_err(io("write"))?;
                Ok(token)
            }
            Err(error) => Err(io("read")(error)),
        }
    }

    fn random() -> Result<Token, Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(Error::Random)?;
        Ok(Token(blake3::Hash::from_bytes(bytes).to_hex().to_string()))
    }

    fn parse(text: &str) -> Option<Token> {
        let text = text.trim();
        let fits = LENGTHS.contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| Token(text.to_owned()))
    }

    /// Whether an `authorization` header shows this token. Takes as long for a wrong token as for
    /// the right one.
    #[must_use]
    pub fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let shown = authorization.and_then(|value| {
            let (scheme, token) = value.split_at_checked("bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        });
        shown.is_some_and(|shown| bool::from(shown.ct_eq(self.0.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_closed_to_others_and_admits_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = Token::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        let header = format!("Bearer {}", text.trim());
        let again = Token::load_or_create(&path).unwrap();
        assert!(again.admits(Some(header.as_bytes())));
        assert!(token.admits(Some(header.to_lowercase().as_bytes())));
        assert!(!token.admits(None));
        assert!(!token.admits(Some(b"Bearer ")));
        assert!(!token.admits(Some(text.trim().as_bytes())));
        assert!(!token.admits(Some(&header.as_bytes()[..header.len() - 1])));
        assert!(!format!("{token:?}").contains(text.trim()));
    }

    #[test]
    fn a_file_that_others_can_read_is_closed_and_an_empty_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "a".repeat(64)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Token::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "\n").unwrap();
        assert!(matches!(Token::load_or_create(&path), Err(Error::Malformed { .. })));
    }
}
