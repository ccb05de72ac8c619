//! The floor: what the same database does for one connection that claims and finishes trials with
//! two durable commits each, and nothing else around it.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use crate::output::error::Error;

use super::broken;

/// How long the floor is measured.
const TIME: Duration = Duration::from_secs(3);

/// Rows to claim; nobody gets through them in time.
const ROWS: i64 = 200_000;

const TASK: &str = "the floor's database";

/// Trials per second in SQLite in write-ahead mode with `synchronous = full`, in a new file in
/// `directory`, which is removed afterwards.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn sqlite(directory: &Path) -> Result<f64, Error> {
    let folder = directory.join("floor");
    std::fs::create_dir(&folder).map_err(broken(TASK))?;
    let mut connection = SqliteConnectOptions::new()
        .filename(folder.join("floor.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .map_err(broken(TASK))?;
    let measured = claim_and_finish(&mut connection).await.map_err(broken(TASK));
    connection.close().await.map_err(broken(TASK))?;
    std::fs::remove_dir_all(&folder).map_err(broken(TASK))?;
    measured
}

/// The same in the Postgres database that `DATABASE_URL` names, in a table that is dropped
/// afterwards.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn postgres() -> Result<f64, Error> {
    let url = postgres_url()?;
    let mut connection = PgConnection::connect(&url).await.map_err(broken(TASK))?;
    let measured = postgres_trials(&mut connection).await.map_err(broken(TASK));
    sqlx::query("drop table if exists deptune_bench_floor")
        .execute(&mut connection)
        .await
        .map_err(broken(TASK))?;
    connection.close().await.map_err(broken(TASK))?;
    measured
}

/// The variable with the address of a Postgres database.
const DATABASE_URL: &str = "DATABASE_URL";

/// Its value.
///
/// # Errors
/// When it is not set.
pub(crate) fn postgres_url() -> Result<String, Error> {
    std::env::var(DATABASE_URL).map_err(|_| Error::Usage {
        what: format!("{DATABASE_URL} is not set"),
        hint: "set it to postgres://USER@HOST:PORT/NAME, a database that the benchmark may fill"
            .to_owned(),
    })
}

async fn postgres_trials(connection: &mut PgConnection) -> Result<f64, sqlx::Error> {
    for statement in [
        "drop table if exists deptune_bench_floor",
        "create table deptune_bench_floor (
             id bigint primary key, state text not null, value double precision
         )",
        "create index on deptune_bench_floor (id) where state = 'pending'",
        "insert into deptune_bench_floor (id, state)
         select id, 'pending' from generate_series(1, 200000) as id",
        "analyze deptune_bench_floor",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    let start = Instant::now();
    let mut trials = 0_u32;
    while start.elapsed() < TIME {
        let id: i64 = sqlx::query_scalar(
            "update deptune_bench_floor set state = 'running'
             where id = (
                 select id from deptune_bench_floor where state = 'pending' order by id limit 1
             )
             returning id",
        )
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query("update deptune_bench_floor set state = 'done', value = $2 where id = $1")
            .bind(id)
            .bind(0.5)
            .execute(&mut *connection)
            .await?;
        trials += 1;
    }
    Ok(f64::from(trials) / start.elapsed().as_secs_f64())
}

async fn claim_and_finish(connection: &mut SqliteConnection) -> Result<f64, sqlx::Error> {
    sqlx::query("create table trial (id integer primary key, state text not null, value real)")
        .execute(&mut *connection)
        .await?;
    sqlx::query("create index waiting on trial (id) where state = 'pending'")
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "with recursive n (id) as (select 1 union all select id + 1 from n where id < $1)
         insert into trial (id, state) select id, 'pending' from n",
    )
    .bind(ROWS)
    .execute(&mut *connection)
    .await?;
    let start = Instant::now();
    let mut trials = 0_u32;
    while start.elapsed() < TIME {
        // Each statement is a transaction of its own.
        let id: i64 = sqlx::query_scalar(
            "update trial set state = 'running'
             where id = (select id from trial where state = 'pending' order by id limit 1)
             returning id",
        )
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query("update trial set state = 'done', value = $2 where id = $1")
            .bind(id)
            .bind(0.5)
            .execute(&mut *connection)
            .await?;
        trials += 1;
    }
    Ok(f64::from(trials) / start.elapsed().as_secs_f64())
}
