//! Where things are on this machine.

use std::path::{Path, PathBuf};

use deptune_coordinator::{ADDRESS_FILE, AddressFile, TOKEN_FILE};

use crate::args::Globals;
use crate::output::error::Error;

/// The directory that holds the database, the token and the address file: `--data-dir`, else
/// `$XDG_DATA_HOME/deptune`, else `~/.local/share/deptune`.
///
/// # Errors
/// When neither an argument nor the environment says where.
pub(crate) fn data_dir(globals: &Globals) -> Result<PathBuf, Error> {
    if let Some(dir) = &globals.data_dir {
        return Ok(dir.clone());
    }
    let from =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    from("XDG_DATA_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("deptune"))
        .ok_or_else(|| Error::Usage {
            what: "no data directory: HOME and XDG_DATA_HOME are not set".to_owned(),
            hint: "name one with --data-dir DIR or DEPTUNE_HOME".to_owned(),
        })
}

/// Where the coordinator is and which token file opens it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Addresses, tried in turn; at least one.
    pub(crate) addresses: Vec<String>,
    /// The token file, if one is known.
    pub(crate) token_file: Option<PathBuf>,
}

/// Finds the coordinator by `--server`, else by the address file in the data directory.
///
/// # Errors
/// When neither is there, or the file is damaged.
pub(crate) fn target(globals: &Globals) -> Result<Target, Error> {
    if !globals.server.is_empty() {
        let token_file = match &globals.token_file {
            Some(file) => Some(file.clone()),
            // Without a home there is no default either, and the coordinator will say so.
            None => data_dir(globals).ok().and_then(|dir| local_token(&dir)),
        };
        return Ok(Target { addresses: globals.server.clone(), token_file });
    }
    let dir = data_dir(globals)?;
    let file = dir.join(ADDRESS_FILE);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoAddress { file });
        }
        Err(source) => return Err(Error::Read { path: file, source }),
    };
    let found: AddressFile = serde_json::from_str(&text).map_err(|source| Error::Unusable {
        path: file.clone(),
        hint: "restart the coordinator, which writes it anew, or give --server".to_owned(),
        source: source.into(),
    })?;
    let token_file = Some(globals.token_file.clone().unwrap_or(found.token_file));
    Ok(Target { addresses: vec![found.address], token_file })
}

fn local_token(dir: &Path) -> Option<PathBuf> {
    Some(dir.join(TOKEN_FILE)).filter(|file| file.is_file())
}

/// A path on one line for people: relative to the current directory where that is shorter.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    match here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf)) {
        Some(below) if !below.as_os_str().is_empty() => below.display().to_string(),
        _ => path.display().to_string(),
    }
}
