//! The leaderboard, from the view that people read too.

use deptune_sweep::id::SweepId;
use sqlx::Error;

use super::failed;
use crate::store::sql::database::{Pool, Row};
use crate::store::sql::statement::statement;
use crate::store::sql::value::int;
use crate::store::{LeaderboardRow, ReadError, page_limit};

pub(in crate::store) async fn list(
    pool: &Pool,
    sweep: SweepId,
    limit: u32,
) -> Result<Vec<LeaderboardRow>, ReadError> {
    let failed = failed("the leaderboard");
    let rows =
        statement("select * from leaderboard where sweep = $1 and place <= $2 order by place")
            .bind(int(sweep.0))
            .bind(page_limit(limit))
            .fetch_all(pool)
            .await
            .map_err(&failed)?;
    rows.iter().map(configuration).collect::<Result<_, _>>().map_err(&failed)
}

fn configuration(row: &Row) -> Result<LeaderboardRow, Error> {
    Ok(LeaderboardRow {
        place: row.unsigned("place")?,
        configuration: row.unsigned("configuration")?,
        method: row.parsed("method")?,
        prompt_length: row.small("prompt_length")?,
        rank: row.small("rank")?,
        prompt_lr: row.try_get("prompt_lr")?,
        lowrank_lr: row.try_get("lowrank_lr")?,
        learning_rate: row.try_get("learning_rate")?,
        source: row.try_get("source")?,
        other_settings: row.try_get("other_settings")?,
        seeds: row.small("seeds")?,
        mean: row.try_get("mean")?,
        std: row.try_get("std")?,
        ci_low: row.try_get("ci_low")?,
        ci_high: row.try_get("ci_high")?,
        test_mean: row.try_get("test_mean")?,
        test_std: row.try_get("test_std")?,
        constant_answer: row.try_get("constant_answer")?,
        test_constant_answer: row.try_get("test_constant_answer")?,
        trainable_parameters: row.unsigned("trainable_parameters")?,
        best_step: row.try_get("best_step")?,
        train_seconds: row.try_get("train_seconds")?,
    })
}
