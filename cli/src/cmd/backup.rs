//! `deptune backup`.

use std::path::PathBuf;

use deptune_coordinator::upkeep::{self, Place};

use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::number;
use crate::{output, paths, storage};

/// Backs up the database and the files of the data directory on this machine
///
/// The coordinator may run meanwhile: the copy is the database as of one moment, with every file
/// that it names. The same directory again takes only what is new. The token is not part of it.
/// Results in Postgres are not copied.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune backup /mnt/backup/sweeps
  deptune restore /mnt/backup/sweeps --data-dir ~/sweeps")]
pub(crate) struct Args {
    /// Where the backup goes; made if it is not there
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// The database [default: deptune.db in the data directory]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
}

/// Makes a backup.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let dir = paths::data_dir(globals)?;
    let database = match storage::of(&dir, args.database.clone())? {
        Place::File(file) => file,
        Place::Postgres(address) => {
            return Err(Error::Usage {
                what: format!("the results are in {address}, which 'deptune backup' does not copy"),
                hint:
                    "copy the directories 'artifacts' and 'logs' of the data directory, then the \
                       database with pg_dump, then the directories again (docs/postgres.md); \
                       --database FILE backs up a file"
                        .to_owned(),
            });
        }
    };
    let made = upkeep::backup(&dir, &database, &args.to).await.map_err(failure)?;
    for path in &made.damaged {
        output::say(&format!(
            "left out {}: its content has another hash, and nothing needs it",
            path.display()
        ));
    }
    if globals.json {
        output::json_line(
            &serde_json::to_value(&made).map_err(crate::bench::broken("the result"))?,
        )?;
    } else {
        output::say(&format!(
            "backed up {} sweeps, {} outcomes and {} artifacts to {} ({} files copied, {})",
            number::whole(made.manifest.sweeps),
            number::whole(made.manifest.outcomes),
            number::whole(made.manifest.artifacts),
            args.to.display(),
            number::whole(made.copied_files),
            number::bytes(made.copied_bytes)
        ));
    }
    Ok(Exit::Done)
}

/// What went wrong, with the next step.
pub(super) fn failure(error: upkeep::Error) -> Error {
    use upkeep::Error as E;
    let hint = match &error {
        E::NoDatabase { .. } => {
            "name the data directory with --data-dir, or the database with \
                                 --database"
        }
        E::Corrupt { .. } | E::Database { .. } => {
            "'deptune doctor' looks closer; keep earlier backups"
        }
        E::Damaged { .. } | E::Missing { .. } => {
            "'deptune doctor --deep' lists all such files; another backup may have them"
        }
        E::NoBackup { .. } | E::Manifest { .. } | E::Changed { .. } => {
            "make it anew with 'deptune backup', or use an earlier one"
        }
        E::Occupied { .. } => "name another directory with --data-dir",
        E::Io { .. } | E::Died(_) => "check that the directory is yours to write to, and the space",
    };
    Error::Upkeep { hint: hint.to_owned(), source: Box::new(error) }
}
