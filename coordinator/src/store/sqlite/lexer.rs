//! Just enough of SQL's grammar to tell one reading statement from anything else.
//!
//! The connection that runs it cannot write either; this is so that people get a clear answer, and
//! so that statements which no read needs (`attach`, `pragma`) never reach the database.

use crate::store::QueryError;

/// First words of statements that read.
const READS: [&str; 4] = ["select", "with", "values", "explain"];

/// Checks that `sql` is one reading statement without parameters.
pub(super) fn check(sql: &str) -> Result<(), QueryError> {
    let mut rest = sql;
    let mut first = true;
    let mut ended = false;
    loop {
        let (token, after) = token(rest)?;
        match token {
            Token::End => break,
            Token::Gap => {}
            Token::Semicolon => ended = true,
            _ if ended && !first => return Err(QueryError::SecondStatement),
            Token::Parameter => return Err(QueryError::Parameter),
            Token::Word(word) if first => {
                if !READS.iter().any(|read| read.eq_ignore_ascii_case(word)) {
                    return Err(not_a_read(word));
                }
                first = false;
            }
            Token::Other(text) if first => return Err(not_a_read(text)),
            Token::Word(_) | Token::Other(_) => {}
        }
        if first {
            // Semicolons before the statement end nothing.
            ended = false;
        }
        rest = after;
    }
    if first { Err(QueryError::Empty) } else { Ok(()) }
}

fn not_a_read(found: &str) -> QueryError {
    QueryError::NotARead { found: found.chars().take(32).collect() }
}

enum Token<'a> {
    /// White space or a comment.
    Gap,
    Semicolon,
    /// A keyword, a name or a number.
    Word(&'a str),
    /// A string, a quoted name or an operator.
    Other(&'a str),
    /// `?`, `?1`, `:name`, `@name` or `$name`.
    Parameter,
    End,
}

/// The first token and what follows it.
fn token(sql: &str) -> Result<(Token<'_>, &str), QueryError> {
    let Some(start) = sql.chars().next() else { return Ok((Token::End, sql)) };
    let ended_by = |opening: usize, closing: &str, what| {
        sql.get(opening..)
            .and_then(|inside| inside.find(closing))
            .map(|at| sql.split_at(opening + at + closing.len()))
            .ok_or(QueryError::Unterminated { what })
    };
    let while_true =
        |accept: fn(char) -> bool| sql.split_at(sql.find(|c| !accept(c)).unwrap_or(sql.len()));
    let found = match start {
        '\0' => return Err(not_a_read("a character with the code 0")),
        c if c.is_ascii_whitespace() => (Token::Gap, while_true(|c| c.is_ascii_whitespace()).1),
        '-' if sql.starts_with("--") => {
            (Token::Gap, sql.split_at(sql.find('\n').unwrap_or(sql.len())).1)
        }
        '/' if sql.starts_with("/*") => (Token::Gap, ended_by(2, "*/", "a comment")?.1),
        ';' => (Token::Semicolon, &sql[1..]),
        // A doubled quote within a string reads as two strings: the same for our purpose.
        '\'' => other(ended_by(1, "'", "a string")?),
        '"' => other(ended_by(1, "\"", "a quoted name")?),
        '`' => other(ended_by(1, "`", "a quoted name")?),
        '[' => other(ended_by(1, "]", "a quoted name")?),
        '?' | ':' | '@' | '$' => (Token::Parameter, &sql[1..]),
        c if is_word(c) => {
            let (word, rest) = while_true(is_word);
            (Token::Word(word), rest)
        }
        c => other(sql.split_at(c.len_utf8())),
    };
    Ok(found)
}

fn other<'a>((text, rest): (&'a str, &'a str)) -> (Token<'a>, &'a str) {
    (Token::Other(text), rest)
}

/// As in SQLite: letters, digits, `_`, `$` within a word, and everything beyond ASCII.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_statement_passes() {
        for sql in [
            "select 1",
            "  -- comment; with a semicolon\n /* and ; another */ SELECT ';' || \"a;b\" ; ; -- end",
            "with x as (select 1) select * from x",
            "values (1), (2)",
            "explain query plan select 1",
            ";select 'it''s; fine', [a;b], `c;d`",
            "select a$b from t",
            "select '?', ':x'",
            "select 'ü' as größe",
        ] {
            assert!(check(sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let not_reads =
            ["delete from trials", "pragma user_version", "attach 'x' as y", "(select 1)"];
        for sql in not_reads {
            assert!(matches!(check(sql), Err(QueryError::NotARead { .. })), "{sql}");
        }
        for sql in ["", "  ", "-- nothing", ";;"] {
            assert!(matches!(check(sql), Err(QueryError::Empty)), "{sql}");
        }
        for sql in ["select 1; drop table trials", "select 1;/* x */select 2"] {
            assert!(matches!(check(sql), Err(QueryError::SecondStatement)), "{sql}");
        }
        for sql in ["select '", "select \"a", "select /* 1", "select [x"] {
            assert!(matches!(check(sql), Err(QueryError::Unterminated { .. })), "{sql}");
        }
        for sql in ["select ?", "select ?1", "select $0", "select :a", "select @b"] {
            assert!(matches!(check(sql), Err(QueryError::Parameter)), "{sql}");
        }
        assert!(check("select 1 \0").is_err());
    }
}
