//! Where results are kept: a file, or a Postgres database.

use std::path::{Path, PathBuf};

use deptune_coordinator::store::Address;
use deptune_coordinator::upkeep::{self, Place};
use deptune_coordinator::{DATABASE_FILE, Storage};

use crate::output::error::Error;

/// The variable with the address of a Postgres database, password included.
const DATABASE_URL: &str = "DATABASE_URL";

/// Where the results are to be kept.
///
/// # Errors
/// When an address cannot be used.
pub(crate) fn chosen(file: Option<PathBuf>, url: Option<String>) -> Result<Storage, Error> {
    let unusable = |what: String, hint: &str| Error::Usage { what, hint: hint.to_owned() };
    if let Some(url) = url {
        // Everybody on this machine can read the arguments of a program.
        if has_password(&url) {
            return Err(unusable(
                "--store holds a password, which everybody on this machine can see".to_owned(),
                "give the address in the variable DATABASE_URL, or leave the password to \
                 PGPASSWORD or ~/.pgpass",
            ));
        }
        let address: Address = url.parse().map_err(|error| {
            unusable(format!("--store: {error}"), "--database FILE keeps the results in a file")
        })?;
        return Ok(Storage::Postgres(address));
    }
    let url = std::env::var(DATABASE_URL).unwrap_or_default();
    if file.is_some() || url.is_empty() {
        return Ok(Storage::File(file));
    }
    let address: Address = url.parse().map_err(|error| {
        let hint = "unset it, or give --database FILE, to keep the results in a file";
        unusable(format!("{DATABASE_URL}: {error}"), hint)
    })?;
    Ok(Storage::Postgres(address))
}

/// Where the results of a data directory are, for commands that read them without a coordinator:
/// in `file` if one is named, else where `deptune serve` in this environment would keep them, else
/// in the database that the directory says its files belong to.
///
/// # Errors
/// When an address cannot be used.
pub(crate) fn of(dir: &Path, file: Option<PathBuf>) -> Result<Place, Error> {
    match chosen(file, None)? {
        Storage::Postgres(address) => return Ok(Place::Postgres(address)),
        Storage::File(Some(file)) => return Ok(Place::File(file)),
        Storage::File(None) | Storage::Memory => {}
    }
    let named = upkeep::database_of(dir).unwrap_or_default();
    match named.parse::<Address>() {
        Ok(address) => Ok(Place::Postgres(address)),
        Err(_) => Ok(Place::File(dir.join(DATABASE_FILE))),
    }
}

/// Whether a coordinator that is started in this environment keeps its results in Postgres.
pub(crate) fn is_postgres() -> bool {
    std::env::var(DATABASE_URL).is_ok_and(|url| !url.is_empty())
}

/// Whether the part before the host names a password.
fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || url.contains("password=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_seen_in_addresses() {
        for url in ["postgres://a:b@c/d", "postgres://a:@c:5/d", "postgres://c/d?password=b"] {
            assert!(has_password(url), "{url}");
        }
        for url in ["postgres://a@c:5432/d", "postgres://c:5432/d", "postgres:///d?host=/run"] {
            assert!(!has_password(url), "{url}");
        }
    }
}
