//! `deptune best`, and the leaderboard that other commands end with.

use deptune_proto::v1::{GetLeaderboardRequest, GetLeaderboardResponse, LeaderboardRow};

use super::{METHOD_COLUMNS, connect};
use crate::args::Globals;
use crate::client::Client;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Right, Side, Table};
use crate::output::{self, json, number};

/// Shows the best configurations of a sweep
///
/// For each configuration: the mean over its seeds on the validation split with the standard
/// deviation and the 95 % confidence interval of the mean, the best constant answer beside it,
/// and the same checkpoints on the test split.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune best 3
  deptune best quickstart --top 5 --json")]
pub(crate) struct Args {
    /// The sweep, by id or name
    #[arg(value_name = "SWEEP")]
    sweep: String,
    /// At most this many configurations
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    top: u32,
}

/// Shows the leaderboard.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let board = fetch(&client, &args.sweep, args.top).await?;
    print(globals, &board)?;
    if board.rows.is_empty() && !globals.json {
        output::say(&format!(
            "no trial has succeeded yet; 'deptune watch {}' follows the sweep",
            args.sweep
        ));
    }
    Ok(Exit::Done)
}

/// Asks for the leaderboard.
///
/// # Errors
/// As every call.
pub(super) async fn fetch(
    client: &Client,
    sweep: &str,
    limit: u32,
) -> Result<GetLeaderboardResponse, Error> {
    let answer = client
        .call("fetch the leaderboard", || {
            let mut sweeps = client.sweeps();
            let request = GetLeaderboardRequest { sweep: sweep.to_owned(), limit };
            async move { sweeps.get_leaderboard(request).await }
        })
        .await?;
    Ok(answer.into_inner())
}

/// Writes the leaderboard to standard output.
///
/// # Errors
/// When that cannot be written.
pub(super) fn print(globals: &Globals, board: &GetLeaderboardResponse) -> Result<(), Error> {
    if globals.json {
        return board.rows.iter().try_for_each(|row| {
            output::json_line(&json::leaderboard_row(row, &board.metric_name))
        });
    }
    if board.rows.is_empty() {
        return Ok(());
    }
    output::data(&table(board))
}

fn table(board: &GetLeaderboardResponse) -> String {
    let rows = &board.rows;
    let has_other = rows.iter().any(|row| !other(row).is_empty());
    let has_test = rows.iter().any(|row| row.test_mean.is_some());
    let metric = board.metric_name.as_str();
    let test = format!("test {metric}");
    let mut columns: Vec<(&str, Side)> = vec![
        ("place", Right),
        ("prompt_length", Right),
        ("rank", Right),
        ("prompt_lr", Right),
        ("lowrank_lr", Right),
        ("learning_rate", Right),
        ("source", Left),
    ];
    if has_other {
        columns.push(("other settings", Left));
    }
    columns.extend([("seeds", Right), (metric, Right), ("95 % CI", Left), ("constant", Right)]);
    if has_test {
        columns.extend([(test.as_str(), Right), ("constant", Right)]);
    }
    columns.push(("parameters", Right));
    let mut table = Table::new(columns).leaving_out_empty(METHOD_COLUMNS);
    for row in rows {
        let mut cells = vec![
            row.place.to_string(),
            if row.prompt_lr.is_some() { row.prompt_length.to_string() } else { String::new() },
            if row.method == "full" { String::new() } else { row.rank.to_string() },
            row.prompt_lr.map(number::rate).unwrap_or_default(),
            row.lowrank_lr.map(number::rate).unwrap_or_default(),
            row.learning_rate.map(number::rate).unwrap_or_default(),
            row.source.clone().unwrap_or_default(),
        ];
        if has_other {
            cells.push(other(row));
        }
        cells.extend([
            row.seeds.to_string(),
            number::mean_std(row.mean, row.std),
            interval(row),
            number::metric(row.constant_answer),
        ]);
        if has_test {
            cells.extend([
                row.test_mean.map(|mean| number::mean_std(mean, row.test_std)).unwrap_or_default(),
                row.test_constant_answer.map(number::metric).unwrap_or_default(),
            ]);
        }
        cells.push(number::whole(row.trainable_parameters));
        table.row(cells);
    }
    table.render()
}

fn interval(row: &LeaderboardRow) -> String {
    match (row.ci_low, row.ci_high) {
        (Some(low), Some(high)) => {
            format!("{} to {}", number::metric(low), number::metric(high))
        }
        _ => String::new(),
    }
}

/// The other settings as `steps 100, dropout 0.1`.
fn other(row: &LeaderboardRow) -> String {
    let Ok(serde_json::Value::Object(settings)) = serde_json::from_str(&row.other_settings) else {
        return String::new();
    };
    let texts: Vec<String> =
        settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> LeaderboardRow {
        LeaderboardRow {
            place: 1,
            prompt_length: 20,
            rank: 60,
            prompt_lr: Some(0.3),
            lowrank_lr: Some(5e-4),
            seeds: 3,
            mean: 81.25,
            std: Some(1.1),
            ci_low: Some(78.52),
            ci_high: Some(83.98),
            test_mean: Some(80.0),
            test_std: Some(0.5),
            constant_answer: 50.0,
            test_constant_answer: Some(50.0),
            trainable_parameters: 19_200,
            ..LeaderboardRow::default()
        }
    }

    #[test]
    fn the_constant_answer_stands_beside_the_mean() {
        let board =
            GetLeaderboardResponse { rows: vec![row()], metric_name: "accuracy".to_owned() };
        assert_eq!(
            table(&board),
            "place  prompt_length  rank  prompt_lr  lowrank_lr  seeds      accuracy  95 % CI         \
             constant  test accuracy  constant  parameters\n    \
             1             20    60        0.3        5e-4      3  81.25 ± 1.10  78.52 to 83.98     \
             50.00   80.00 ± 0.50     50.00      19,200\n"
        );
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let one = LeaderboardRow {
            lowrank_lr: None,
            test_mean: None,
            other_settings: "{\"steps\":100}".to_owned(),
            ..row()
        };
        let text =
            table(&GetLeaderboardResponse { rows: vec![one], metric_name: "accuracy".to_owned() });
        assert!(!text.contains("lowrank_lr") && !text.contains("test"), "{text}");
        assert!(text.contains("steps 100"), "{text}");
    }
}
