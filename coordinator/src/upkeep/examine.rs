//! Looking whether a data directory is well.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::database::Database;
use super::{Error, Place, at, files};
use crate::server::TOKEN_FILE;

/// Free bytes below which the coordinator takes no more files.
const LEAST_FREE: u64 = 256 << 20;
/// Free bytes that a person should know about.
const LITTLE_FREE: u64 = 2 << 30;
/// A write-ahead log beyond this many bytes means that some reader never lets go.
const LARGE_WAL: u64 = 1 << 30;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Well,
    /// Works, but will not for ever.
    Notable,
    /// Something is broken or will be lost.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was found.
    pub what: String,
    /// What to do; empty where nothing is to be done.
    pub advice: String,
}

impl Finding {
    /// Nothing is to be done.
    #[must_use]
    pub fn well(what: impl Into<String>) -> Finding {
        Finding { grade: Grade::Well, what: what.into(), advice: String::new() }
    }

    /// Something should be done some day.
    #[must_use]
    pub fn notable(what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { grade: Grade::Notable, what: what.into(), advice: advice.into() }
    }

    /// Something must be done.
    #[must_use]
    pub fn wrong(what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { grade: Grade::Wrong, what: what.into(), advice: advice.into() }
    }
}

/// Looks at a data directory and its database; with `deep`, at the content of every artifact too.
/// Whatever is wrong is a finding; nothing is changed.
///
/// # Errors
/// Only when the directory cannot be listed.
pub async fn examine(data_dir: &Path, database: &Place, deep: bool) -> Result<Vec<Finding>, Error> {
    let mut findings = vec![secrecy(data_dir), space(data_dir)];
    match database {
        Place::File(file) => findings.push(wal(file)),
        Place::Postgres(address) if !address.is_local() => {
            findings.push(Finding::notable(
                format!("{address} was not looked at: the way to it would not be encrypted"),
                "look on the machine of the database, or forward its port with ssh",
            ));
            return Ok(findings);
        }
        Place::Postgres(_) => {}
    }
    match look(data_dir, database, deep).await {
        Ok(found) => findings.extend(found),
        Err(error @ Error::Database { .. }) if matches!(database, Place::Postgres(_)) => {
            findings.push(Finding::wrong(
                chain(&error),
                "see that Postgres runs, and that DATABASE_URL or PGPASSWORD opens it",
            ));
        }
        Err(error @ (Error::Corrupt { .. } | Error::Database { .. })) => {
            findings.push(Finding::wrong(
                chain(&error),
                "stop the coordinator, keep a copy of the files, and restore a backup with \
                 'deptune restore'",
            ));
        }
        Err(error) => return Err(error),
    }
    Ok(findings)
}

async fn look(data_dir: &Path, place: &Place, deep: bool) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let mut database = match place {
        Place::File(path) => Database::open(path).await?,
        Place::Postgres(address) => Database::connect(address).await?,
    };
    database.check().await?;
    findings.push(match place {
        Place::File(_) => Finding::well("the database's pages, indexes and references are sound"),
        Place::Postgres(address) => Finding::well(format!("{address} answers")),
    });
    let (schema, is_latest) = schema(&mut database, place).await?;
    findings.push(schema);
    if is_latest && let Place::Postgres(_) = place {
        findings.push(lead(&mut database).await?);
    }
    findings.push(agreement(&mut database).await?);
    findings.extend(stuck(&mut database).await?);
    findings.extend(artifacts(data_dir, &mut database, deep).await?);
    database.close().await?;
    Ok(findings)
}

/// The token and the directory are the owner's alone.
fn secrecy(data_dir: &Path) -> Finding {
    let open = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
    };
    let token = data_dir.join(TOKEN_FILE);
    if open(&token) {
        let advice = format!(
            "chmod 600 {0}; if somebody may have read it, remove it and restart the coordinator \
             for a new one",
            token.display()
        );
        return Finding::wrong("others on this machine can read the token", advice);
    }
    if open(data_dir) {
        let advice = format!("chmod 700 {}", data_dir.display());
        return Finding::notable("others on this machine can list the data directory", advice);
    }
    Finding::well("the token and the data directory are closed to others")
}

fn space(data_dir: &Path) -> Finding {
    let advice = "free some space, or move the data directory to a larger disk";
    match free_bytes(data_dir) {
        Ok(free) if free < LEAST_FREE => {
            Finding::wrong(format!("the disk has {} MiB left", free >> 20), advice)
        }
        Ok(free) if free < LITTLE_FREE => {
            Finding::notable(format!("the disk has {} MiB left", free >> 20), advice)
        }
        Ok(free) => Finding::well(format!("the disk has {} GiB left", free >> 30)),
        Err(error) => Finding::wrong(chain(&error), ""),
    }
}

/// Bytes that a person without privileges may still write to the disk of `path`.
///
/// # Errors
/// When the disk cannot be asked.
pub fn free_bytes(path: &Path) -> Result<u64, Error> {
    let disk = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| at("measure the disk of", path)(errno.into()))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

fn wal(database: &Path) -> Finding {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let bytes = std::fs::metadata(PathBuf::from(name)).map_or(0, |found| found.len());
    if bytes > LARGE_WAL {
        return Finding::notable(
            format!("the database's write-ahead log has {} MiB", bytes >> 20),
            "some program keeps a read transaction open; find it with 'fuser' on the file, and \
             end it",
        );
    }
    Finding::well(format!("the database's write-ahead log has {} KiB", bytes >> 10))
}

