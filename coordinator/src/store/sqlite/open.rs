//! Opening the file: refuse what would go wrong later, bring the schema up to date, take over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use super::lock::Lock;
use super::{SqliteStore, disk};
use crate::store::sql::Pool;
use crate::store::sql::trouble::{Trouble, trouble};
use crate::store::{Identity, OpenError};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations/sqlite");

/// `pragma application_id` of deptune's databases, "DEPT" in ASCII. Set by the first migration.
const APPLICATION_ID: i64 = 1_145_393_236;

/// How long to wait for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements that stay prepared: those of a commit, for each number of rows that is joined in one.
const STATEMENTS: usize = 256;

/// Files up to this size are checked page by page; the check of a larger one would delay the
/// start too long.
const CHECKED_BYTES: u64 = 256 << 20;

/// The write-ahead log is cut back to this many bytes once readers have let go of it.
const WAL_BYTES: u64 = 64 << 20;

impl SqliteStore {
    /// Opens the database at `path`, or makes a new one. Its directory must exist.
    ///
    /// # Errors
    /// When another coordinator has it, when it lies on a network file system, is damaged, foreign
    /// or of a later version, or cannot be opened.
    pub async fn open(path: &Path, identity: &Identity) -> Result<SqliteStore, OpenError> {
        let path = resolve(path)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        disk::check(directory, &path)?;
        let lock = Lock::take(&path, identity)?;
        inspect(&path).await?;

        let writing = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENTS)
            .pragma("journal_size_limit", WAL_BYTES.to_string());
        let mut writer = writing.connect().await.map_err(sql("open", &path))?;
        migrate(&mut writer, &path).await?;
        let generation = take_over(&mut writer, identity).await.map_err(sql("take over", &path))?;

        let reading = SqliteConnectOptions::new()
            .filename(&path)
            .read_only(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("query_only", "on");
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(10))
                .connect_lazy_with(reading.clone())
        };
        Ok(SqliteStore {
            generation,
            writing,
            writer: Mutex::new(Some(writer)),
            reads: Pool::Sqlite(pool(4)),
            queries: pool(2),
            _lock: lock,
            path,
        })
    }
}

/// The file's one true path, so that two names of one file are one lock.
fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { what, path, source }
    };
    let absolute = std::path::absolute(path).map_err(failed("find", path))?;
    if absolute.exists() {
        return absolute.canonicalize().map_err(failed("find", &absolute));
    }
    let (Some(directory), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        let source = std::io::ErrorKind::IsADirectory.into();
        return Err(OpenError::Io { what: "open", path: absolute, source });
    };
    let directory = directory.canonicalize().map_err(failed("find the directory", directory))?;
    Ok(directory.join(name))
}

/// Looks at an existing file without changing anything in it.
async fn inspect(path: &Path) -> Result<(), OpenError> {
    let size = match std::fs::metadata(path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => {
            let source = std::io::ErrorKind::InvalidInput.into();
            return Err(OpenError::Io { what: "use as a file", path: path.to_owned(), source });
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(source) => return Err(OpenError::Io { what: "open", path: path.to_owned(), source }),
    };
    if size == 0 {
        return Ok(());
    }
    let options =
        SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
    let mut connection = options.connect().await.map_err(sql("open", path))?;
    let application: i64 = sqlx::query_scalar("pragma application_id")
        .fetch_one(&mut connection)
        .await
        .map_err(sql("read", path))?;
    // The list of migrations is there before the first one, which a kill may have prevented.
    let objects: i64 = sqlx::query_scalar(
        "select count(*) from sqlite_master where tbl_name <> '_sqlx_migrations'",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(sql("read", path))?;
    if objects > 0 && application != APPLICATION_ID {
        return Err(OpenError::Foreign { database: shown(path) });
    }
    if size <= CHECKED_BYTES {
        let found: String = sqlx::query_scalar("pragma quick_check(1)")
            .fetch_one(&mut connection)
            .await
            .map_err(sql("check", path))?;
        if found != "ok" {
            return Err(OpenError::Corrupt { path: path.to_owned(), detail: found });
        }
    }
    connection.close().await.map_err(sql("read", path))
}

async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let known = MIGRATOR.iter().map(|m| m.version).max().unwrap_or(0);
    match MIGRATOR.run(connection).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) if found > known => {
            Err(OpenError::Newer { database: shown(path), found, known })
        }
        Err(source) => Err(OpenError::Migrate { database: shown(path), source }),
    }
}

/// Raises the generation, which ends the right of every earlier coordinator to write.
async fn take_over(
    connection: &mut SqliteConnection,
    identity: &Identity,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "update coordinator
         set generation = generation + 1, pid = $1, host = $2, address = $3, opened = $4
         returning generation",
    )
    .bind(i64::from(identity.pid))
    .bind(&identity.host)
    .bind(&identity.address)
    .bind(jiff::Timestamp::now().as_millisecond())
    .fetch_one(connection)
    .await
}

/// Tells damage from other refusals.
fn sql<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(sqlx::Error) -> OpenError + 'a {
    move |source| match trouble(&source) {
        Trouble::Damaged => {
            OpenError::Corrupt { path: path.to_owned(), detail: source.to_string() }
        }
        _ => OpenError::Sql { what, database: shown(path), source },
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
