//! A database, read beside its coordinator.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use deptune_sweep::child::TrialResult;
use deptune_sweep::id::ArtifactHash;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use super::Error;
use crate::store::Address;

/// How long to wait for the coordinator's short locks.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a Postgres that does not answer.
const CONNECT: Duration = Duration::from_secs(10);

/// An open database. Nothing can be changed through it.
pub(super) struct Database {
    name: String,
    link: Link,
}

enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Something in the database that names an artifact.
pub(super) struct Reference {
    pub(super) hash: ArtifactHash,
    pub(super) used_by: String,
}

/// An attempt: sweep, trial, epoch.
pub(super) type Attempt = (u64, u64, u64);

/// The one value of a statement that both databases understand.
macro_rules! scalar {
    ($database:expr, $what:expr, $sql:expr) => {{
        let failed = failed($what, &$database.name);
        match &mut $database.link {
            Link::Sqlite(link) => sqlx::query_scalar($sql).fetch_one(link).await,
            Link::Postgres(link) => sqlx::query_scalar($sql).fetch_one(link).await,
        }
        .map_err(failed)
    }};
}

impl Database {
    /// Opens a file that is there.
    pub(super) async fn open(path: &Path) -> Result<Database, Error> {
        if !path.is_file() {
            return Err(Error::NoDatabase { path: path.to_owned() });
        }
        let name = path.display().to_string();
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("query_only", "on");
        let link = options.connect().await.map_err(failed("open", &name))?;
        Ok(Database { name, link: Link::Sqlite(link) })
    }

    /// Connects to Postgres.
    pub(super) async fn connect(address: &Address) -> Result<Database, Error> {
        let name = address.to_string();
        let failed = failed("connect to", &name);
        let connecting = tokio::time::timeout(CONNECT, address.reading().connect()).await;
        let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let link = connecting.unwrap_or_else(|_| Err(silent())).map_err(failed)?;
        Ok(Database { name, link: Link::Postgres(link) })
    }

    pub(super) async fn close(self) -> Result<(), Error> {
        let closed = match self.link {
            Link::Sqlite(link) => link.close().await,
            Link::Postgres(link) => link.close().await,
        };
        closed.map_err(failed("close", &self.name))
    }

    /// Writes a copy of a file as of one moment into a new file. The coordinator goes on writing
    /// meanwhile.
    pub(super) async fn copy_to(mut self, target: &Path) -> Result<(), Error> {
        if let Link::Sqlite(link) = &mut self.link {
            // The copy counts as a change.
            sqlx::query("pragma query_only = off")
                .execute(&mut *link)
                .await
                .map_err(failed("copy", &self.name))?;
            sqlx::query("vacuum into $1")
                .bind(target.display().to_string())
                .execute(link)
                .await
                .map_err(failed("copy", &self.name))?;
        }
        self.close().await?;
        let copy = std::fs::File::open(target).and_then(|file| file.sync_all());
        copy.map_err(super::at("sync", target))
    }

    /// Looks at every page, every index and every reference between tables of a file; that
    /// Postgres's are well, Postgres sees to.
    pub(super) async fn check(&mut self) -> Result<(), Error> {
        let Link::Sqlite(link) = &mut self.link else { return Ok(()) };
        let corrupt = |detail| Err(Error::Corrupt { path: self.name.clone().into(), detail });
        let found: String = sqlx::query_scalar("pragma integrity_check(1)")
            .fetch_one(&mut *link)
            .await
            .map_err(failed("check", &self.name))?;
        if found != "ok" {
            return corrupt(found);
        }
        let broken = sqlx::query("pragma foreign_key_check")
            .fetch_optional(link)
            .await
            .map_err(failed("check", &self.name))?;
        if let Some(row) = broken {
            let table: String = row.try_get(0).unwrap_or_default();
            return corrupt(format!("a row of {table} refers to one that is not there"));
        }
        Ok(())
    }

    /// The number of the last migration.
    pub(super) async fn schema(&mut self) -> Result<i64, Error> {
        const SQL: &str = "select coalesce(max(version), 0) from _sqlx_migrations where success";
        scalar!(self, "read the schema version of", SQL)
    }

