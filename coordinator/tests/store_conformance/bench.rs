//! A store to be tested, and another coordinator that takes it over.

use std::path::PathBuf;
use std::sync::Arc;

use std::time::Duration;

use deptune_coordinator::store::{
    Address, Campaign, Identity, MemoryDatabase, MemoryStore, PostgresDatabase, PostgresStore,
    SqliteStore, Store,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::postgres;

pub(crate) enum Bench {
    Memory(MemoryDatabase),
    Sqlite(TempDir),
    Postgres(postgres::PostgresDatabase<'static>),
}

impl Bench {
    pub(crate) fn memory() -> Bench {
        Bench::Memory(MemoryDatabase::default())
    }

    pub(crate) fn sqlite() -> Bench {
        Bench::Sqlite(tempfile::tempdir().unwrap())
    }

    /// `None`, said loudly, where there is no Postgres.
    pub(crate) fn postgres() -> Option<Bench> {
        Some(Bench::Postgres(postgres::Postgres::shared()?.database()))
    }

    /// The database's file.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Bench::Memory(_) | Bench::Postgres(_) => panic!("no file"),
            Bench::Sqlite(directory) => directory.path().join("deptune.db"),
        }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        match self {
            Bench::Memory(database) => Arc::new(MemoryStore::open(database)),
            Bench::Sqlite(_) => {
                Arc::new(SqliteStore::open(&self.path(), &identity()).await.unwrap())
            }
            Bench::Postgres(database) => Arc::new(lead(database).await),
        }
    }

    /// Another coordinator takes the store over. For a file the lock prevents that, except where
    /// locks do not hold: then only the generation stands in the way.
    pub(crate) async fn take_over(&self) {
        match self {
            Bench::Memory(database) => drop(MemoryStore::open(database)),
            Bench::Sqlite(_) => {
                let options = SqliteConnectOptions::new().filename(self.path());
                let mut connection = options.connect().await.unwrap();
                sqlx::query("update coordinator set generation = generation + 1")
                    .execute(&mut connection)
                    .await
                    .unwrap();
                connection.close().await.unwrap();
            }
            Bench::Postgres(database) => drop(lead(database).await),
        }
    }
}

/// Opens the database with a lease that is over at once, so that whoever comes next takes over.
pub(crate) async fn lead(database: &postgres::PostgresDatabase<'_>) -> PostgresStore {
    let address: Address = database.url.parse().unwrap();
    let opened = PostgresDatabase::open(address, Duration::ZERO).await.unwrap();
    loop {
        if let Campaign::Won(store) = opened.campaign(&identity()).await.unwrap() {
            return *store;
        }
    }
}

pub(crate) fn identity() -> Identity {
    Identity {
        pid: std::process::id(),
        host: "node-a".to_owned(),
        address: "http://127.0.0.1:7311".to_owned(),
    }
}
