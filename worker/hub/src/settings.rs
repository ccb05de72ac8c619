//! What the environment says, by the same variables as for Python's `huggingface_hub`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The public hub.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// A token that no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token; `None` when the text has none in it, or one that cannot be a header's value.
    #[must_use]
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| Token(text.to_owned()))
    }

    /// The value of the `Authorization` header.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where the hub and its cache are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The directory with `models--ORG--NAME`.
    pub cache_dir: PathBuf,
    /// Who asks, for private and gated repositories.
    pub token: Option<Token>,
    /// Whether only the cache is used.
    pub offline: bool,
}

/// The environment does not say where the cache is.
#[derive(Debug, thiserror::Error)]
#[error("none of HF_HUB_CACHE, HF_HOME and HOME is set; name the hub's cache in HF_HUB_CACHE")]
pub struct SettingsError;

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE` and the token's file.
    ///
    /// # Errors
    /// When there is no place for the cache.
    pub fn from_env() -> Result<Settings, SettingsError> {
        Settings::read(|name| std::env::var_os(name))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Settings, SettingsError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let flag = |name: &str| text(name).is_some_and(|value| is_true(&value));
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|dir| dir.join("huggingface")))
            .or_else(|| path("HOME").map(|dir| dir.join(".cache/huggingface")));
        let cache_dir = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| home.as_ref().map(|dir| dir.join("hub")))
            .ok_or(SettingsError)?;
        let token_file =
            path("HF_TOKEN_PATH").or_else(|| home.as_ref().map(|dir| dir.join("token")));
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| token_file.as_deref().and_then(read_token))
            .filter(|_| !flag("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Ok(Settings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache_dir: std::path::absolute(&cache_dir).unwrap_or(cache_dir),
            token: token.as_deref().and_then(Token::new),
            offline: flag("HF_HUB_OFFLINE") || flag("TRANSFORMERS_OFFLINE"),
        })
    }
}

/// Tokens are short; whatever else lies there is not read whole.
const MAX_TOKEN: u64 = 4096;

fn read_token(file: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(MAX_TOKEN).read_to_string(&mut text).ok()?;
    Some(text)
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Settings {
        Settings::read(|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
        .unwrap()
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let dir = |pairs: &[(&str, &str)]| read(pairs).cache_dir;
        assert_eq!(dir(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(
            dir(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
            Path::new("/x/huggingface/hub")
        );
        assert_eq!(dir(&[("HOME", "/h"), ("HF_HOME", "/f")]), Path::new("/f/hub"));
        assert_eq!(dir(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert!(Settings::read(|_| None).is_err());
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file_and_shows_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = dir.path().to_str().unwrap();
        let of = |pairs: &[(&str, &str)]| read(pairs).token.map(|token| token.bearer());
        assert_eq!(of(&[("HF_HOME", home)]).as_deref(), Some("Bearer hf_file"));
        let both = [("HF_HOME", home), ("HF_TOKEN", "hf_variable")];
        assert_eq!(of(&both).as_deref(), Some("Bearer hf_variable"));
        assert_eq!(of(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert!(!format!("{:?}", read(&both)).contains("hf_variable"));
        assert_eq!(Token::new("two words"), None);
    }

    #[test]
    fn offline_and_endpoint() {
        let settings = read(&[("HOME", "/h"), ("HF_ENDPOINT", "http://mirror/hf/")]);
        assert_eq!((settings.endpoint.as_str(), settings.offline), ("http://mirror/hf", false));
        for value in ["1", "true", "ON", "yes"] {
            assert!(read(&[("HOME", "/h"), ("HF_HUB_OFFLINE", value)]).offline);
        }
        assert!(!read(&[("HOME", "/h"), ("HF_HUB_OFFLINE", "0")]).offline);
    }
}
