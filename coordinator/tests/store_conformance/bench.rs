//! A store to be tested, and another coordinator that takes it over.

use std::path::PathBuf;
use std::sync::Arc;

use deptune_coordinator::store::{Identity, MemoryDatabase, MemoryStore, SqliteStore, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

pub(crate) enum Bench {
    Memory(MemoryDatabase),
    Sqlite(TempDir),
}

impl Bench {
    pub(crate) fn memory() -> Bench {
        Bench::Memory(MemoryDatabase::default())
    }

    pub(crate) fn sqlite() -> Bench {
        Bench::Sqlite(tempfile::tempdir().unwrap())
    }

    /// The database's file.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Bench::Memory(_) => panic!("no file"),
            Bench::Sqlite(directory) => directory.path().join("deptune.db"),
        }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        match self {
            Bench::Memory(database) => Arc::new(MemoryStore::open(database)),
            Bench::Sqlite(_) => {
                Arc::new(SqliteStore::open(&self.path(), &identity()).await.unwrap())
            }
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
