//! A SQLite file, read beside its coordinator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use deptune_sweep::child::TrialResult;
use deptune_sweep::id::ArtifactHash;
use futures::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use super::Error;

/// How long to wait for the coordinator's short locks.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// An open file.
pub(super) struct Database {
    path: PathBuf,
    connection: SqliteConnection,
}

/// Something in the database that names an artifact.
pub(super) struct Reference {
    pub(super) hash: ArtifactHash,
    pub(super) used_by: String,
}

impl Database {
    /// Opens a file that is there; `pragma query_only` keeps this connection from changing it.
    pub(super) async fn open(path: &Path) -> Result<Database, Error> {
        if !path.is_file() {
            return Err(Error::NoDatabase { path: path.to_owned() });
        }
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT);
        let opened = options.connect().await;
        let path = path.to_owned();
        match opened {
            Ok(connection) => Ok(Database { path, connection }),
            Err(source) => Err(Error::Database { what: "open", path, source }),
        }
    }

    pub(super) async fn close(self) -> Result<(), Error> {
        let failed = failed("close", &self.path);
        self.connection.close().await.map_err(failed)
    }

    /// Writes a copy of the database as of one moment into a new file. The coordinator goes on
    /// writing meanwhile.
    pub(super) async fn copy_to(&mut self, target: &Path) -> Result<(), Error> {
        sqlx::query("vacuum into $1")
            .bind(target.display().to_string())
            .execute(&mut self.connection)
            .await
            .map_err(failed("copy", &self.path))?;
        let copy = std::fs::File::open(target).and_then(|file| file.sync_all());
        copy.map_err(super::at("sync", target))
    }

    /// Looks at every page, every index and every reference between tables.
    pub(super) async fn check(&mut self) -> Result<(), Error> {
        let found: String = sqlx::query_scalar("pragma integrity_check(1)")
            .fetch_one(&mut self.connection)
            .await
            .map_err(failed("check", &self.path))?;
        if found != "ok" {
            return Err(Error::Corrupt { path: self.path.clone(), detail: found });
        }
        let broken = sqlx::query("pragma foreign_key_check")
            .fetch_optional(&mut self.connection)
            .await
            .map_err(failed("check", &self.path))?;
        if let Some(row) = broken {
            let table: String = row.try_get(0).unwrap_or_default();
            let detail = format!("a row of {table} refers to one that is not there");
            return Err(Error::Corrupt { path: self.path.clone(), detail });
        }
        Ok(())
    }

    /// The number of the last migration.
    pub(super) async fn schema(&mut self) -> Result<i64, Error> {
        sqlx::query_scalar("select coalesce(max(version), 0) from _sqlx_migrations where success")
            .fetch_one(&mut self.connection)
            .await
            .map_err(failed("read the schema version of", &self.path))
    }

    /// One number from a statement that gives one.
    pub(super) async fn count(&mut self, sql: &'static str) -> Result<u64, Error> {
        let count: i64 = sqlx::query_scalar(sql)
            .fetch_one(&mut self.connection)
            .await
            .map_err(failed("read", &self.path))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Everything in the artifact directory that something still needs: data and uploaded models of
    /// sweeps, checkpoints of unfinished trials, adapters and predictions of outcomes.
    pub(super) async fn references(&mut self) -> Result<Vec<Reference>, Error> {
        let mut references = Vec::new();
        let mut rows = sqlx::query(
            "select f.hash as hash, 'sweep ' || f.sweep || ' (' || f.name || ')' as used_by,
                 null as result
             from sweep_files f
             join sweeps s on s.id = f.sweep
             where f.role = 'data' or s.model_uploaded = 1
             union all
             select checkpoint_hash, 'trial ' || sweep || '.' || trial_index || ' (checkpoint)',
                 null
             from trials
             where checkpoint_hash is not null and phase <> 'ended'
             union all
             select adapter, 'trial ' || sweep || '.' || trial_index || ' (adapter)', result
             from outcomes
             where adapter is not null",
        )
        .fetch(&mut self.connection);
        let failed = failed("read", &self.path);
        loop {
            let row = match rows.try_next().await {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(references),
                Err(source) => return Err(failed(source)),
            };
            let used_by: String = row.try_get("used_by").unwrap_or_default();
            let mut add = |hash: &str| {
                // What is no hash never was the name of a file.
                if let Ok(hash) = hash.parse::<ArtifactHash>() {
                    references.push(Reference { hash, used_by: used_by.clone() });
                }
            };
            add(row.try_get("hash").unwrap_or_default());
            let result: Option<&str> = row.try_get("result").ok().flatten();
            let result = result.and_then(|text| serde_json::from_str::<TrialResult>(text).ok());
            for predictions in result.iter().flat_map(|result| &result.predictions) {
                add(predictions.hash.as_str());
            }
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(sqlx::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Database { what, path, source }
}