    /// One number from a statement that gives one.
    pub(super) async fn count(&mut self, sql: &'static str) -> Result<u64, Error> {
        let count: i64 = scalar!(self, "read", sql)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Where the leader is, and whether its lease is still good; `None` where nobody ever led. Of
    /// Postgres only.
    pub(super) async fn leader(&mut self) -> Result<Option<(String, bool)>, Error> {
        let Link::Postgres(link) = &mut self.link else { return Ok(None) };
        let found: (Option<String>, bool) = sqlx::query_as(
            "select address, coalesce(leads_until > clock_timestamp(), false)
             from coordinator, lease",
        )
        .fetch_one(link)
        .await
        .map_err(failed("read who leads in", &self.name))?;
        Ok(found.0.map(|address| (address, found.1)))
    }

    /// All attempts.
    pub(super) async fn attempts(&mut self) -> Result<BTreeSet<Attempt>, Error> {
        const SQL: &str = "select sweep, trial_index, epoch from attempts";
        let rows: BoxStream<'_, Result<(i64, i64, i64), sqlx::Error>> = match &mut self.link {
            Link::Sqlite(link) => sqlx::query_as(SQL).fetch(link).boxed(),
            Link::Postgres(link) => sqlx::query_as(SQL).fetch(link).boxed(),
        };
        let attempt = |(sweep, trial, epoch): (i64, i64, i64)| async move {
            let number = |value| u64::try_from(value).unwrap_or_default();
            Ok((number(sweep), number(trial), number(epoch)))
        };
        rows.and_then(attempt).try_collect().await.map_err(failed("read", &self.name))
    }

    /// Everything in the artifact directory that something still needs: data and uploaded models of
    /// sweeps, checkpoints of unfinished trials, adapters and predictions of outcomes.
    pub(super) async fn references(&mut self) -> Result<Vec<Reference>, Error> {
        const SQL: &str = "
            select f.hash, 'sweep ' || f.sweep || ' (' || f.name || ')', cast(null as text)
            from sweep_files f
            join sweeps s on s.id = f.sweep
            where f.role = 'data' or s.model_uploaded
            union all
            select checkpoint_hash, 'trial ' || sweep || '.' || trial_index || ' (checkpoint)',
                cast(null as text)
            from trials
            where checkpoint_hash is not null and phase <> 'ended'
            union all
            select adapter, 'trial ' || sweep || '.' || trial_index || ' (adapter)', result
            from outcomes
            where adapter is not null";
        type Found = (String, String, Option<String>);
        let mut rows: BoxStream<'_, Result<Found, sqlx::Error>> = match &mut self.link {
            Link::Sqlite(link) => sqlx::query_as(SQL).fetch(link).boxed(),
            Link::Postgres(link) => sqlx::query_as(SQL).fetch(link).boxed(),
        };
        let mut references = Vec::new();
        while let Some((hash, used_by, result)) =
            rows.try_next().await.map_err(failed("read", &self.name))?
        {
            let mut add = |hash: &str| {
                // What is no hash never was the name of a file.
                if let Ok(hash) = hash.parse::<ArtifactHash>() {
                    references.push(Reference { hash, used_by: used_by.clone() });
                }
            };
            add(&hash);
            let result = result.and_then(|text| serde_json::from_str::<TrialResult>(&text).ok());
            for predictions in result.iter().flat_map(|result| &result.predictions) {
                add(predictions.hash.as_str());
            }
        }
        Ok(references)
    }
}

fn failed(what: &'static str, database: &str) -> impl FnOnce(sqlx::Error) -> Error + use<> {
    let database = database.to_owned();
    move |source| Error::Database { what, database, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_changed_through_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut writer = options.connect().await.unwrap();
        sqlx::query("create table t (x integer)").execute(&mut writer).await.unwrap();
        let mut database = Database::open(&path).await.unwrap();
        assert!(database.count("insert into t values (1) returning 1").await.is_err());
        assert_eq!(database.count("select count(*) from t").await.unwrap(), 0);
        let copy = directory.path().join("copy.db");
        database.copy_to(&copy).await.unwrap();
        assert_eq!(Database::open(&copy).await.unwrap().count("select 7").await.unwrap(), 7);
    }
}
