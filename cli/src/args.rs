//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cmd;
use crate::output::Color;

const AFTER_HELP: &str = "\
Try it here, with one command:
  deptune up examples/quickstart/sweep.toml

Exit codes: 0 done, 1 the sweep ended with failed trials, 2 wrong usage, spec or file,
3 coordinator unreachable or it refused, 4 internal error, 130 stopped by Ctrl-C.";

/// Hyperparameter sweeps for Decomposed Prompt Tuning (DePT), on a laptop or a cluster.
#[derive(Debug, Parser)]
#[command(name = "deptune", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Address of the coordinator; several are tried in turn [default: the one that runs on the
    /// data directory]
    #[arg(
        long,
        global = true,
        env = "DEPTUNE_SERVER",
        hide_env_values = true,
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub(crate) server: Vec<String>,
    /// File with the coordinator's token [default: the one in the data directory]
    #[arg(
        long,
        global = true,
        env = "DEPTUNE_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Directory of the database, the token and the logs [default: ~/.local/share/deptune]
    #[arg(long, global = true, env = "DEPTUNE_HOME", hide_env_values = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Prints data as JSON, one document per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours: auto, always or never; NO_COLOR is honoured
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) color: Color,
    /// Says more about what happens; twice for even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands; each one's help stands at its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(cmd::up::Args),
    Serve(cmd::serve::Args),
    Worker(cmd::worker::Args),
    Check(cmd::check::Args),
    Plan(cmd::plan::Args),
    Submit(cmd::submit::Args),
    Watch(cmd::watch::Args),
    List(cmd::list::Args),
    Show(cmd::show::Args),
    Best(cmd::best::Args),
    Curves(cmd::curves::Args),
    Logs(cmd::logs::Args),
    Explain(cmd::explain::Args),
    Workers(cmd::workers::Args),
    Drain(cmd::drain::Args),
    Pause(cmd::pause::Args),
    Resume(cmd::resume::Args),
    Change(cmd::change::Args),
    Retry(cmd::retry::Args),
    Cancel(cmd::cancel::Args),
    Delete(cmd::delete::Args),
    Sql(cmd::sql::Args),
    Export(cmd::export::Args),
    #[command(subcommand)]
    Adapter(cmd::adapter::Command),
    Predictions(cmd::predictions::Args),
    Train(cmd::train::Args),
    Predict(cmd::predict::Args),
    Eval(cmd::eval::Args),
    Backup(cmd::backup::Args),
    Restore(cmd::restore::Args),
    Doctor(cmd::doctor::Args),
    #[command(subcommand)]
    Bench(cmd::bench::Command),
}
