//! Rows of the result database.

use deptune_proto::v1::QueryRequest;
use deptune_proto::v1::query_response::value::Kind;
use deptune_proto::v1::query_response::{Row, Value as Cell};
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::output::error::Error;
use crate::output::json::real;
use crate::output::number;

/// The answer to a statement.
pub(crate) struct Answer {
    /// Names of the columns.
    pub(crate) columns: Vec<String>,
    /// The rows: the coordinator bounds how much that is.
    pub(crate) rows: Vec<Row>,
    /// Whether rows were left out.
    pub(crate) truncated: bool,
}

/// What is being done, for errors.
const DOING: &str = "run the query";

impl Answer {
    /// Sends a statement, and reads all of its answer before anything is printed: whoever looks at
    /// that in a pager may take longer than the coordinator waits.
    ///
    /// # Errors
    /// A refusal, e.g. of a statement that writes; a failure of the connection.
    pub(crate) async fn of(client: &Client, sql: &str, limit: u32) -> Result<Answer, Error> {
        let mut stream = client
            .call(DOING, || {
                let mut sweeps = client.sweeps();
                let request = QueryRequest { sql: sql.to_owned(), limit };
                async move { sweeps.query(request).await }
            })
            .await?
            .into_inner();
        let mut answer = Answer { columns: Vec::new(), rows: Vec::new(), truncated: false };
        let refused = |status| client.refused(DOING, status);
        while let Some(message) = stream.message().await.map_err(refused)? {
            // They come once, with the first rows.
            if answer.columns.is_empty() {
                answer.columns = message.columns;
            }
            answer.rows.extend(message.rows);
            answer.truncated |= message.truncated;
        }
        Ok(answer)
    }
}

/// A cell in full: empty for null, hexadecimal for bytes.
pub(crate) fn text(cell: &Cell) -> String {
    match &cell.kind {
        None => String::new(),
        Some(Kind::Integer(number)) => number.to_string(),
        Some(Kind::Real(number)) => number.to_string(),
        Some(Kind::Text(text)) => text.clone(),
        Some(Kind::Blob(bytes)) => hex(bytes),
    }
}

/// A cell in a table: as [`text`], reals with six digits.
pub(crate) fn shown(cell: &Cell) -> String {
    match cell.kind {
        Some(Kind::Real(value)) => number::real(value),
        _ => text(cell),
    }
}

/// Whether a cell holds a number.
pub(crate) fn is_number(cell: &Cell) -> bool {
    matches!(cell.kind, Some(Kind::Integer(_) | Kind::Real(_)))
}

/// A row as a JSON object.
pub(crate) fn object(columns: &[String], row: &Row) -> Value {
    let pairs = columns.iter().zip(&row.values).map(|(name, cell)| (name.clone(), value(cell)));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

fn value(cell: &Cell) -> Value {
    match &cell.kind {
        None => Value::Null,
        Some(Kind::Integer(number)) => json!(number),
        Some(Kind::Real(number)) => real(*number),
        Some(Kind::Text(text)) => json!(text),
        Some(Kind::Blob(bytes)) => json!(hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
