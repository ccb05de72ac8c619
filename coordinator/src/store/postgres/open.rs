//! Opening the database: refuse what is not ours, bring the schema up to date.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use super::query::Queries;
use super::{Address, PostgresDatabase, PostgresStore};
use crate::store::OpenError;
use crate::store::sql::Pool;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations/postgres");

impl PostgresDatabase {
    /// Opens the database and brings its schema up to date. `lease` is for how long a leader that
    /// is not heard leads on; the coordinators of one database should agree about it.
    ///
    /// # Errors
    /// When it cannot be reached, holds something else, or is of a later version.
    pub async fn open(address: Address, lease: Duration) -> Result<PostgresDatabase, OpenError> {
        let mut connection =
            writing(&address).connect().await.map_err(sql("connect to", &address))?;
        let failed = |source| OpenError::Migrate { database: address.to_string(), source };
        // Coordinators that start together wait for each other here.
        connection.lock().await.map_err(failed)?;
        inspect(&mut connection, &address).await?;
        migrate(&mut connection, &address).await?;
        connection.unlock().await.map_err(failed)?;
        let fsync: String = sqlx::query_scalar("show fsync")
            .fetch_one(&mut connection)
            .await
            .map_err(sql("read the settings of", &address))?;
        if fsync != "on" {
            tracing::warn!(
                database = %address,
                "fsync is off in this database: what it acknowledges does not survive power loss"
            );
        }
        Ok(PostgresDatabase { address, lease, campaigner: Mutex::new(Some(connection)) })
    }

    /// The database, without its password.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The store of a leader.
    pub(super) fn store(&self, generation: i64) -> PostgresStore {
        let reading =
            bounded(&self.address, "30s").options([("default_transaction_read_only", "on")]);
        let reads = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .connect_lazy_with(reading);
        PostgresStore {
            generation,
            lease: self.lease,
            writing: writing(&self.address),
            writer: Mutex::new(None),
            commits: AtomicU64::new(0),
            keeper: Mutex::new(None),
            reads: Pool::Postgres(reads),
            queries: Queries::new(&self.address),
            address: self.address.clone(),
        }
    }
}

/// A session whose statements end.
pub(super) fn bounded(address: &Address, limit: &str) -> PgConnectOptions {
    let options = address.options().options([
        ("statement_timeout", limit),
        ("lock_timeout", "10s"),
        // A session whose process is stopped or cut off gives its locks back.
        ("idle_in_transaction_session_timeout", "5s"),
        // A statement that nobody waits for any more ends.
        ("client_connection_check_interval", "1s"),
    ]);
    // Trials by their thousands: the log of statements would be larger than the results.
    options.disable_statement_logging()
}

/// A session that writes. What it commits is on disk, whatever the database's default is.
///
/// All that it does is find a few rows by their keys. In a database that is new the planner knows
/// no better than to read small tables whole, and sessions keep such plans while the tables grow.
pub(super) fn writing(address: &Address) -> PgConnectOptions {
    bounded(address, "30s").options([
        ("synchronous_commit", "on"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        // Planning a commit's statements anew takes longer than carrying them out.
        ("plan_cache_mode", "force_generic_plan"),
    ])
}

/// Refuses a database with tables of something else. Ours has the tables of the first migration,
/// or none at all; a first start that was ended between two migrations is gone on with.
async fn inspect(connection: &mut PgConnection, address: &Address) -> Result<(), OpenError> {
    let found: (i64, i64) = sqlx::query_as(
        "select
             count(*) filter (where table_name in ('coordinator', 'sweeps', 'trials', 'outcomes')),
             count(*)
         from information_schema.tables
         where table_schema = current_schema() and table_type = 'BASE TABLE'
             and table_name <> '_sqlx_migrations'",
    )
    .fetch_one(connection)
    .await
    .map_err(sql("read", address))?;
    match found {
        (4, _) | (0, 0) => Ok(()),
        _ => Err(OpenError::Foreign { database: address.to_string() }),
    }
}

async fn migrate(connection: &mut PgConnection, address: &Address) -> Result<(), OpenError> {
    let known = MIGRATOR.iter().map(|m| m.version).max().unwrap_or(0);
    match MIGRATOR.run(connection).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) if found > known => {
            Err(OpenError::Newer { database: address.to_string(), found, known })
        }
        Err(source) => Err(OpenError::Migrate { database: address.to_string(), source }),
    }
}

pub(super) fn sql<'a>(
    what: &'static str,
    address: &'a Address,
) -> impl FnOnce(sqlx::Error) -> OpenError + 'a {
    move |source| OpenError::Sql { what, database: address.to_string(), source }
}

/// Opens a connection where there is none.
pub(super) async fn connected(
    slot: &mut Option<PgConnection>,
    options: &PgConnectOptions,
) -> Result<PgConnection, sqlx::Error> {
    match slot.take() {
        Some(connection) => Ok(connection),
        None => PgConnection::connect_with(options).await,
    }
}
