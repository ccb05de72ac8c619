//! `deptune sql`.

use deptune_proto::v1::query_response::Row;

use super::connect;
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Right, Table};
use crate::output::{self, say};
use crate::query::{self, Answer};

/// Asks the result database, read-only
///
/// The views to ask are leaderboard, trial_results, learning_curves and sweep_progress;
/// docs/results.md describes their columns. The database is an SQLite file that any client may
/// open, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune sql 'select place, prompt_length, rank, mean, std from leaderboard where sweep = 1'
  deptune sql 'select * from trial_results' --csv > trials.csv")]
pub(crate) struct Args {
    /// One SELECT, WITH, VALUES or EXPLAIN statement
    #[arg(value_name = "STATEMENT")]
    statement: String,
    /// Prints CSV with a header line
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// Asks.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let Answer { columns, rows, truncated } =
        Answer::of(&client, &args.statement, args.limit).await?;
    if globals.json {
        rows.iter().try_for_each(|row| output::json_line(&query::object(&columns, row)))?;
    } else if args.csv {
        output::data(&csv(&columns, &rows))?;
    } else {
        output::data(&table(&columns, &rows))?;
    }
    if truncated {
        say(&format!("only the first {} rows are shown; --limit N shows more", args.limit));
    }
    Ok(Exit::Done)
}

/// Rows as CSV (RFC 4180, line ends as on Unix), after a header.
pub(super) fn csv(header: &[String], rows: &[Row]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing into memory does not fail, and records of any length are taken as they are.
    let _ = writer.write_record(header);
    for row in rows {
        let _ = writer.write_record(row.values.iter().map(query::text));
    }
    writer
        .into_inner()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn table(columns: &[String], rows: &[Row]) -> String {
    let side = |at: usize| {
        let number = |row: &Row| row.values.get(at).is_some_and(query::is_number);
        if rows.iter().any(number) { Right } else { Left }
    };
    let mut table =
        Table::new(columns.iter().enumerate().map(|(at, name)| (name.as_str(), side(at))));
    for row in rows {
        table.row(row.values.iter().map(query::shown));
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use deptune_proto::v1::query_response::{Value, value::Kind};

    fn row(values: Vec<Option<Kind>>) -> Row {
        Row { values: values.into_iter().map(|kind| Value { kind }).collect() }
    }

    #[test]
    fn rows_as_csv_and_table() {
        let columns = ["name".to_owned(), "mean".to_owned()];
        let rows = [
            row(vec![Some(Kind::Text("a,\"b\"".to_owned())), Some(Kind::Real(81.5))]),
            row(vec![None, Some(Kind::Integer(7))]),
        ];
        assert_eq!(csv(&columns, &rows), "name,mean\n\"a,\"\"b\"\"\",81.5\n,7\n");
        assert_eq!(table(&columns, &rows), "name   mean\na,\"b\"  81.5\n          7\n");
    }
}
