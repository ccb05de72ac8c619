//! The coordinator process of a benchmark: serves until its standard input ends, and tells how
//! many SQL statements it has run.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deptune_coordinator::store::Address;
use deptune_coordinator::{Options, Storage};
use serde::{Deserialize, Serialize};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::{Store, broken, floor};
use crate::local::Coordinator;
use crate::output::error::Error;

/// The first line on standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Serving {
    /// `host:port`.
    pub(crate) address: String,
    /// The token's file.
    pub(crate) token_file: PathBuf,
}

/// Counts the statements that the database library reports.
struct Statements(Arc<AtomicU64>);

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, _event: &tracing::Event<'_>, _context: Context<'_, S>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves on a free port. With `counting`, each line on standard input is answered with the number
/// of statements so far; that costs a little for each of them.
///
/// # Errors
/// When the coordinator cannot run.
pub(crate) async fn run(data_dir: PathBuf, store: Store, counting: bool) -> Result<(), Error> {
    let statements = Arc::new(AtomicU64::new(0));
    if counting {
        let only_sql = Targets::new().with_target("sqlx::query", tracing::Level::DEBUG);
        let layer = Statements(statements.clone()).with_filter(only_sql);
        tracing_subscriber::registry().with(layer).init();
    }
    let mut options = Options::new(([127, 0, 0, 1], 0).into(), data_dir);
    match store {
        Store::Sqlite => {}
        Store::Memory => options.storage = Storage::Memory,
        Store::Postgres => {
            let address = floor::postgres_url()?.parse::<Address>();
            options.storage = Storage::Postgres(address.map_err(broken("the database's address"))?);
        }
    }
    let mut coordinator = Coordinator::start(options).await?;
    let serving = Serving {
        address: coordinator.address.clone(),
        token_file: coordinator.token_file.clone(),
    };
    say(&serde_json::to_string(&serving).map_err(broken("the address"))?)?;
    let answering = move || -> Result<(), Error> {
        // A driver that died closes it, too.
        for _line in std::io::stdin().lock().lines().map_while(Result::ok) {
            say(&statements.load(Ordering::Relaxed).to_string())?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(answering).await.map_err(broken("standard input"))??;
    coordinator.shut_down();
    coordinator.ended().await
}

fn say(line: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|source| Error::Stdout { source })
}
