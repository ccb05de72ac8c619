//! `deptune doctor`.

use std::path::PathBuf;

use deptune_coordinator::ADDRESS_FILE;
use deptune_coordinator::upkeep::{self, Finding, Grade, Place};
use serde_json::json;

use super::backup::failure;
use crate::args::Globals;
use crate::client::Client;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Table};
use crate::{output, paths, storage, trainer};

/// Looks whether this machine and the data directory on it are well, and says what to do
///
/// The program, the trainer, the coordinator's address, free space, the database (every page and
/// reference, or that Postgres answers), its schema, sweeps and trials that are stuck, files that are
/// missing. Nothing is
/// changed, and a coordinator may run meanwhile. The exit code is 1 if something is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune doctor
  deptune doctor --deep --data-dir ~/sweeps")]
pub(crate) struct Args {
    /// Reads every artifact and compares it with its hash
    #[arg(long)]
    deep: bool,
    /// The database [default: deptune.db in the data directory]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
}

/// Looks at everything.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let dir = paths::data_dir(globals)?;
    let database = storage::of(&dir, args.database.clone())?;
    let mut findings = vec![platform(), trainer_program(), coordinator(globals, &dir).await];
    if !matches!(&database, Place::File(file) if !file.is_file()) {
        findings.extend(upkeep::examine(&dir, &database, args.deep).await.map_err(failure)?);
    } else {
        let what = format!("there is no database in {}", dir.display());
        findings.push(Finding::notable(what, "'deptune serve' or 'deptune up' makes one"));
    }
    if globals.json {
        for one in &findings {
            output::json_line(
                &json!({"grade": one.grade, "what": one.what, "advice": one.advice}),
            )?;
        }
    } else {
        output::data(&table(&findings))?;
    }
    let wrong = findings.iter().any(|one| one.grade == Grade::Wrong);
    Ok(if wrong { Exit::FailedTrials } else { Exit::Done })
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new([("", Left), ("found", Left), ("what to do", Left)])
        .leaving_out_empty(&["what to do"]);
    for one in findings {
        let grade = match one.grade {
            Grade::Well => "ok",
            Grade::Notable => "note",
            Grade::Wrong => "WRONG",
        };
        table.row([grade, &one.what, &one.advice]);
    }
    table.render()
}

fn platform() -> Finding {
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let what = format!("deptune {} on {system} {architecture}", env!("CARGO_PKG_VERSION"));
    match (system, architecture) {
        ("linux", "x86_64") => Finding::well(what),
        _ => Finding::notable(what, "only Linux on x86-64 is tested"),
    }
}

fn trainer_program() -> Finding {
    match trainer::find(None) {
        Ok(path) => Finding::well(format!("the trainer is {}", path.display())),
        Err(error) => {
            let advice = "only workers, 'up', 'train', 'predict' and 'eval' need it; 'make' builds \
                          it";
            Finding::notable(error.to_string(), advice)
        }
    }
}

async fn coordinator(globals: &Globals, dir: &std::path::Path) -> Finding {
    let file = dir.join(ADDRESS_FILE);
    if globals.server.is_empty() && !file.is_file() {
        return Finding::well("no coordinator runs on the data directory");
    }
    let connected = match paths::target(globals) {
        Ok(target) => Client::connect(&target).await,
        Err(error) => Err(error),
    };
    let answer =
        match &connected {
            Ok(client) => client
                .call("ask the coordinator", || {
                    let mut sweeps = client.sweeps();
                    async move {
                        sweeps.get_server_info(deptune_proto::v1::GetServerInfoRequest {}).await
                    }
                })
                .await
                .map(tonic::Response::into_inner)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
    match answer {
        Ok(info) => Finding::well(format!(
            "the coordinator answers: version {}, {} workers with {} slots",
            info.version, info.workers, info.slots
        )),
        Err(what) => Finding::wrong(
            what,
            format!("start it with 'deptune serve'; if it was killed, remove {}", file.display()),
        ),
    }
}