/// What there is to say about the schema's version, and whether it is the one of this program.
async fn schema(database: &mut Database, place: &Place) -> Result<(Finding, bool), Error> {
    let migrations = match place {
        Place::File(_) => sqlx::migrate!("../migrations/sqlite"),
        Place::Postgres(_) => sqlx::migrate!("../migrations/postgres"),
    };
    let known = migrations.iter().map(|one| one.version).max();
    let (found, known) = (database.schema().await?, known.unwrap_or(0));
    let finding = if found > known {
        Finding::wrong(
            format!("the database has schema {found}, this version knows {known}"),
            "use the version of deptune that wrote it, or a later one",
        )
    } else if found < known {
        Finding::notable(
            format!("the database has schema {found}, this version brings it to {known}"),
            "back it up before the next start",
        )
    } else {
        Finding::well(format!("the database has this version's schema, {known}"))
    };
    Ok((finding, found == known))
}

/// Who leads in Postgres.
async fn lead(database: &mut Database) -> Result<Finding, Error> {
    Ok(match database.leader().await? {
        Some((address, true)) => Finding::well(format!("the coordinator at {address} leads")),
        Some((address, false)) => Finding::notable(
            format!("no coordinator leads; the last one was at {address}"),
            "start one with 'deptune serve'",
        ),
        None => Finding::notable("no coordinator ever led", "start one with 'deptune serve'"),
    })
}

/// Whether trials and their outcomes say the same.
async fn agreement(database: &mut Database) -> Result<Finding, Error> {
    let broken = database
        .count(
            "select count(*) from trials t
             left join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
             where (t.phase = 'ended') <> (o.outcome is not null)
                 or coalesce(t.outcome, '') <> coalesce(o.outcome, '')",
        )
        .await?;
    if broken > 0 {
        return Ok(Finding::wrong(
            format!("{broken} trials disagree with their outcomes"),
            "stop the coordinator, keep a copy of the database, and restore a backup",
        ));
    }
    Ok(Finding::well("every ended trial has its outcome, and no other has one"))
}

async fn stuck(database: &mut Database) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let gone = database
        .count(
            "select count(*) from trials t join workers w on w.id = t.worker
             where t.phase = 'leased' and w.left_at is not null",
        )
        .await?;
    if gone > 0 {
        findings.push(Finding::notable(
            format!("{gone} trials are leased to workers that have left"),
            "a running coordinator gives them away when their leases expire; start it if none runs",
        ));
    }
    let over = database
        .count(
            "select count(*) from sweeps s
             where s.status = 'running' and s.next_index = s.total and not exists (
                 select 1 from trials t where t.sweep = s.id and t.phase <> 'ended'
             )",
        )
        .await?;
    if over > 0 {
        findings.push(Finding::wrong(
            format!("{over} sweeps count as running although all their trials have outcomes"),
            "restart the coordinator; if they stay so, report it with a backup",
        ));
    }
    let running = database.count("select count(*) from sweeps where status = 'running'").await?;
    let here = database.count("select count(*) from workers where left_at is null").await?;
    if running > 0 && here == 0 {
        findings.push(Finding::notable(
            format!("{running} sweeps have trials to run, and no worker is registered"),
            "start one with 'deptune worker'",
        ));
    }
    let tried = database
        .count("select count(*) from trials where phase <> 'ended' and failures + losses >= 2")
        .await?;
    if tried > 0 {
        findings.push(Finding::notable(
            format!("{tried} unfinished trials failed or lost their worker twice or more"),
            "'deptune sql \"select * from attempts_history where ending <> 'succeeded'\"' says why",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::well("no sweep and no trial is stuck"));
    }
    Ok(findings)
}

async fn artifacts(
    data_dir: &Path,
    database: &mut Database,
    deep: bool,
) -> Result<Vec<Finding>, Error> {
    let directory = data_dir.join("artifacts");
    let references = database.references().await?;
    let reading = move || {
        let present: BTreeMap<_, u64> = files::artifacts(&directory)?.into_iter().collect();
        let mut damaged = Vec::new();
        for hash in present.keys().filter(|_| deep) {
            let path = files::place(&directory, hash);
            if files::hash(&path).is_ok_and(|found| found != *hash) {
                damaged.push(path);
            }
        }
        Ok::<_, Error>((present, damaged))
    };
    let read = tokio::task::spawn_blocking(reading).await.map_err(Error::Died)?;
    let (present, damaged) = read?;
    let mut findings = Vec::new();
    for one in references.iter().filter(|one| !present.contains_key(&one.hash)).take(20) {
        findings.push(Finding::wrong(
            format!("{} needs the artifact {}, which is not there", one.used_by, one.hash),
            "restore it from a backup; data and models are sent again by 'deptune submit'",
        ));
    }
    for path in damaged {
        findings.push(Finding::wrong(
            format!("{} is damaged: its content has another hash", path.display()),
            "remove it, and restore it from a backup or submit the sweep again",
        ));
    }
    let needed: BTreeSet<_> = references.iter().map(|one| &one.hash).collect();
    let unused = present.iter().filter(|(hash, _)| !needed.contains(hash));
    let (count, bytes) =
        unused.fold((0_u64, 0_u64), |(count, bytes), (_, size)| (count + 1, bytes + size));
    findings.push(Finding::well(format!(
        "{} artifacts are there, {count} of them ({} MiB) are not needed now",
        present.len(),
        bytes >> 20
    )));
    Ok(findings)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
