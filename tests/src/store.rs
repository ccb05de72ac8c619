//! The database that a test's coordinators keep their results in.

use crate::database::Database;
use crate::postgres::{Postgres, PostgresDatabase};
use crate::world::World;

/// A store under test.
#[derive(Debug)]
pub enum Store {
    /// The file in the world's data directory.
    Sqlite,
    /// A database of the shared server.
    Postgres(PostgresDatabase<'static>),
}

impl Store {
    /// A new database in Postgres; `None`, said loudly, where there is none.
    #[must_use]
    pub fn postgres() -> Option<Store> {
        Some(Store::Postgres(Postgres::shared()?.database()))
    }

    /// A world whose coordinators use it.
    #[must_use]
    pub fn world(&self) -> World {
        match self {
            Store::Sqlite => World::new(),
            Store::Postgres(database) => World::new().with_variable("DATABASE_URL", &database.url),
        }
    }

    /// The one number that a statement gives, which both databases must understand.
    #[track_caller]
    pub fn number(&self, world: &World, sql: &str) -> i64 {
        match self {
            Store::Sqlite => Database::open(&world.data_dir().join("deptune.db")).number(sql),
            Store::Postgres(database) => {
                database.psql(sql).parse().unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
        }
    }

    /// Metrics of a sweep's successes, in millionths, with the index of their trial.
    #[track_caller]
    pub fn metrics(&self, world: &World, sweep: i64) -> Vec<(i64, i64)> {
        let sql = format!(
            "select trial_index, cast(round(metric * 1000000) as bigint)
             from outcomes where sweep = {sweep} and metric is not null order by trial_index"
        );
        let rows: Vec<Vec<String>> = match self {
            Store::Sqlite => Database::open(&world.data_dir().join("deptune.db")).rows(&sql),
            Store::Postgres(database) => {
                let rows = database.psql(&sql);
                rows.lines().map(|row| row.split('|').map(str::to_owned).collect()).collect()
            }
        };
        rows.iter().map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap())).collect()
    }
}

/// Fails the test unless every one of `trials` trials succeeded once, none was tried again after
/// its end, and the tables agree with each other. `number` gives the number of a statement.
#[track_caller]
pub fn assert_whole(mut number: impl FnMut(&str) -> i64, trials: i64) {
    let all = "select count(*) from outcomes where outcome = 'succeeded'";
    let other = "select count(*) from outcomes where outcome <> 'succeeded'";
    assert_eq!((number(all), number(other)), (trials, 0), "succeeded, and not");
    for (what, sql) in [
        (
            "trials disagree with their outcomes",
            "select count(*) from trials t
             left join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
             where t.phase <> 'ended' or coalesce(t.outcome, '') <> coalesce(o.outcome, '')
                 or t.epoch <> o.epoch",
        ),
        (
            "finished trials were tried again",
            "select count(*) from attempts a
             join outcomes o on o.sweep = a.sweep and o.trial_index = a.trial_index
             where a.epoch > o.epoch or a.started > o.at",
        ),
        (
            "trials succeeded twice",
            "select count(*) from (
                 select 1 as one from attempts where ending = 'succeeded'
                 group by sweep, trial_index having count(*) > 1
             ) as twice",
        ),
        ("attempts have no end", "select count(*) from attempts where ending is null"),
    ] {
        assert_eq!(number(sql), 0, "{what}");
    }
}
