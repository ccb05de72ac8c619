//! `deptune restore`.

use std::path::PathBuf;

use deptune_coordinator::{DATABASE_FILE, upkeep};

use super::backup::failure;
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::number;
use crate::{output, paths, storage};

/// Restores a backup into a data directory without a database
///
/// Every file is checked on the way. A coordinator started there goes on where the backup was
/// made: outcomes recorded after that are lost, and their trials run again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune restore /mnt/backup/sweeps --data-dir ~/sweeps")]
pub(crate) struct Args {
    /// The backup
    #[arg(value_name = "DIR")]
    from: PathBuf,
}

/// Restores a backup.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let dir = paths::data_dir(globals)?;
    let manifest = upkeep::restore(&args.from, &dir).await.map_err(failure)?;
    if globals.json {
        let value = serde_json::to_value(&manifest);
        output::json_line(&value.map_err(crate::bench::broken("the result"))?)?;
    } else {
        // With the variable set, 'serve' alone would not look at the file.
        let file = dir.join(DATABASE_FILE);
        let serve = match storage::is_postgres() {
            true => format!("deptune serve --database {}", file.display()),
            false => "deptune serve".to_owned(),
        };
        output::say(&format!(
            "restored {} sweeps and {} outcomes of {} to {}; '{serve}' goes on there",
            number::whole(manifest.sweeps),
            number::whole(manifest.outcomes),
            manifest.made,
            dir.display()
        ));
    }
    Ok(Exit::Done)
}
